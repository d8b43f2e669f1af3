"""The steps that leave one of several instances of the same object, or lower the scores of the others."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from hubmap_ml.fusion import MEASURES, SOFT_METHODS, Measure, SoftMethod, kept_rows, soft_suppression
from hubmap_ml.instances import PredictionSet
from hubmap_ml.postprocess.step import choice, flag, keys, number


@dataclass(frozen=True)
class Nms:
    """Non-maximum suppression within each image (see ``fusion.non_maximum_suppression``).

    Attributes:
        iou: an overlap *greater* than this suppresses.
        by: overlap of boxes or of bit masks.
        measure: shared area over that of the union (``iou``) or over the smaller of the two (``ios``).
        across_classes: whether an instance also suppresses those of other classes.
    """

    name: ClassVar[str] = "nms"
    iou: float
    by: Literal["box", "mask"] = "box"
    measure: Measure = "iou"
    across_classes: bool = False

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        values = keys(value, where, {"iou": None, "by": "box", "measure": "iou", "across_classes": False})
        return cls(
            number(values["iou"], f"{where}.iou", low=0.0, high=1.0, open_low=True),
            choice(values["by"], f"{where}.by", ("box", "mask")),
            choice(values["measure"], f"{where}.measure", MEASURES),
            flag(values["across_classes"], f"{where}.across_classes"),
        )

    def to_data(self) -> Any:
        data: dict[str, Any] = {"iou": self.iou, "by": self.by}
        if self.measure != "iou":
            data["measure"] = self.measure
        if self.across_classes:
            data["across_classes"] = True
        return data

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        keep = kept_rows(
            predictions,
            iou_threshold=self.iou,
            by=self.by,
            measure=self.measure,
            across_classes=self.across_classes,
        )
        return predictions.take(keep)


@dataclass(frozen=True)
class SoftNms:
    """Soft suppression by box within each image and class (see ``fusion.soft_suppression``): changes scores and order.

    Attributes:
        method: linear or gaussian.
        iou: of the linear method, which lowers scores where the overlap is greater.
        sigma: of the gaussian method.
        min_score: instances whose new score is not greater are dropped.
    """

    name: ClassVar[str] = "soft_nms"
    method: SoftMethod = "linear"
    iou: float = 0.5
    sigma: float = 0.5
    min_score: float = 0.001

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        values = keys(value, where, {"method": "linear", "iou": 0.5, "sigma": 0.5, "min_score": 0.001})
        return cls(
            choice(values["method"], f"{where}.method", SOFT_METHODS),
            number(values["iou"], f"{where}.iou", low=0.0, high=1.0, open_low=True),
            number(values["sigma"], f"{where}.sigma", low=0.0, open_low=True),
            number(values["min_score"], f"{where}.min_score", low=0.0, high=1.0),
        )

    def to_data(self) -> Any:
        return {"method": self.method, "iou": self.iou, "sigma": self.sigma, "min_score": self.min_score}

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        return soft_suppression(
            predictions,
            method=self.method,
            iou_threshold=self.iou,
            sigma=self.sigma,
            min_score=self.min_score,
        )
