"""The step from probabilities to pixels."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from hubmap_ml.instances import Masks, PredictionSet
from hubmap_ml.postprocess.step import number
from hubmap_ml.spec import InputError


@dataclass(frozen=True)
class MaskThreshold:
    """Turn soft masks into bit masks: the pixels whose probability is at least ``threshold``.

    Masks that are bits already stay as they are. Instances without any pixel are dropped. Boxes stay the detector's.
    """

    name: ClassVar[str] = "mask_threshold"
    threshold: float

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        return cls(number(value, where, low=0.0, high=1.0, open_low=True))

    def to_data(self) -> Any:
        return self.threshold

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        if predictions.masks is None:
            raise InputError("postprocess: mask_threshold needs masks and these predictions have boxes only")
        bits = predictions.masks.binarize(
            self.threshold, predictions.heights_of_instances(), predictions.widths_of_instances()
        )
        solid = predictions.replace(masks=Masks.from_bits(bits))
        return solid.take(np.flatnonzero(bits.areas() > 0))
