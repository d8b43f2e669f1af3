"""Steps that drop instances by a number of their own: score, area, rank in the image."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from hubmap_ml.fusion import decided
from hubmap_ml.instances import PredictionSet
from hubmap_ml.postprocess.step import number
from hubmap_ml.spec import InputError


@dataclass(frozen=True)
class Score:
    """Keep instances whose score is at least ``threshold``.

    The threshold is rounded to float32 as the scores are, so that a score written as 0.7 passes 0.7.
    """

    name: ClassVar[str] = "score"
    threshold: float

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        return cls(number(value, where, low=0.0, high=1.0))

    def to_data(self) -> Any:
        return self.threshold

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        return predictions.take(np.flatnonzero(predictions.scores >= np.float32(self.threshold)))


@dataclass(frozen=True)
class MinArea:
    """Keep instances whose bit mask has at least ``pixels`` pixels."""

    name: ClassVar[str] = "min_area"
    pixels: float

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        return cls(number(value, where, low=0.0))

    def to_data(self) -> Any:
        return self.pixels

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        return predictions.take(np.flatnonzero(decided(predictions.masks, "min_area").areas() >= self.pixels))


@dataclass(frozen=True)
class MaxPerImage:
    """Keep the ``count`` highest scored instances of each image, all labels together; ties keep the earlier."""

    name: ClassVar[str] = "max_per_image"
    count: int

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        if number(value, where, low=1.0) != int(value):
            raise InputError(f"{where} is {value!r}; a whole number from 1 is expected")
        return cls(int(value))

    def to_data(self) -> Any:
        return self.count

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        rank = np.arange(len(predictions.scores)) - np.repeat(
            predictions.offsets[:-1], np.diff(predictions.offsets)
        )
        return predictions.take(np.flatnonzero(rank < self.count))
