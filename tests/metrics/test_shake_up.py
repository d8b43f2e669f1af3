"""Moves between two rankings: none where they agree wholly, those of chance where they do not."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.metrics import rank_agreement
from hubmap_ml.metrics.shake_up import expected_move, shake_up


def test_the_ends_are_known() -> None:
    still = expected_move(12, 1.0)
    assert (still.places, still.first_falls, still.first_stays) == (0, 0, 1)
    chance = expected_move(12, 0.0)
    assert chance.places == pytest.approx((12**2 - 1) / (3 * 12), rel=0.02)  # of a random permutation
    assert chance.first_stays == pytest.approx(1 / 12, abs=0.015)
    assert chance.first_falls == pytest.approx(11 / 2, rel=0.03)
    assert expected_move(12, -1.0).first_falls == 11


@given(st.integers(2, 30), st.floats(-1, 1), st.floats(-1, 1))
@settings(deadline=None, max_examples=25)
def test_less_agreement_moves_more(n: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert expected_move(n, low, draws=500).places >= expected_move(n, high, draws=500).places - 0.03 * n


def test_what_was_expected_is_what_is_seen_of_many() -> None:
    rng = np.random.default_rng(3)
    seen, held = [], 0
    true = 2 / math.pi * math.asin(0.8)
    for _ in range(150):
        before, noise = rng.standard_normal((2, 15))
        after = 0.8 * before + 0.6 * noise
        found = shake_up(
            "public", "private", list(before), list(after), rank_agreement(before.tolist(), after.tolist())
        )
        seen.append(found.seen)
        assert found.interval.low is not None
        assert found.interval.high is not None
        held += found.interval.low <= expected_move(15, true).places <= found.interval.high
    assert np.mean(seen) == pytest.approx(expected_move(15, true).places, rel=0.06)
    assert held / 150 >= 0.88


def test_few_submissions_have_moved_but_expect_nothing() -> None:
    found = shake_up("cv", "public", [1, 2, 3], [3, 2, 1], rank_agreement([1, 2, 3], [3, 2, 1]))
    assert found.seen == pytest.approx(4 / 3)
    assert found.expected is None
    assert found.interval.words == "not estimable from 3 submissions"
