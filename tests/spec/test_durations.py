import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.spec.durations import duration

UNITS = {"d": 86400, "h": 3600, "min": 60, "s": 1}


@given(st.floats(0, 1e7))
@settings(deadline=None)
def test_a_time_is_told_in_its_two_largest_units(seconds: float) -> None:
    words = duration(seconds).split()
    told = sum(float(n) * UNITS[unit] for n, unit in zip(words[::2], words[1::2], strict=True))
    assert abs(told - seconds) <= (UNITS[words[-1]] if seconds >= 60 else 0.5)


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf])
def test_an_unknown_time_is_a_dash(unknown: float | None) -> None:
    assert duration(unknown) == "–"
