"""Steps that drop instances by a number of their own: score, area, rank in the image."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion import decided
from hubmap_ml.instances import PredictionSet
from hubmap_ml.postprocess.per_class import of_instances, per_class_data, read_per_class
from hubmap_ml.postprocess.step import flag, keys, whole


@dataclass(frozen=True)
class Score:
    """Keep instances whose score is at least ``threshold``.

    The threshold is rounded to float32 as the scores are, so that a score written as 0.7 passes 0.7.

    Attributes:
        per_class: other thresholds for the classes of these names.
    """

    name: ClassVar[str] = "score"
    threshold: float
    per_class: Mapping[str, float] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        return cls(*read_per_class(value, where, low=0.0, high=1.0))

    def to_data(self) -> Any:
        return per_class_data(self.threshold, self.per_class)

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        thresholds = of_instances(predictions, self.threshold, self.per_class, self.name)
        return predictions.take(np.flatnonzero(predictions.scores >= thresholds.astype(np.float32)))


@dataclass(frozen=True)
class MinArea:
    """Keep instances whose bit mask has at least ``pixels`` pixels; ``per_class`` as for `Score`."""

    name: ClassVar[str] = "min_area"
    pixels: float
    per_class: Mapping[str, float] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        return cls(*read_per_class(value, where, low=0.0))

    def to_data(self) -> Any:
        return per_class_data(self.pixels, self.per_class)

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        limits = of_instances(predictions, self.pixels, self.per_class, self.name)
        return predictions.take(np.flatnonzero(decided(predictions.masks, self.name).areas() >= limits))


@dataclass(frozen=True)
class MaxArea:
    """Keep instances whose bit mask has at most ``pixels`` pixels; ``per_class`` as for `Score`."""

    name: ClassVar[str] = "max_area"
    pixels: float
    per_class: Mapping[str, float] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        return cls(*read_per_class(value, where, low=0.0, open_low=True))

    def to_data(self) -> Any:
        return per_class_data(self.pixels, self.per_class)

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        limits = of_instances(predictions, self.pixels, self.per_class, self.name)
        return predictions.take(np.flatnonzero(decided(predictions.masks, self.name).areas() <= limits))


@dataclass(frozen=True)
class MaxPerImage:
    """Keep the ``count`` highest scored instances of each image; ties keep the earlier.

    Attributes:
        per_class: count each class by itself instead of all together.
    """

    name: ClassVar[str] = "max_per_image"
    count: int
    per_class: bool = False

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        if not isinstance(value, Mapping):
            return cls(whole(value, where, low=1))
        values = keys(value, where, {"count": None, "per_class": False})
        return cls(
            whole(values["count"], f"{where}.count", low=1), flag(values["per_class"], f"{where}.per_class")
        )

    def to_data(self) -> Any:
        return {"count": self.count, "per_class": True} if self.per_class else self.count

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        groups = predictions.image_rows()
        if self.per_class:
            groups = groups * len(predictions.categories) + predictions.labels
        return predictions.take(np.flatnonzero(_places(groups) < self.count))


def _places(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each row, how many earlier ones are of its group, int64 (N,)."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    first = np.searchsorted(ordered, ordered, side="left")
    places = np.empty(len(groups), np.int64)
    places[order] = np.arange(len(groups)) - first
    return places
