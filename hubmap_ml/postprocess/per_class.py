"""Values that may differ by class: a number for all, or ``{default: …, per_class: {name: …}}``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Category, PredictionSet
from hubmap_ml.postprocess.step import keys, number
from hubmap_ml.spec import InputError


def read_per_class(
    value: Any, where: str, *, low: float, high: float | None = None, open_low: bool = False
) -> tuple[float, dict[str, float]]:
    """Read a number, or a default with other numbers for some classes.

    Returns:
        The default, and the numbers of the classes that are named.

    Raises:
        InputError: an unknown key, or a number out of range, said with ``where``.
    """
    if not isinstance(value, Mapping):
        return number(value, where, low=low, high=high, open_low=open_low), {}
    values = keys(value, where, {"default": None, "per_class": {}})
    named = values["per_class"]
    if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named):
        raise InputError(f"{where}.per_class is {named!r}; a mapping of class names to numbers is expected")
    default = number(values["default"], f"{where}.default", low=low, high=high, open_low=open_low)
    return default, {
        name: number(one, f"{where}.per_class.{name}", low=low, high=high, open_low=open_low)
        for name, one in named.items()
    }


def per_class_data(default: float, per_class: Mapping[str, float]) -> Any:
    """Return what ``read_per_class`` reads."""
    return {"default": default, "per_class": dict(per_class)} if per_class else default


def of_instances(
    predictions: PredictionSet, default: float, per_class: Mapping[str, float], step: str
) -> NDArray[np.float64]:
    """Return each instance's number by its class, float64 (N,).

    Raises:
        InputError: a class that the predictions do not know; ``step`` says who named it.
    """
    by_label = np.full(len(predictions.categories), default, dtype=np.float64)
    for name, one in per_class.items():
        by_label[label_of(predictions.categories, name, step)] = one
    return by_label[predictions.labels]


def label_of(categories: Sequence[Category], name: str, step: str) -> int:
    """Return the label of a class by its name.

    Raises:
        InputError: there is no such class; ``step`` says who named it.
    """
    names = [category.name for category in categories]
    if name not in names:
        raise InputError(f"postprocess: {step} names the class {name!r}; the classes are {', '.join(names)}")
    return names.index(name)
