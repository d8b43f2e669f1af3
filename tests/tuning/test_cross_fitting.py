import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hubmap_ml.tuning import cross_fitted

tables = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 8), st.integers(2, 5)), elements=st.integers(0, 20).map(float)
)


@given(tables, st.integers(1, 5))
def test_a_choice_never_scores_better_than_choosing_with_the_truth(scores, seed):
    weights = np.random.default_rng(seed).integers(1, 9, scores.shape[1]).astype(float)
    best_each = np.average(scores.max(axis=0), weights=weights)
    assert cross_fitted(scores, weights).value <= best_each + 1e-12


@given(tables)
def test_one_candidate_scores_what_it_scores(scores):
    weights = np.ones(scores.shape[1])
    assert np.isclose(cross_fitted(scores[:1], weights).value, scores[0].mean())


@given(tables, st.integers(0, 4), st.floats(-50, 50))
def test_the_held_out_fold_has_no_say_in_its_choice(scores, fold, change):
    k = fold % scores.shape[1]
    changed = scores.copy()
    changed[:, k] = np.random.default_rng(0).permutation(changed[:, k]) + change
    weights = np.ones(scores.shape[1])
    assert cross_fitted(scores, weights).chosen[k] == cross_fitted(changed, weights).chosen[k]


def test_equally_good_candidates_give_the_earliest():
    assert cross_fitted(np.array([[1.0, 0.5], [0.2, 0.5]]), np.ones(2)).chosen.tolist() == [0, 0]


def test_on_scores_of_pure_chance_choosing_gains_nothing():
    """In sample the best of many candidates looks better than their mean; cross-fitted it does not."""
    rng = np.random.default_rng(0)
    gains, hopeful = [], []
    for _ in range(400):
        scores = rng.normal(0, 1, (30, 4))
        gains.append(cross_fitted(scores, np.ones(4)).value - scores.mean())
        hopeful.append(scores.mean(axis=1).max() - scores.mean())
    assert np.mean(hopeful) > 0.8
    assert abs(np.mean(gains)) < 3 * np.std(gains) / np.sqrt(len(gains))


def test_fewer_than_two_folds_with_a_score_have_no_value():
    result = cross_fitted(np.array([[0.5, np.nan], [0.6, np.nan]]), np.ones(2))
    assert np.isnan(result.value)
    assert result.chosen.tolist() == [-1, -1]
