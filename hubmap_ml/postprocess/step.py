"""What a post-processing step is, and how its values are read from data."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

from hubmap_ml.instances import PredictionSet
from hubmap_ml.spec import InputError


class Step(Protocol):
    """One named step from candidates towards final instances: a frozen dataclass of its values.

    A step keeps or drops instances, or changes their masks, boxes, labels or scores. Each image's instances stay by
    descending score; a step that leaves the scores alone never changes the order of what it keeps.

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
        """Return what ``parse`` was given, as JSON-able data; values at their defaults may be left out."""
        ...

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        """Apply the step to every image.

        Args:
            predictions: each image's instances by descending score.

        Returns:
            The same images, each one's instances by descending score.

        Raises:
            InputError: masks of another kind are needed, or a class is named that the set does not know.
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


def whole(value: Any, where: str, *, low: int) -> int:
    """Read a whole number from ``low`` on.

    Raises:
        InputError: something else, said with ``where``.
    """
    if number(value, where, low=low) != int(value):
        raise InputError(f"{where} is {value!r}; a whole number from {low} is expected")
    return int(value)


def choice(value: Any, where: str, allowed: Sequence[Any]) -> Any:
    """Read one of several values.

    Raises:
        InputError: another value, said with ``where`` and the allowed ones.
    """
    if not any(value == one and type(value) is type(one) for one in allowed):
        raise InputError(f"{where} is {value!r}; allowed: {', '.join(map(str, allowed))}")
    return value


def flag(value: Any, where: str) -> bool:
    """Read true or false.

    Raises:
        InputError: another value, said with ``where``.
    """
    if not isinstance(value, bool):
        raise InputError(f"{where} is {value!r}; true or false is expected")
    return value


def keys(value: Any, where: str, allowed: Mapping[str, Any]) -> dict[str, Any]:
    """Read a mapping with only the allowed keys, the others at their defaults; no value at all is an empty mapping.

    Raises:
        InputError: no mapping, or an unknown key, said with ``where`` and the allowed keys.
    """
    names = ", ".join(allowed) or "no keys"
    given = {} if value is None else value
    if not isinstance(given, Mapping):
        raise InputError(f"{where} is {value!r}; a mapping of {names} is expected")
    for key in given:
        if key not in allowed:
            raise InputError(f"{where}: unknown key {key!r}; allowed: {names}")
    return {**allowed, **given}
