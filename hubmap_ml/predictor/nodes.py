"""The predictor as data: a tree of nodes, and their JSON.

Leaves give candidates for an image: one trained network, or stored predictions. Above a leaf its views are
merged, above those the folds; then a member's own steps, the fusion of members, and the final steps. Reading a
tree, with what is allowed in it, is in `parsing`; what nodes do is in `combine`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hubmap_ml.fusion import FusionOptions, MergeRule, ScoreMap, options_to_data
from hubmap_ml.postprocess import Step, steps_to_data


@dataclass(frozen=True)
class Network:
    """One trained network and how it looks at an image.

    Attributes:
        path: its checkpoint folder inside the predictor folder.
        views: by name, see ``inference.views``; the instances' source is the view's index.
        scales: (longest, shortest) sides in pixels that the image is resized to, or one number for both; None
            is the checkpoint's own.
        score: candidates below are not proposed.
        dedupe_iou: of candidates of a view and label that overlap more than this only the best stays; None
            keeps all.
        max_per_image: candidates an image and view, at most; None keeps all.
        batch: views of an image that pass through the network at once; changes memory and time only.
        in_network: views and scales are merged inside the network: there is one source.
        name: for people.
    """

    path: str
    views: tuple[str, ...] = ("none",)
    scales: tuple[int | tuple[int, int], ...] | None = None
    score: float = 0.001
    dedupe_iou: float | None = 0.9
    max_per_image: int | None = 1000
    batch: int = 1
    in_network: bool = False
    name: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """What its instances' ``source`` counts through: each scale through each view."""
        return names_of_views(self.views, self.scales, in_network=self.in_network)


def names_of_views(
    views: Sequence[str], scales: Sequence[int | tuple[int, int]] | None, *, in_network: bool = False
) -> tuple[str, ...]:
    """Return what the ``source`` of a network's instances counts through: each scale through each view."""
    if in_network:
        return ("in_network",)
    if scales is None:
        return tuple(views)
    return tuple(f"{view}@{_side(scale)}" for scale in scales for view in views)


@dataclass(frozen=True)
class Stored:
    """Predictions computed before, found by image id; images that are not among them cannot be predicted.

    Attributes:
        path: a folder of images.parquet and instances.parquet inside the predictor folder.
        name: for people.
    """

    path: str
    name: str = ""


@dataclass(frozen=True)
class Merge:
    """Views of one network, or folds of one member, merged by a rule that keeps the score scale.

    Attributes:
        over: ``"views"`` (one child, a leaf, whose sources are the views) or ``"folds"`` (a child each).
        children: what is merged.
        iou_threshold: in (0, 1); instances of two sources whose boxes overlap by more are one.
        rule: of ``hubmap_ml.fusion.MERGE_RULES``.
        name: for people.
    """

    over: Literal["views", "folds"]
    children: tuple["Node", ...]
    iou_threshold: float
    rule: MergeRule = "match_mean"
    name: str = ""

    @property
    def leaf(self) -> "Leaf":
        """The one leaf below a "views" node."""
        (child,) = self.children
        if not isinstance(child, Network | Stored):
            raise ValueError(f"views are merged directly above a leaf, not above {type(child).__name__}")
        return child


@dataclass(frozen=True)
class Steps:
    """Ordered post-processing steps over a child."""

    child: "Node"
    steps: tuple[Step, ...]
    name: str = ""


@dataclass(frozen=True)
class Scores:
    """A member's scores brought to a scale that it shares with others.

    Attributes:
        child: the member.
        score_map: what its scores go through.
        name: for people.
    """

    child: "Node"
    score_map: ScoreMap
    name: str = ""


@dataclass(frozen=True)
class Fusion:
    """Members fused into one set of instances.

    Attributes:
        children: a member each.
        options: the method and its values.
        weights: one a child; None is 1 each.
        class_weights: for every class by name one weight a child, 0 for one that does not speak of it; None where
            classes share ``weights``. As pairs, so that a node can be a key.
        name: for people.
    """

    children: tuple["Node", ...]
    options: FusionOptions
    weights: tuple[float, ...] | None = None
    class_weights: tuple[tuple[str, tuple[float, ...]], ...] | None = None
    name: str = ""


Leaf = Network | Stored
Node = Network | Stored | Merge | Steps | Scores | Fusion


def children_of(node: Node) -> tuple[Node, ...]:
    """The nodes directly below, in order; none for a leaf."""
    if isinstance(node, Merge | Fusion):
        return node.children
    return (node.child,) if isinstance(node, Steps | Scores) else ()


def members_of(node: Node) -> tuple[Node, ...]:
    """What a fusion with nothing but steps above it fuses; the tree itself where nothing is fused."""
    while isinstance(node, Steps):
        node = node.child
    return node.children if isinstance(node, Fusion) else (node,)


def nodes_of(node: Node) -> Iterator[Node]:
    """A node and all nodes below it, from the top."""
    yield node
    for child in children_of(node):
        yield from nodes_of(child)


def leaves_of(node: Node) -> Iterator[Leaf]:
    """All leaves below a node, or the leaf itself, from the first to the last."""
    if isinstance(node, Network | Stored):
        yield node
    for child in children_of(node):
        yield from leaves_of(child)


def node_to_data(node: Node) -> dict[str, Any]:
    """Write a node and all below it as JSON-able data."""
    name = {"name": node.name} if node.name else {}
    if isinstance(node, Network):
        return {
            "kind": "network",
            **name,
            "path": node.path,
            "views": list(node.views),
            "scales": None if node.scales is None else [_plain(scale) for scale in node.scales],
            "score": node.score,
            "dedupe_iou": node.dedupe_iou,
            "max_per_image": node.max_per_image,
            **({} if node.batch == 1 else {"batch": node.batch}),
            "in_network": node.in_network,
        }
    if isinstance(node, Stored):
        return {"kind": "stored", **name, "path": node.path}
    if isinstance(node, Steps):
        return {
            "kind": "steps",
            **name,
            "steps": steps_to_data(node.steps),
            "child": node_to_data(node.child),
        }
    if isinstance(node, Scores):
        return {"kind": "scores", **name, **node.score_map.to_data(), "child": node_to_data(node.child)}
    children = [node_to_data(child) for child in node.children]
    if isinstance(node, Merge):
        rule = {"rule": node.rule, "iou_threshold": node.iou_threshold}
        return {"kind": node.over, **name, **rule, "children": children}
    return {
        "kind": "fusion",
        **name,
        **options_to_data(node.options),
        "weights": None if node.weights is None else list(node.weights),
        **(
            {}
            if node.class_weights is None
            else {"class_weights": {k: list(v) for k, v in node.class_weights}}
        ),
        "children": children,
    }


def _plain(scale: int | tuple[int, int]) -> int | list[int]:
    return scale if isinstance(scale, int) else list(scale)


def _side(scale: int | tuple[int, int]) -> str:
    return str(scale) if isinstance(scale, int) else f"{scale[0]}x{scale[1]}"
