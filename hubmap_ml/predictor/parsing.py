"""Reading a predictor's tree from JSON-able data: every key is checked, and every error names its place."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from pathlib import PurePosixPath
from typing import Any, Literal, cast

from hubmap_ml.fusion import (
    CONFIDENCE_TYPES,
    FUSION_METHODS,
    GEOMETRIES,
    MASK_RULES,
    MERGE_RULES,
    MergeRule,
    map_from_data,
    options_from_data,
)
from hubmap_ml.postprocess import parse_steps
from hubmap_ml.predictor.nodes import Fusion, Merge, Network, Node, Scores, Steps, Stored, children_of
from hubmap_ml.spec import InputError


def parse_node(data: Any, where: str = "tree") -> Node:
    """Read a node and all below it.

    Args:
        data: nested mappings as JSON gives them, ``{"kind": ..., ...}``.
        where: names the place in errors, such as ``predictor.json: tree``.

    Returns:
        The tree; ``node_to_data`` gives back the same data, defaults filled in.

    Raises:
        InputError: unknown kind, unknown or missing key, value out of range, or nodes in an order that makes
            no sense.
    """
    kind = data.get("kind") if isinstance(data, Mapping) else None
    if not isinstance(kind, str) or kind not in _READERS:
        raise InputError(
            f"{where}: node of kind {kind!r} is unknown; known: {', '.join(_READERS)} "
            "(a newer hubmap_ml may be needed to read this predictor)"
        )
    node = _READERS[kind](_Fields(data, where))
    if not (isinstance(node, Merge) and node.over == "views"):
        for child in children_of(node):
            if isinstance(child, Network) and len(child.sources) > 1:
                raise InputError(
                    f"{where} ({kind}): network {child.path!r} looks at an image {len(child.sources)} times; "
                    "put a node of kind 'views' above it"
                )
    return node


class _Fields:
    """The keys of one node: taken one by one, each checked; what is left at the end is unknown."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.where = f"{where} ({data['kind']})"
        self._data = {key: value for key, value in data.items() if key != "kind"}

    def take(self, key: str, default: Any = ...) -> Any:
        if key not in self._data and default is ...:
            raise InputError(f"{self.where}: key {key!r} is missing")
        return self._data.pop(key, default)

    def number(
        self, key: str, default: Any = ..., *, low: float = 0.0, high: float = 1.0, inside: bool = False
    ) -> float:
        value = self.take(key, default)
        good = type(value) in (int, float) and (low < value < high if inside else low <= value <= high)
        if not good:
            bounds = f"({low:g}, {high:g})" if inside else f"[{low:g}, {high:g}]"
            raise InputError(f"{self.where}: {key} is {value!r}, must be a number in {bounds}")
        return float(value)

    def optional_number(self, key: str, default: float, low: float = 0.0, high: float = 1.0) -> float | None:
        if key in self._data and self._data[key] is None:
            self._data.pop(key)
            return None
        return self.number(key, default, low=low, high=high)

    def text(self, key: str, default: Any = ..., *, among: Sequence[str] = ()) -> str:
        value = self.take(key, default)
        if not isinstance(value, str) or (among and value not in among):
            allowed = f"one of {', '.join(among)}" if among else "text"
            raise InputError(f"{self.where}: {key} is {value!r}, must be {allowed}")
        return value

    def yes(self, key: str, default: bool) -> bool:
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise InputError(f"{self.where}: {key} is {value!r}, must be true or false")
        return value

    def folder(self) -> str:
        path = self.text("path")
        parts = PurePosixPath(path)
        if not path or parts.is_absolute() or ".." in parts.parts or "\\" in path:
            raise InputError(f"{self.where}: path {path!r} must be a folder inside the predictor folder")
        return path

    def items(self, key: str, kinds: tuple[type, ...], default: Any = ...) -> tuple[Any, ...] | None:
        value = self.take(key, default)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or not value or not all(type(item) in kinds for item in value):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise InputError(f"{self.where}: {key} is {value!r}, must be a list of {names}")
        return tuple(value)

    def children(self) -> tuple[Node, ...]:
        value = self.take("children")
        if not isinstance(value, list | tuple) or not value:
            raise InputError(f"{self.where}: children must be a list of at least one node")
        return tuple(parse_node(child, f"{self.where}.{row}") for row, child in enumerate(value))

    def end(self) -> str:
        """The node's name, after seeing that nothing else is left."""
        name = self.text("name", "")
        if self._data:
            raise InputError(f"{self.where}: unknown key {sorted(self._data)[0]!r}")
        return name


def _read_network(fields: _Fields) -> Network:
    views = fields.items("views", (str,), ["none"])
    if views is None or len(set(views)) != len(views):
        raise InputError(f"{fields.where}: views is {views!r}, must be different names")
    scales = fields.items("scales", (int, list, tuple), None)
    cap = fields.optional_number("max_per_image", 1000, 1, 10**9)
    batch = fields.take("batch", 1)
    if type(batch) is not int or batch < 1:
        raise InputError(f"{fields.where}: batch is {batch!r}, must be a whole number from 1")
    return Network(
        path=fields.folder(),
        views=views,
        scales=None if scales is None else tuple(_scale(scale, fields.where) for scale in scales),
        score=fields.number("score", 0.001),
        dedupe_iou=fields.optional_number("dedupe_iou", 0.9),
        max_per_image=None if cap is None else int(cap),
        batch=batch,
        in_network=fields.yes("in_network", False),
        name=fields.end(),
    )


def _scale(scale: Any, where: str) -> int | tuple[int, int]:
    sides = [scale] if isinstance(scale, int) else list(scale)
    if len(sides) not in (1, 2) or not all(type(side) is int and side > 0 for side in sides):
        raise InputError(f"{where}: scale {scale!r} must be a side in pixels, or [longest, shortest]")
    return scale if isinstance(scale, int) else (sides[0], sides[-1])


def _read_stored(fields: _Fields) -> Stored:
    return Stored(path=fields.folder(), name=fields.end())


def _read_views(fields: _Fields) -> Merge:
    merge = _read_merge("views", fields)
    if len(merge.children) != 1 or not isinstance(merge.children[0], Network | Stored):
        raise InputError(
            f"{fields.where}: views are merged directly above one network (or its stored predictions)"
        )
    return merge


def _read_folds(fields: _Fields) -> Merge:
    return _read_merge("folds", fields)


def _read_merge(over: Literal["views", "folds"], fields: _Fields) -> Merge:
    return Merge(
        over=over,
        rule=cast(MergeRule, fields.text("rule", "match_mean", among=MERGE_RULES)),
        iou_threshold=fields.number("iou_threshold", low=0.0, high=1.0, inside=True),
        children=fields.children(),
        name=fields.end(),
    )


def _read_steps(fields: _Fields) -> Steps:
    data = fields.take("steps")
    steps = parse_steps(data, f"{fields.where}.steps")
    child = parse_node(fields.take("child"), f"{fields.where}.child")
    return Steps(child=child, steps=steps, name=fields.end())


def _read_scores(fields: _Fields) -> Scores:
    knots = {key: fields.items(key, (int, float)) for key in ("scores", "values")}
    try:
        score_map = map_from_data(knots)
    except (InputError, TypeError) as error:
        raise InputError(f"{fields.where}: {error}") from None
    child = parse_node(fields.take("child"), f"{fields.where}.child")
    return Scores(child=child, score_map=score_map, name=fields.end())


def _read_fusion(fields: _Fields) -> Fusion:
    children = fields.children()
    weights = fields.items("weights", (int, float), None)
    if weights is not None:
        usable = all(isfinite(weight) and weight > 0 for weight in weights)
        if len(weights) != len(children) or not usable:
            raise InputError(
                f"{fields.where}: weights is {list(weights)}, must be {len(children)} numbers > 0, "
                "one for each child"
            )
        weights = tuple(float(weight) for weight in weights)
    data = {
        "method": fields.text("method", "wbf", among=tuple(FUSION_METHODS)),
        "iou_threshold": fields.number("iou_threshold", low=0.0, high=1.0, inside=True),
        "skip_score": fields.number("skip_score", 0.0),
        "conf_type": fields.text("conf_type", "avg", among=CONFIDENCE_TYPES),
        "by": fields.text("by", "box", among=GEOMETRIES),
        "masks": fields.text("masks", "mean", among=tuple(MASK_RULES)),
        "vote_share": fields.number("vote_share", 0.5),
        "clip": fields.yes("clip", False),
    }
    try:
        options = options_from_data(data)
    except InputError as error:
        raise InputError(f"{fields.where}: {error}") from None
    class_weights = _class_weights(fields, len(children))
    return Fusion(
        children=children, options=options, weights=weights, class_weights=class_weights, name=fields.end()
    )


def _class_weights(fields: _Fields, count: int) -> tuple[tuple[str, tuple[float, ...]], ...] | None:
    """Read the weights of each class, one a child; that every class has some is seen where classes are known."""
    given = fields.take("class_weights", None)
    if given is None:
        return None
    usable = isinstance(given, Mapping) and all(
        isinstance(weights, list)
        and len(weights) == count
        and all(isinstance(w, int | float) and isfinite(w) and w >= 0 for w in weights)
        and any(weights)
        for weights in given.values()
    )
    if not usable:
        raise InputError(
            f"{fields.where}: class_weights is {given!r}, must give every class {count} numbers >= 0, one for each "
            "child, not all 0"
        )
    return tuple((str(name), tuple(float(w) for w in weights)) for name, weights in given.items())


_READERS: dict[str, Callable[[_Fields], Node]] = {
    "network": _read_network,
    "stored": _read_stored,
    "views": _read_views,
    "folds": _read_folds,
    "steps": _read_steps,
    "scores": _read_scores,
    "fusion": _read_fusion,
}
