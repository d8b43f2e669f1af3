"""The step from probabilities to pixels, and the one from pixels back to boxes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from hubmap_ml.fusion import decided
from hubmap_ml.instances import BitMasks, Masks, PredictionSet
from hubmap_ml.postprocess.per_class import of_instances, per_class_data, read_per_class
from hubmap_ml.postprocess.step import keys
from hubmap_ml.spec import InputError


@dataclass(frozen=True)
class MaskThreshold:
    """Turn soft masks into bit masks: the pixels whose probability is at least ``threshold``.

    Masks that are bits already stay as they are. Instances without any pixel are dropped. Boxes stay the detector's.

    Attributes:
        per_class: other thresholds for the classes of these names.
    """

    name: ClassVar[str] = "mask_threshold"
    threshold: float
    per_class: Mapping[str, float] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        return cls(*read_per_class(value, where, low=0.0, high=1.0, open_low=True))

    def to_data(self) -> Any:
        return per_class_data(self.threshold, self.per_class)

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        if predictions.masks is None:
            raise InputError("postprocess: mask_threshold needs masks and these predictions have boxes only")
        thresholds = of_instances(predictions, self.threshold, self.per_class, self.name)
        bits = predictions.masks.binarize(
            thresholds, predictions.heights_of_instances(), predictions.widths_of_instances()
        )
        return with_pixels(predictions, bits)


@dataclass(frozen=True)
class TightBoxes:
    """Lay each box around its bit mask's pixels; an instance without a pixel keeps its box."""

    name: ClassVar[str] = "tight_boxes"

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        keys(value, where, {})
        return cls()

    def to_data(self) -> Any:
        return {}

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        bits = decided(predictions.masks, self.name)
        solid = bits.areas() > 0
        return predictions.replace(boxes=np.where(solid[:, None], bits.tight_boxes(), predictions.boxes))


def with_pixels(predictions: PredictionSet, bits: BitMasks) -> PredictionSet:
    """Return the instances with other masks, without those that have no pixel."""
    return predictions.replace(masks=Masks.from_bits(bits)).take(np.flatnonzero(bits.areas() > 0))
