"""Steps about the connected parts of a mask and the holes in it. Boxes stay as they are."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from hubmap_ml.fusion import decided
from hubmap_ml.instances import PredictionSet
from hubmap_ml.instances.components import (
    Connectivity,
    fill_holes,
    largest_component,
    without_small_components,
)
from hubmap_ml.postprocess.masks import with_pixels
from hubmap_ml.postprocess.step import choice, keys, number


@dataclass(frozen=True)
class FillHoles:
    """Add the background that a mask encloses (a ring whose pixels touch by corners encloses its inside).

    Attributes:
        max_area: only holes of at most so many pixels; None fills all.
    """

    name: ClassVar[str] = "fill_holes"
    max_area: float | None = None

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        limit = keys(value, where, {"max_area": None})["max_area"]
        return cls(None if limit is None else number(limit, f"{where}.max_area", low=0.0, open_low=True))

    def to_data(self) -> Any:
        return {"max_area": self.max_area}

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        bits = decided(predictions.masks, self.name)
        return with_pixels(predictions, fill_holes(bits, max_area=self.max_area))


@dataclass(frozen=True)
class LargestComponent:
    """Keep the largest connected part of each mask (see ``instances.components``).

    Attributes:
        connectivity: 8, pixels that touch by a corner belong together, or 4, by a side only.
    """

    name: ClassVar[str] = "largest_component"
    connectivity: Connectivity = 8

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        values = keys(value, where, {"connectivity": 8})
        return cls(choice(values["connectivity"], f"{where}.connectivity", (4, 8)))

    def to_data(self) -> Any:
        return {"connectivity": self.connectivity}

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        bits = decided(predictions.masks, self.name)
        return with_pixels(predictions, largest_component(bits, connectivity=self.connectivity))


@dataclass(frozen=True)
class RemoveSmallComponents:
    """Remove connected parts of fewer than ``min_area`` pixels; an instance left without any is dropped.

    Attributes:
        connectivity: as for `LargestComponent`.
    """

    name: ClassVar[str] = "remove_small_components"
    min_area: float
    connectivity: Connectivity = 8

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        values = keys(value, where, {"min_area": None, "connectivity": 8})
        return cls(
            number(values["min_area"], f"{where}.min_area", low=0.0),
            choice(values["connectivity"], f"{where}.connectivity", (4, 8)),
        )

    def to_data(self) -> Any:
        return {"min_area": self.min_area, "connectivity": self.connectivity}

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        bits = decided(predictions.masks, self.name)
        small = without_small_components(bits, self.min_area, connectivity=self.connectivity)
        return with_pixels(predictions, small)
