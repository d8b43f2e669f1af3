"""The step that keeps one of several instances of the same object."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from hubmap_ml.fusion import kept_rows
from hubmap_ml.instances import PredictionSet
from hubmap_ml.postprocess.step import keys, number
from hubmap_ml.spec import InputError


@dataclass(frozen=True)
class Nms:
    """Non-maximum suppression within each image and label (see ``fusion.non_maximum_suppression``)."""

    name: ClassVar[str] = "nms"
    iou: float
    by: Literal["box", "mask"] = "box"

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        values = keys(value, where, {"iou": None, "by": "box"})
        if values["by"] not in ("box", "mask"):
            raise InputError(f"{where}.by is {values['by']!r}; allowed: box, mask")
        return cls(number(values["iou"], f"{where}.iou", low=0.0, high=1.0, open_low=True), values["by"])

    def to_data(self) -> Any:
        return {"iou": self.iou, "by": self.by}

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        return predictions.take(kept_rows(predictions, iou_threshold=self.iou, by=self.by))
