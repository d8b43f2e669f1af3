import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from hubmap_ml.fusion import ScoreMap, calibration_map, map_from_data, rank_map
from hubmap_ml.spec import InputError


@given(seed=st.integers(0, 2**31), n=st.integers(1, 400), digits=st.sampled_from([1, 2, 6]))
@settings(max_examples=40, deadline=None)
def test_a_map_keeps_the_order_of_scores(seed, n, digits):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(n), digits)
    right = rng.random(n) < scores**2
    for made in (rank_map(scores), calibration_map(scores, right)):
        values = made.of(np.sort(scores))
        assert (np.diff(values) >= 0).all()
        assert values.min() >= 0
        assert values.max() <= 1
        assert map_from_data(made.to_data()) == made


def test_ranks_are_shares_of_the_scores():
    scores = np.random.default_rng(0).random(5000) ** 3
    found = rank_map(scores).of(scores)
    expected = (np.argsort(np.argsort(scores)) + 1) / 5000
    assert np.abs(found - expected).max() < 0.01
    assert np.allclose(rank_map(scores).of(scores), rank_map(scores * 0.1).of(scores * 0.1), atol=1e-5)


def test_calibration_is_isotonic_regression_with_a_little_of_the_score():
    rng = np.random.default_rng(1)
    scores = rng.random(2000)
    right = rng.random(2000) < 0.2 + 0.5 * (scores > 0.6)
    found = calibration_map(scores, right)
    expected = IsotonicRegression(out_of_bounds="clip").fit(scores, right.astype(float)).predict(scores)
    assert np.abs(found.of(scores) - expected).max() < 2e-3
    low, high = found.of([0.3, 0.9])
    assert abs(low - 0.2) < 0.1
    assert abs(high - 0.7) < 0.1
    flat = calibration_map(scores, np.ones(2000))
    assert flat.of([0.8]) > flat.of([0.2])  # equal frequencies keep the order of scores


def test_nothing_to_fit_changes_nothing():
    assert rank_map([]).of([0.3]) == calibration_map([], []).of([0.3]) == np.float32(0.3)


@pytest.mark.parametrize(
    "knots", [((), ()), ((0.5, 0.5), (0, 1)), ((0, 1), (1, 0)), ((0, 1), (0, 2)), ((0,), (0, 1))]
)
def test_what_is_no_monotone_map_is_refused(knots):
    with pytest.raises(InputError, match="map of scores"):
        ScoreMap(*knots)
