import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hubmap_ml.stages.splits import hold_out


@given(st.integers(2, 200), st.floats(0.01, 0.89), st.integers(0, 5))
def test_a_share_is_held_out_and_nothing_is_lost(n: int, share: float, seed: int) -> None:
    rows = np.arange(n) * 3
    kept, held = hold_out(rows, share, seed)
    assert sorted([*kept, *held]) == list(rows)
    assert 1 <= len(held) <= max(1, round(share * n))
    assert len(kept) >= 1
    again = hold_out(rows, share, seed)
    assert np.array_equal(kept, again[0])
