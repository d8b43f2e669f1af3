"""Coefficients are scipy's; intervals hold simulated truths about as often as they say."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hubmap_ml.metrics.rank_agreement import (
    FEWEST,
    dependent_difference,
    rank_agreement,
    submissions_needed,
)

scores = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=25)


@given(scores)
@settings(deadline=None)
def test_the_coefficients_are_those_of_their_definitions(pairs: list[tuple[int, int]]) -> None:
    first, second = zip(*pairs, strict=True)
    found = rank_agreement(first, second)
    if len(set(first)) < 2 or len(set(second)) < 2:
        assert math.isnan(found.spearman)
        assert found.missing is None
        return
    ranks = [stats.rankdata(item) for item in (first, second)]
    assert found.spearman == pytest.approx(np.corrcoef(ranks)[0, 1], abs=1e-9)
    signs = [np.sign(np.subtract.outer(item, item)) for item in (first, second)]
    tau = (signs[0] * signs[1]).sum() / math.sqrt((signs[0] ** 2).sum() * (signs[1] ** 2).sum())
    assert found.kendall == pytest.approx(tau, abs=1e-9)
    for value, interval in (
        (found.spearman, found.spearman_interval),
        (found.kendall, found.kendall_interval),
    ):
        assert (interval.low is None) == (len(pairs) < FEWEST)
        if interval.low is not None and interval.high is not None:
            assert -1 <= interval.low <= value <= interval.high <= 1
            assert interval.high - interval.low > 0.01
    turned = rank_agreement(first, [-value for value in second])
    assert turned.spearman == pytest.approx(-found.spearman)
    if found.spearman_interval.low is not None:
        assert turned.spearman_interval.high == pytest.approx(-found.spearman_interval.low)


@pytest.mark.parametrize(("n", "rho"), [(6, 0.5), (12, 0.0), (12, 0.8), (30, 0.5), (30, 0.95)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(n: int, rho: float) -> None:
    """Of normal scores the true coefficients are known: 6/π asin(ρ/2) and 2/π asin(ρ)."""
    spearman, kendall = 6 / math.pi * math.asin(rho / 2), 2 / math.pi * math.asin(rho)
    rng = np.random.default_rng(0)
    held = np.zeros(2)
    for _ in range(400):
        first, noise = rng.standard_normal((2, n))
        found = rank_agreement(list(first), list(rho * first + math.sqrt(1 - rho**2) * noise))
        for k, (true, interval) in enumerate(
            ((spearman, found.spearman_interval), (kendall, found.kendall_interval))
        ):
            held[k] += interval.low <= true <= interval.high  # type: ignore[operator]
    assert held.min() / 400 >= 0.9  # two standard errors of 400 draws are .022
    assert held.max() / 400 <= 1


def test_so_many_submissions_find_the_agreement_in_four_of_five_cases() -> None:
    for rho in (0.5, 0.75):
        spearman = 6 / math.pi * math.asin(rho / 2)
        n = submissions_needed(spearman)
        assert n is not None
        rng = np.random.default_rng(1)
        found = 0
        for _ in range(300):
            first, noise = rng.standard_normal((2, n))
            found += rank_agreement(list(first), list(rho * first + math.sqrt(1 - rho**2) * noise)).agrees
        assert found / 300 == pytest.approx(0.8, abs=0.07)


@given(st.floats(0.05, 0.999), st.floats(0.05, 0.999))
@settings(deadline=None)
def test_a_weaker_agreement_takes_more_submissions(one: float, other: float) -> None:
    needed = [submissions_needed(value) for value in sorted((one, other))]
    assert needed == [submissions_needed(-value) for value in sorted((one, other))]
    if needed[0] is not None:
        assert needed[1] is not None
        assert needed[0] >= needed[1] >= FEWEST


def test_what_cannot_be_known_says_so() -> None:
    assert (
        rank_agreement([1, 2, 3, 4], [1, 2, 3, 4]).spearman_interval.words
        == "not estimable from 4 submissions"
    )
    assert rank_agreement([1, 2, 3, 4], [1, 2, 3, 4]).missing == 1
    assert math.isnan(rank_agreement([1, 1, 1], [1, 2, 3]).kendall)
    assert submissions_needed(0.001) is None
    perfect = rank_agreement(range(10), range(10))
    assert perfect.agrees
    assert perfect.spearman_interval.high == 1
    assert perfect.spearman_interval.low < 0.97  # type: ignore[operator]


def test_which_of_two_ranks_better_is_told_only_where_it_is() -> None:
    """The interval of the difference holds the truth, and is wider than nothing where both rank alike."""
    rng = np.random.default_rng(2)
    held = 0
    n, rhos = 20, (0.8, 0.4)
    true = sum(sign * 6 / math.pi * math.asin(rho / 2) for sign, rho in zip((1, -1), rhos, strict=True))
    for _ in range(300):
        common, *noise = rng.standard_normal((3, n))
        one, other = (
            rho * common + math.sqrt(1 - rho**2) * part for rho, part in zip(rhos, noise, strict=True)
        )
        found = dependent_difference(list(common), list(one), list(other))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= true <= found.high
        back = dependent_difference(list(common), list(other), list(one))
        assert (back.low, back.high) == (pytest.approx(-found.high), pytest.approx(-found.low))
    assert held / 300 >= 0.9
    same = dependent_difference(list(common), list(one), list(one))
    assert not same.excludes_zero
    assert dependent_difference([1.0, 2.0], [1.0, 2.0], [2.0, 1.0]).low is None
