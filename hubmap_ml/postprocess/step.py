"""What a post-processing step is, and how its values are read from data."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

from hubmap_ml.instances import PredictionSet
from hubmap_ml.spec import InputError


class Step(Protocol):
    """One named step from candidates towards final instances: a frozen dataclass of its values.

    A step keeps or drops instances, or changes masks; it never changes the order of what it keeps.

    Attributes:
        name: its key in an experiment file.
    """

    name: ClassVar[str]

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        """Read the step's values as an experiment file gives them.

        Raises:
            InputError: an unknown key or a bad value, said with ``where`` and what is allowed.
        """
        ...

    def to_data(self) -> Any:
        """Return what ``parse`` was given, as JSON-able data."""
        ...

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        """Apply the step to every image.

        Args:
            predictions: each image's instances by descending score.

        Returns:
            The same images; instances in the same order.

        Raises:
            InputError: the step needs masks of a kind that the set does not have.
        """
        ...


def number(value: Any, where: str, *, low: float, high: float | None = None, open_low: bool = False) -> float:
    """Read a finite number in a range.

    Raises:
        InputError: something else, said with ``where`` and the range.
    """
    bounds = f"{'above' if open_low else 'from'} {low:g}" + ("" if high is None else f" to {high:g}")
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if good:
        good = (value > low if open_low else value >= low) and value <= (
            float("inf") if high is None else high
        )
        good = good and value != float("inf")
    if not good:
        raise InputError(f"{where} is {value!r}; a number {bounds} is expected")
    return float(value)


def keys(value: Any, where: str, allowed: Mapping[str, Any]) -> dict[str, Any]:
    """Read a mapping with only the allowed keys, the others at their defaults.

    Raises:
        InputError: no mapping, or an unknown key, said with ``where`` and the allowed keys.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{where} is {value!r}; a mapping of {', '.join(allowed)} is expected")
    for key in value:
        if key not in allowed:
            raise InputError(f"{where}: unknown key {key!r}; allowed: {', '.join(allowed)}")
    return {**allowed, **value}
