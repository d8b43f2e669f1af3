import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.ensembling import Forward, Limits, forward_selection
from hubmap_ml.spec import InputError

FOLDS = (10, 10, 10)


def mean_of_votes(votes, seen=None):
    """Members are vectors a fold; an ensemble scores minus the squared distance of their mean to 0."""

    def table(counts):
        if seen is not None:
            seen.append(counts)
        mean = np.tensordot(np.asarray(counts, float), votes, 1) / sum(counts)  # (K, D)
        return -(mean**2).mean(axis=1)[None]

    return table


def members(seed, n, folds=3, size=6):
    return np.random.default_rng(seed).normal(0, 1, (n, folds, size))


def test_it_begins_with_the_best_sorted_members_and_adds_one_each_round():
    found = forward_selection(mean_of_votes(members(1, 5)), 5, FOLDS, how=Forward(rounds=8))
    assert [sum(counts) for counts in found.path] == list(range(1, 9))
    assert all(np.all(np.subtract(b, a) >= 0) for a, b in itertools.pairwise(found.path))
    table = mean_of_votes(members(1, 5))
    singles = [float(table(tuple(np.eye(5, dtype=int)[k])).mean()) for k in range(5)]
    assert found.path[0].index(1) == int(np.argmax(singles))
    assert found.counts in found.path


@given(seed=st.integers(0, 500), n=st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_every_pick_is_the_best_there_is(seed, n):
    """After the sorted start each ensemble is the best of all that one more pick can make."""
    votes = members(seed, n)
    table = mean_of_votes(votes)
    found = forward_selection(table, n, FOLDS, how=Forward(rounds=6))

    def score(counts):
        return table(counts).mean()

    ranked = sorted(range(n), key=lambda k: -score(tuple(np.eye(n, dtype=int)[k])))
    prefixes = [tuple(int(k in ranked[: size + 1]) for k in range(n)) for size in range(min(n, 6))]
    start = int(np.argmax([score(counts) for counts in prefixes])) + 1
    assert found.path[:start] == tuple(prefixes[:start])
    for before, after in itertools.pairwise(found.path[start - 1 :]):
        best = max(score(tuple(np.add(before, np.eye(n, dtype=int)[k]))) for k in range(n))
        assert score(after) == pytest.approx(best)


def test_the_prefix_is_chosen_by_folds_that_did_not_build_it():
    """Members that lift one fold and spoil the others look like a gain to two folds, and are not believed."""

    def table(counts):
        scores = np.full(3, 0.9 if counts[0] else 0.0)
        for k in range(3):
            if counts[k + 1]:
                scores += np.where(np.arange(3) == k, 0.3, -0.2)
        return scores[None]

    found = forward_selection(table, 4, FOLDS, how=Forward(rounds=3))
    assert found.counts == (1, 0, 0, 0)
    assert found.cross_fitted[0] == pytest.approx(0.9)
    assert found.cross_fitted[1] == pytest.approx(0.7)


def test_a_held_out_fold_steers_nothing():
    """What is chosen by two folds is the same whatever a third would say: it is not even asked for."""
    votes = members(3, 4)
    two = forward_selection(mean_of_votes(votes[:, :2]), 4, FOLDS[:2])
    again = forward_selection(mean_of_votes(votes[:, :2].copy()), 4, FOLDS[:2])
    assert two == again
    with_empty = np.concatenate([votes[:, :2], np.full((4, 1, 6), np.nan)], axis=1)
    assert forward_selection(mean_of_votes(with_empty), 4, FOLDS).counts == two.counts


def test_with_a_single_fold_the_prefix_is_chosen_on_it():
    found = forward_selection(mean_of_votes(members(2, 3, folds=1)), 3, (10,))
    assert found.cross_fitted == ()
    assert found.counts == found.path[int(np.argmax(found.seen))]


def test_an_ensemble_of_opposites_beats_its_members():
    votes = np.stack([np.ones((3, 4)), -np.ones((3, 4)), np.full((3, 4), 3.0)])
    found = forward_selection(mean_of_votes(votes), 3, FOLDS)
    assert found.counts[0] == found.counts[1] > 0
    assert found.counts[2] == 0


@given(seed=st.integers(0, 100), bags=st.sampled_from([1, 4]), budget=st.sampled_from([1.0, 2.5]))
@settings(max_examples=25, deadline=None)
def test_limits_hold_for_every_prefix(seed, bags, budget):
    limits = Limits(costs=(0.5, 0.7, 1.4, 2.0, 0.4), budget_s=budget, max_members=2)
    found = forward_selection(
        mean_of_votes(members(seed, 5)), 5, FOLDS, how=Forward(rounds=6, bags=bags, seed=seed), limits=limits
    )
    assert all(limits.allow(counts) for counts in (found.counts, *found.path))
    assert any(found.counts)


def test_no_member_within_the_budget_is_said_in_one_line():
    with pytest.raises(InputError, match=r"budget_s_per_tile 0\.1"):
        forward_selection(
            mean_of_votes(members(0, 2)), 2, FOLDS, limits=Limits(costs=(1.0, 2.0), budget_s=0.1)
        )


def test_a_member_counts_once_however_often_it_is_picked():
    limits = Limits(costs=(1.0, 9.0), budget_s=1.0, max_members=1)
    assert limits.allow((7, 0))
    assert not limits.allow((1, 1))


def test_bags_are_drawn_from_the_seed_and_added():
    votes = members(5, 6)

    def found(seed):
        return forward_selection(mean_of_votes(votes), 6, FOLDS, how=Forward(rounds=5, bags=8, seed=seed))

    assert found(1) == found(1)
    assert found(1).path != found(2).path
    assert [sum(counts) for counts in found(1).path] == [8 * (place + 1) for place in range(5)]


def test_only_the_library_is_picked_from():
    found = forward_selection(mean_of_votes(members(5, 5)), 5, FOLDS, library=[1, 3])
    assert {k for counts in found.path for k, count in enumerate(counts) if count} <= {1, 3}
