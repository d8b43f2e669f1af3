"""Steps about pixels that several instances of an image hold: each to one instance only, or none inside a region."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from hubmap_ml.fusion import decided
from hubmap_ml.instances import Masks, PredictionSet
from hubmap_ml.postprocess.image_pixels import union_of_groups, without_earlier
from hubmap_ml.postprocess.per_class import label_of
from hubmap_ml.postprocess.step import keys, number
from hubmap_ml.spec import InputError


@dataclass(frozen=True)
class NoOverlaps:
    """Give each pixel of an image to the highest scored instance that holds it, whatever its class.

    An instance is left with its mask minus the union of all masks ranked above it (equal scores: those that come
    earlier), as in the Sartorius 11th-place code. One that loses everything, or keeps fewer than ``min_area``
    pixels, is dropped, and its pixels go to nobody else. Competitions that forbid overlaps (Sartorius 2021, Data
    Science Bowl 2018) need this; HuBMAP 2023 does not.
    """

    name: ClassVar[str] = "no_overlaps"
    min_area: float = 0.0

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        return cls(number(keys(value, where, {"min_area": 0.0})["min_area"], f"{where}.min_area", low=0.0))

    def to_data(self) -> Any:
        return {"min_area": self.min_area}

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        bits = without_earlier(decided(predictions.masks, self.name), predictions.offsets)
        areas = bits.areas()
        kept = np.flatnonzero((areas > 0) & (areas >= self.min_area))
        return predictions.replace(masks=Masks.from_bits(bits)).take(kept)


@dataclass(frozen=True)
class ExcludeInside:
    """Drop instances that lie inside another class, such as vessels inside a glomerulus.

    An instance is dropped if at least ``share`` of its own pixels are in the union of all instances of the class in its
    image. Those of the class itself stay, and so do instances without a pixel.

    Attributes:
        region: name of the class (``class`` in data).
        share: in (0, 1].
    """

    name: ClassVar[str] = "exclude_inside"
    region: str
    share: float = 0.5

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        values = keys(value, where, {"class": None, "share": 0.5})
        if not isinstance(values["class"], str):
            raise InputError(f"{where}.class is {values['class']!r}; the name of a class is expected")
        share = number(values["share"], f"{where}.share", low=0.0, high=1.0, open_low=True)
        return cls(values["class"], share)

    def to_data(self) -> Any:
        return {"class": self.region, "share": self.share}

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        label = label_of(predictions.categories, self.region, self.name)
        bits = decided(predictions.masks, self.name)
        regions = predictions.take(np.flatnonzero(predictions.labels == label))
        unions = union_of_groups(decided(regions.masks, self.name), regions.offsets)
        shared = bits.intersections(
            unions, np.stack([np.arange(len(predictions)), predictions.image_rows()], axis=1)
        )
        areas = bits.areas()
        inside = np.divide(shared, areas, out=np.zeros(len(areas)), where=areas > 0) >= self.share
        return predictions.take(np.flatnonzero(~inside | (predictions.labels == label)))
