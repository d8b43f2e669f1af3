"""The space of a threshold study: which values of which post-processing steps are searched, and where.

A space names values as `step_values` does; what it does not name stays as the base steps say. What a value may be is
its step's own business: both ends of a range, and each choice, are tried on the step.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from hubmap_ml.postprocess import Nms, Step
from hubmap_ml.spec import InputError
from hubmap_ml.tuning.step_values import Setting, Value, step_named, value_at, with_setting

DEDUPLICATED_AT = 0.9
"""Candidates that overlap more than this were not stored (``inference``), so no suppression above it can be studied."""

MASK_THRESHOLD = "mask_threshold"
MASK_STEP = 0.05
"""Spacing of the mask thresholds at which masks are made; in between the search interpolates (largest error 0.0012 AP
in ../docs/performance.md), and what it finds is scored again exactly."""

KEYS = ("low", "high", "log", "step", "choices")


@dataclass(frozen=True)
class Parameter:
    """One searched value.

    Attributes:
        name: as in ``step_values``.
        low, high: the range, ends included; of choices the first and last.
        whole: whether only whole numbers are tried.
        log: whether it is searched by its logarithm.
        step: only low, low + step, … are tried; None: anything in between.
        choices: the values to choose from, in place of a range.
    """

    name: str
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    log: bool = False
    step: float | None = None
    choices: tuple[Value, ...] = ()

    @property
    def fixed(self) -> bool:
        """Whether there is only one value."""
        return len(self.choices) == 1 if self.choices else self.low == self.high

    @property
    def only(self) -> Value:
        """The value, where there is only one."""
        return self.end(first=True)

    def end(self, *, first: bool) -> Value:
        """The lowest or the highest value; of choices the first or the last."""
        if self.choices:
            return self.choices[0 if first else -1]
        value = self.low if first else self.high
        return int(value) if self.whole else value

    def holds(self, value: Value) -> bool:
        """Whether a value may be tried."""
        if self.choices:
            return value in self.choices
        if isinstance(value, str | bool) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / (self.step or (1 if self.whole else math.nan))
        return math.isnan(steps) or abs(steps - round(steps)) < 1e-9


@dataclass(frozen=True)
class Space:
    """The searched values, in the order in which they were declared."""

    parameters: tuple[Parameter, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def varied(self) -> tuple[Parameter, ...]:
        """Those with more than one value."""
        return tuple(parameter for parameter in self.parameters if not parameter.fixed)

    @property
    def corners(self) -> tuple[dict[str, Value], ...]:
        """Settings with every end and every choice among them: what bounds a cache."""
        low, high = ({p.name: p.end(first=first) for p in self.parameters} for first in (True, False))
        return (low, high, *({**low, p.name: choice} for p in self.parameters for choice in p.choices))

    @property
    def mask_grid(self) -> tuple[float, ...]:
        """Mask thresholds, ascending, between which the search interpolates; empty if they are not searched."""
        found = next((p for p in self.parameters if p.name == MASK_THRESHOLD), None)
        if found is None:
            return ()
        if found.choices:
            return tuple(sorted(float(value) for value in found.choices))
        n = max(1, math.ceil(round((found.high - found.low) / MASK_STEP, 6)))
        return tuple(sorted({round(found.low + (found.high - found.low) * k / n, 10) for k in range(n + 1)}))

    def holds(self, setting: Setting) -> bool:
        """Whether a setting lies in the space."""
        return all(parameter.holds(setting[parameter.name]) for parameter in self.parameters)


def parse_space(
    data: Mapping[str, Any],
    base_steps: Sequence[Step],
    where: str = "tune.space",
    *,
    deduplicated_at: float = DEDUPLICATED_AT,
) -> Space:
    """Read a space from data and check it against the steps that it varies.

    Args:
        data: a name to ``[low, high]``; to a number, which fixes the value; or to a mapping with ``low`` and ``high``
            (and ``log: true`` or ``step``) or with ``choices``.
        base_steps: each named value must occur in them.
        where: how to name the space in an error.
        deduplicated_at: box IoU above which candidates were not kept.

    Raises:
        InputError: an unknown name, a range that runs backwards or holds what its step refuses, a name whose step is
            missing or ambiguous, a range of box suppression above ``deduplicated_at``.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{where} is {data!r}; a mapping of names to ranges [low, high] is expected")
    return Space(
        tuple(
            _parameter(str(name), value, base_steps, where, deduplicated_at) for name, value in data.items()
        )
    )


def _parameter(
    name: str, value: Any, base_steps: Sequence[Step], where: str, deduplicated_at: float
) -> Parameter:
    value_at(base_steps, name, where)
    at = f"{where}.{name}"
    given = read_range(value, at)
    if "choices" in given:
        found = Parameter(name, choices=tuple(given["choices"]))
        for choice in found.choices:
            _try(base_steps, name, choice, at)
        numbers = [c for c in found.choices if not isinstance(c, str | bool)]
        low = high = max(numbers, default=0)
    else:
        low, high = given["low"], given["high"]
        for end in (low, high):
            _try(base_steps, name, end, f"{at} is [{low:g}, {high:g}]")
        whole = _is_whole(base_steps, name, low, high)
        if whole:
            low, high = float(math.ceil(low)), float(math.floor(high))
            if low > high:
                raise InputError(f"{at} is {value!r}, which holds no whole number")
        found = Parameter(name, low, high, whole=whole, log=given["log"], step=given["step"])
    step = step_named(base_steps, name, where)
    if isinstance(step, Nms) and step.by == "box" and name.endswith("iou") and high > deduplicated_at:
        raise InputError(
            f"{at} reaches up to {high:g}, but of candidates that overlap more than {deduplicated_at:g} only one was "
            f"stored; end the range at {deduplicated_at:g} or below"
        )
    return found


def read_range(value: Any, where: str) -> dict[str, Any]:
    """Read one entry of a space: its ``choices``, or ``low``, ``high``, ``log`` and ``step``.

    Raises:
        InputError: neither a number, nor ``[low, high]``, nor such a mapping; or a range that runs backwards.
    """
    if isinstance(value, Mapping):
        for key in value:
            if key not in KEYS:
                raise InputError(f"{where}: unknown key {key!r}; allowed: {', '.join(KEYS)}")
        if "choices" in value:
            choices = value["choices"]
            if len(value) > 1 or not isinstance(choices, list | tuple) or not choices:
                raise InputError(
                    f"{where} is {value!r}; choices are a list of values, with nothing beside them"
                )
            return {"choices": list(choices)}
        pair, log, step = [value.get("low"), value.get("high")], value.get("log", False), value.get("step")
    else:
        pair, log, step = [value, value] if _is_number(value) else value, False, None
    good = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
    if not good or not _is_number(pair[0]) or not _is_number(pair[1]):
        raise InputError(
            f"{where} is {value!r}; a range [low, high], a number, or {{low, high, log, step}} is expected"
        )
    low, high = float(pair[0]), float(pair[1])
    if low > high:
        raise InputError(f"{where} is [{low:g}, {high:g}], which runs backwards")
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise InputError(
            f"{where} is {value!r}; log is true or false, needs a range above 0 and allows no step"
        )
    if step is not None and (not _is_number(step) or step <= 0):
        raise InputError(f"{where}.step is {step!r}; a number above 0 is expected")
    return {"low": low, "high": high, "log": log, "step": None if step is None else float(step)}


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _try(steps: Sequence[Step], name: str, value: Value, where: str) -> None:
    """Let the step refuse what it does not take."""
    plain = int(value) if isinstance(value, float) and value.is_integer() else value
    try:
        with_setting(steps, {name: plain})
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix('postprocess[0].')}") from None


def _is_whole(steps: Sequence[Step], name: str, low: float, high: float) -> bool:
    """Whether a value is a whole number: pixels, or a number that its step takes only whole."""
    if "area" in name.split(".")[0]:
        return True
    for value in (math.floor(low) + 0.5, math.floor(high) - 0.5):
        if low <= value <= high or low == high:
            try:
                with_setting(steps, {name: value})
            except InputError:
                return low == high or float(low).is_integer()
            return False
    return False
