from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.spec.durations import UNITS, duration


@given(st.floats(0, 1e7))
@settings(deadline=None)
def test_a_time_is_told_in_two_units(seconds: float) -> None:
    units = dict(UNITS)
    words = duration(seconds).split()
    told = sum(int(n) * units[unit] for n, unit in zip(words[::2], words[1::2], strict=True))
    assert len(words) <= 4
    finest = units[words[-1]] if len(words) == 4 or words[1] == "s" else units[words[1]]
    assert told <= seconds < told + finest
