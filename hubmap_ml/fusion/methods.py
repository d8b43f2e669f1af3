"""The table of ways to fuse members, by the names that experiment files and predictor folders use."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from hubmap_ml.fusion.weighted_boxes import weighted_boxes_fusion
from hubmap_ml.instances import PredictionSet
from hubmap_ml.spec import InputError

FusionMethod = Literal["wbf"]
FUSION_METHODS: Mapping[str, Callable[..., PredictionSet]] = {"wbf": weighted_boxes_fusion}


def fuse(
    members: Sequence[PredictionSet],
    *,
    method: FusionMethod = "wbf",
    weights: Sequence[float] | None = None,
    iou_threshold: float = 0.6,
    skip_score: float = 0.001,
    names: Sequence[str] | None = None,
) -> PredictionSet:
    """Fuse members by a named method; see ``weighted_boxes_fusion`` for ``"wbf"``.

    Raises:
        InputError: an unknown method, and what the method refuses.
    """
    if method not in FUSION_METHODS:
        raise InputError(f"unknown fusion method {method!r}; allowed: {', '.join(FUSION_METHODS)}")
    return FUSION_METHODS[method](
        members, weights=weights, iou_threshold=iou_threshold, skip_score=skip_score, names=names
    )
