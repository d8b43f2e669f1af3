"""The space of a threshold study: which values of which post-processing steps are searched, and where.

A space names ``score``, ``nms_iou``, ``mask_threshold`` or ``min_area``; what it does not name stays as the base steps
say. Mask thresholds are searched on a grid, because each one costs a pass over all masks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hubmap_ml.postprocess import MaskThreshold, MinArea, Nms, Score, Step
from hubmap_ml.spec import InputError

MASK_GRID = 5
"""Mask thresholds in a range, ends included."""

DEDUPLICATED_AT = 0.9
"""Candidates that overlap more than this were not stored (``inference``), so no suppression above it can be studied."""


@dataclass(frozen=True)
class Parameter:
    """What a name in a space stands for: a field of a step, and the values it may take."""

    step: type[Step]
    field: str
    low: float
    high: float
    open_low: bool = False


PARAMETERS: Mapping[str, Parameter] = {
    "score": Parameter(Score, "threshold", 0.0, 1.0),
    "nms_iou": Parameter(Nms, "iou", 0.0, DEDUPLICATED_AT, open_low=True),
    "mask_threshold": Parameter(MaskThreshold, "threshold", 0.0, 1.0, open_low=True),
    "min_area": Parameter(MinArea, "pixels", 0.0, math.inf),
}

Setting = Mapping[str, float]
"""A value for each name of a space."""


@dataclass(frozen=True)
class Space:
    """Ranges of the searched values.

    Attributes:
        ranges: for each searched name its lowest and highest value (equal: fixed).
    """

    ranges: Mapping[str, tuple[float, float]]

    @property
    def mask_grid(self) -> tuple[float, ...]:
        """The mask thresholds that are searched, ascending; empty if they are not."""
        if "mask_threshold" not in self.ranges:
            return ()
        low, high = self.ranges["mask_threshold"]
        return tuple(sorted({round(float(t), 10) for t in np.linspace(low, high, MASK_GRID)}))

    def holds(self, setting: Setting) -> bool:
        """Whether a setting lies in the space (mask thresholds: on the grid; areas: whole pixels)."""
        inside = all(low <= setting[name] <= high for name, (low, high) in self.ranges.items())
        on_grid = "mask_threshold" not in self.ranges or setting["mask_threshold"] in self.mask_grid
        return inside and on_grid and float(setting.get("min_area", 0)).is_integer()


def parse_space(data: Mapping[str, Any], base_steps: Sequence[Step], where: str = "tune.space") -> Space:
    """Read a space from data and check it against the steps that it varies.

    Args:
        data: name to ``[low, high]``, or to a number that fixes the value.
        base_steps: each named value must occur in them exactly once.
        where: how to name the space in an error.

    Raises:
        InputError: an unknown name, a range that runs backwards or leaves what its step allows, a name whose step is
            missing or ambiguous, an NMS range above ``DEDUPLICATED_AT``.
    """
    ranges: dict[str, tuple[float, float]] = {}
    for name, value in data.items():
        if name not in PARAMETERS:
            raise InputError(f"{where}: unknown name {name!r}; allowed: {', '.join(PARAMETERS)}")
        low, high = _range(value, f"{where}.{name}")
        parameter = PARAMETERS[name]
        if name == "nms_iou" and high > DEDUPLICATED_AT:
            raise InputError(
                f"{where}.nms_iou reaches up to {high:g}, but of candidates that overlap more than "
                f"{DEDUPLICATED_AT:g} only one was stored; end the range at {DEDUPLICATED_AT:g} or below"
            )
        if low < parameter.low or high > parameter.high or (parameter.open_low and low == parameter.low):
            raise InputError(
                f"{where}.{name} is [{low:g}, {high:g}]; it must lie "
                f"{'above' if parameter.open_low else 'from'} {parameter.low:g}"
                + ("" if math.isinf(parameter.high) else f" to {parameter.high:g}")
            )
        if name == "min_area" and math.ceil(low) > math.floor(high):
            raise InputError(
                f"{where}.min_area is [{low:g}, {high:g}], which holds no whole number of pixels"
            )
        _position(base_steps, name, where)
        ranges[name] = (low, high)
    return Space(ranges)


def setting_of(steps: Sequence[Step], names: Sequence[str]) -> dict[str, float]:
    """Return the values that the steps hold under the given names of a space."""
    return {
        name: getattr(steps[_position(steps, name, "tune.space")], PARAMETERS[name].field) for name in names
    }


def with_setting(steps: Sequence[Step], setting: Setting) -> tuple[Step, ...]:
    """Return the steps with the setting's values in them."""
    changed = list(steps)
    for name, value in setting.items():
        place = _position(steps, name, "tune.space")
        step: Any = changed[place]
        changed[place] = replace(step, **{PARAMETERS[name].field: value})
    return tuple(changed)


def _position(steps: Sequence[Step], name: str, where: str) -> int:
    wanted = PARAMETERS[name].step
    places = [place for place, step in enumerate(steps) if isinstance(step, wanted)]
    if len(places) != 1:
        raise InputError(
            f"{where}.{name}: the post-processing has {'no' if not places else len(places)} {wanted.name!r} "
            f"step{'s' if len(places) > 1 else ''}, where exactly one is varied; change the steps or leave {name} out"
        )
    return places[0]


def _range(value: Any, where: str) -> tuple[float, float]:
    pair = [value, value] if isinstance(value, int | float) else value
    good = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
    good = good and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in pair
    )
    if not good:
        raise InputError(f"{where} is {value!r}; a range [low, high] or a number is expected")
    low, high = float(pair[0]), float(pair[1])
    if low > high:
        raise InputError(f"{where} is [{low:g}, {high:g}], which runs backwards")
    return low, high
