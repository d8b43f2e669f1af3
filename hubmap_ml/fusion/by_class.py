"""Members fused with weights of their own for each class: a member may speak of one class and not of another."""

from collections.abc import Mapping, Sequence

import numpy as np

from hubmap_ml.fusion.methods import FusionOptions, fuse
from hubmap_ml.fusion.suppression import score_order
from hubmap_ml.instances import PredictionSet
from hubmap_ml.spec import InputError


def fuse_weighted(
    members: Sequence[PredictionSet],
    weights: Sequence[float],
    options: FusionOptions | None = None,
    *,
    names: Sequence[str] | None = None,
) -> PredictionSet:
    """Fuse the members whose weight is not 0; equal weights are none.

    Args:
        members, options: as for ``fuse``.
        weights: one for each member, at least one of them above 0.
        names: of all members.

    Raises:
        InputError: what ``fuse`` refuses.
    """
    chosen = [k for k, weight in enumerate(weights) if weight > 0]
    own = [weights[k] for k in chosen]
    return fuse(
        [members[k] for k in chosen],
        options,
        weights=None if len(set(own)) == 1 else own,
        names=None if names is None else [names[k] for k in chosen],
    )


def fuse_by_class(
    members: Sequence[PredictionSet],
    weights: Mapping[str, Sequence[float]],
    options: FusionOptions | None = None,
    *,
    names: Sequence[str] | None = None,
) -> PredictionSet:
    """Fuse each class by its own weights.

    Args:
        members: sets over the same images.
        weights: for every class by name one number a member, 0 for one that does not speak of it.
        options, names: as for ``fuse``.

    Returns:
        A set over the first member's images, instances by descending score; without clusters.

    Raises:
        InputError: a class without weights, and what ``fuse`` refuses.
    """
    parts = []
    for label, category in enumerate(members[0].categories):
        if category.name not in weights:
            raise InputError(f"fusion by class: no weights for {category.name!r}")
        own = [member.take(np.flatnonzero(member.labels == label)) for member in members]
        parts.append(fuse_weighted(own, weights[category.name], options, names=names))
    together = PredictionSet.stack_sources(parts, [category.name for category in members[0].categories])
    order = score_order(together.scores, together.offsets)
    return together.take(order).replace(
        source=np.zeros(len(together), np.int16), sources=parts[0].sources, properties=parts[0].properties
    )
