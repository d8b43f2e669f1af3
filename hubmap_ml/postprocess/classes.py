"""The step that lets an image have one class only."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np

from hubmap_ml.instances import PredictionSet
from hubmap_ml.postprocess.step import choice, keys


@dataclass(frozen=True)
class ImageClass:
    """Give all instances of an image its class (Sartorius: an image shows one type of cell).

    Attributes:
        rule: ``majority`` takes the class with most instances, ties by the sum of their scores; ``score_sum`` the one
            whose scores sum to most, ties by their number. What is still tied takes the first of the classes.
    """

    name: ClassVar[str] = "image_class"
    rule: Literal["majority", "score_sum"] = "majority"

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        values = keys(value, where, {"rule": "majority"})
        return cls(choice(values["rule"], f"{where}.rule", ("majority", "score_sum")))

    def to_data(self) -> Any:
        return {"rule": self.rule}

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        if len(predictions) == 0:
            return predictions
        shape = (len(predictions.images), len(predictions.categories))
        image_rows = predictions.image_rows()
        place = image_rows * shape[1] + predictions.labels
        size = shape[0] * shape[1]
        counts = np.bincount(place, minlength=size).reshape(shape)
        sums = np.bincount(place, weights=predictions.scores, minlength=size).reshape(shape)
        first, second = (counts, sums) if self.rule == "majority" else (sums, counts)
        leading = first == first.max(axis=1, keepdims=True)
        of_image = np.argmax(np.where(leading, second, -1.0), axis=1)
        return predictions.replace(labels=of_image[image_rows].astype(np.int16))
