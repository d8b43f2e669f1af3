"""What the nodes above the leaves do, by the very functions that tuning and ensembling use.

Torch-free: leaves come in as `PredictionSet`, wherever they were computed.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion import agreement, fuse, fuse_by_class, merge_sources
from hubmap_ml.instances import PredictionSet
from hubmap_ml.postprocess import apply_steps
from hubmap_ml.predictor.nodes import Fusion, Leaf, Merge, Network, Node, Scores, Steps, Stored, members_of
from hubmap_ml.spec import InputError


def combine(node: Node, leaf: Callable[[Leaf], PredictionSet]) -> PredictionSet:
    """Work out a node: its leaves by ``leaf``, everything above them here.

    Args:
        node: the tree, or a part of it.
        leaf: gives the predictions of a leaf; all leaves speak of the same images, in the same order, with
            the same categories, and a leaf below a "views" node has its views as ``sources``.

    Returns:
        The node's predictions for those images.

    Raises:
        InputError: predictions that do not fit together, or steps that do not fit them.
    """
    if isinstance(node, Network | Stored):
        found = leaf(node)
        if len(found.sources) > 1:
            raise InputError(
                f"leaf {node.path!r} holds {len(found.sources)} views ({', '.join(found.sources)}): "
                "put a node of kind 'views' above it"
            )
        return found
    if isinstance(node, Steps):
        return apply_steps(combine(node.child, leaf), node.steps)
    if isinstance(node, Scores):
        return node.score_map.apply(combine(node.child, leaf))
    if isinstance(node, Merge) and node.over == "views":
        views = leaf(node.leaf)
        return merge_sources(
            views, n_sources=len(views.sources), iou_threshold=node.iou_threshold, rule=node.rule
        )
    children = [combine(child, leaf) for child in node.children]
    names = [child.name or f"{row}" for row, child in enumerate(node.children)]
    if isinstance(node, Fusion) and node.class_weights is not None:
        return fuse_by_class(children, dict(node.class_weights), node.options, names=names)
    if isinstance(node, Fusion):
        return fuse(children, node.options, weights=node.weights, names=names)
    together = PredictionSet.stack_sources(children, names)
    return merge_sources(together, n_sources=len(children), iou_threshold=node.iou_threshold, rule=node.rule)


def combine_agreed(
    node: Node, leaf: Callable[[Leaf], PredictionSet]
) -> tuple[PredictionSet, NDArray[np.int64]]:
    """As ``combine``, and say how many members of an ensemble agreed on each instance.

    Args:
        node: a tree; ``members_of`` says who its members are.
        leaf: as for ``combine``; asked twice for each leaf.

    Returns:
        The predictions, and int64 (N,); 1 each where there is one member.

    Raises:
        InputError: as ``combine``, or a fusion by class, which keeps no clusters.
    """
    found = combine(node, leaf)
    members = members_of(node)
    if len(members) == 1:
        return found, np.ones(len(found), np.int64)
    if found.cluster_offsets is None:
        raise InputError(
            "this ensemble fuses each class by weights of its own and does not say how many members agreed"
        )
    return found, agreement(found, [combine(member, leaf) for member in members])
