"""The ways to fuse members, by the names that experiment files and predictor folders use."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hubmap_ml.fusion.cluster_masks import MEAN, MaskFusion
from hubmap_ml.fusion.suppression import Geometry
from hubmap_ml.fusion.weighted_boxes import ConfidenceType, weighted_boxes_fusion
from hubmap_ml.fusion.weighted_suppression import non_maximum_weighted, suppression_of_members
from hubmap_ml.instances import PredictionSet
from hubmap_ml.spec import InputError

FusionMethod = Literal["wbf", "nmw", "nms"]
FUSION_METHODS: Mapping[FusionMethod, Callable[..., PredictionSet]] = {
    "wbf": weighted_boxes_fusion,
    "nmw": non_maximum_weighted,
    "nms": suppression_of_members,
}
GEOMETRIES: tuple[Geometry, ...] = ("box", "mask")


@dataclass(frozen=True)
class FusionOptions:
    """How members are fused; what the values mean stands at the methods.

    Attributes:
        method: of ``FUSION_METHODS``.
        iou_threshold: in (0, 1).
        skip_score: instances with a lower score stay out.
        conf_type: of ``CONFIDENCE_TYPES``; only ``wbf`` knows others than ``"avg"``.
        by: whether clusters are made by the overlap of boxes or of masks.
        masks: how the masks of a cluster become one.

    Raises:
        InputError: an unknown method or geometry, or a confidence type that the method does not know.
    """

    method: FusionMethod = "wbf"
    iou_threshold: float = 0.6
    skip_score: float = 0.001
    conf_type: ConfidenceType = "avg"
    by: Geometry = "box"
    masks: MaskFusion = MEAN

    def __post_init__(self) -> None:
        if self.method not in FUSION_METHODS:
            raise InputError(f"unknown fusion method {self.method!r}; allowed: {', '.join(FUSION_METHODS)}")
        if self.by not in GEOMETRIES:
            raise InputError(f"fusion by {self.by!r} is unknown; allowed: {', '.join(GEOMETRIES)}")
        if self.method != "wbf" and self.conf_type != "avg":
            raise InputError(
                f"conf_type {self.conf_type!r} is an option of wbf, and the method is {self.method}: leave it out"
            )


def options_to_data(options: FusionOptions) -> dict[str, Any]:
    """Write options as the flat keys that experiment files and predictor folders use."""
    flat = {
        name: getattr(options, name) for name in ("method", "iou_threshold", "skip_score", "conf_type", "by")
    }
    how = options.masks
    return {**flat, "masks": how.rule, "vote_share": how.vote_share, "clip": how.clip}


def options_from_data(data: Mapping[str, Any]) -> FusionOptions:
    """Read what ``options_to_data`` wrote; missing keys take their defaults, other keys are not looked at.

    Raises:
        InputError: values that do not fit.
    """
    values = {**options_to_data(FusionOptions()), **data}
    return FusionOptions(
        method=values["method"],
        iou_threshold=values["iou_threshold"],
        skip_score=values["skip_score"],
        conf_type=values["conf_type"],
        by=values["by"],
        masks=MaskFusion(values["masks"], vote_share=values["vote_share"], clip=values["clip"]),
    )


def fuse(
    members: Sequence[PredictionSet],
    options: FusionOptions | None = None,
    *,
    weights: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
) -> PredictionSet:
    """Fuse members by the named method.

    Args:
        members: sets over the same images.
        options: method and its values; the defaults where none are given.
        weights: one > 0 for each member; equal by default.
        names: of the members.

    Raises:
        InputError: what the method refuses.
    """
    options = options or FusionOptions()
    confidence = {"conf_type": options.conf_type} if options.method == "wbf" else {}
    return FUSION_METHODS[options.method](
        members,
        weights=weights,
        iou_threshold=options.iou_threshold,
        skip_score=options.skip_score,
        by=options.by,
        masks=options.masks,
        names=names,
        **confidence,
    )
