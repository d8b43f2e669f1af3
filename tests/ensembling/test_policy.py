import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.ensembling.gate import PASSED, VersionRecord, version_tags
from hubmap_ml.ensembling.policy import (
    AGAINST_TAG,
    FORCED_TAG,
    PREDICTIONS_ONLY_TAG,
    Challenge,
    challenge_of,
    rollback_tag,
    standing,
)

WON = Challenge(0.02, 0.97, -0.001, 0.9, 0.02)
LOST = Challenge(0.001, 0.6, -0.001, 0.9, 0.02)


def version(number, against=None, *, line="data", verdict=PASSED, **tags):
    own = {f"{AGAINST_TAG}{leader}": found.to_tag() for leader, found in (against or {}).items()}
    return VersionRecord("demo.ensemble", number, {**version_tags(0.5, line, verdict=verdict), **own, **tags})


def leads(versions, line="data"):
    found = standing(versions, line=line)
    return tuple(None if one is None else one.version for one in (found.champion, found.challenger))


def test_the_first_version_of_a_line_leads():
    assert leads([version(1)]) == (1, None)
    assert leads([]) == (None, None)
    assert leads([version(1, line="older"), version(2)]) == (2, None)
    assert leads([version(1)], line="newer") == (None, None)


def test_a_certain_gain_takes_the_lead_and_an_uncertain_one_challenges():
    assert leads([version(1), version(2, {1: WON})]) == (2, None)
    assert leads([version(1), version(2, {1: LOST})]) == (1, 2)
    assert leads([version(1), version(2, {1: LOST}), version(3, {1: LOST})]) == (1, 3)
    assert leads([version(1), version(2, {1: LOST}), version(3, {1: WON})]) == (3, None)


@pytest.mark.parametrize(
    ("challenge", "won"),
    [
        (Challenge(0.1, 0.9, 0.0, 0.9, 0.02), True),
        (Challenge(0.1, 0.8999, 0.0, 0.9, 0.02), False),
        (Challenge(0.1, 0.99, -0.0201, 0.9, 0.02), False),
        (Challenge(0.1, 0.99, -0.02, 0.9, 0.02), True),
        (Challenge(0.1, 0.99, math.nan, 0.9, 0.02), True),
        (Challenge(0.1, math.nan, 0.1, 0.9, 0.02), False),
    ],
)
def test_the_policy_asks_for_probability_and_spares_every_slide(challenge, won):
    assert challenge.won is won
    again = challenge_of({f"{AGAINST_TAG}7": challenge.to_tag()}, 7)
    assert again.won is won
    assert again.to_tag() == challenge.to_tag()


def test_a_version_that_was_compared_with_another_than_the_leader_does_not_lead():
    """Two ensembles are made at the same time: both beat the champion of then, and were never compared."""
    both = [version(1), version(2, {1: WON}), version(3, {1: WON})]
    assert leads(both) == (2, 3)
    assert standing(both, line="data").missing == ((3, 2),)
    compared = [*both[:2], version(3, {1: WON, 2: WON})]
    assert leads(compared) == (3, None)
    assert standing(compared, line="data").missing == ()


def test_what_did_not_pass_or_knows_only_its_own_images_never_leads():
    assert leads([version(1), version(2, {1: WON}, verdict="failed: leak")]) == (1, None)
    only = version(2, {1: WON}, **{PREDICTIONS_ONLY_TAG: "true"})
    assert leads([version(1), only]) == (1, None)
    assert leads([only]) == (None, None)


def test_force_leads_whatever_the_comparison_says():
    assert leads([version(1), version(2, {1: LOST}, **{FORCED_TAG: "true"})]) == (2, None)


def test_a_rollback_holds_until_a_later_version_beats_who_leads_again():
    versions = [version(1, **rollback_tag(1, 2, "worse outside", time_ns=5)), version(2, {1: WON})]
    assert leads(versions) == (1, None)
    assert leads([*versions, version(3, {1: LOST})]) == (1, 3)
    assert leads([*versions, version(3, {1: WON})]) == (3, None)
    assert standing([*versions, version(3, {2: WON})], line="data").missing == ((3, 1),)


def test_rollbacks_follow_each_other_in_time_and_may_go_forward_again():
    tags = {**rollback_tag(1, 3, "a", time_ns=10), **rollback_tag(1, 3, "c", time_ns=30)}
    versions = [version(1, **tags), version(2, {1: WON}), version(3, {2: WON})]
    assert standing(versions, line="data").history == (1,)
    forward = version(3, {2: WON}, **rollback_tag(3, 3, "b", time_ns=20))
    assert standing([*versions[:2], forward], line="data").history == (1,)
    last = version(3, {2: WON}, **rollback_tag(3, 3, "d", time_ns=40))
    assert standing([*versions[:2], last], line="data").history == (1, 3)


def test_a_rollback_of_another_line_changes_nothing_here():
    old = version(1, line="older", **rollback_tag(1, 3, "x", time_ns=1))
    assert leads([old, version(2), version(3, {2: WON})]) == (3, None)


@pytest.mark.parametrize("value", ["", "no json", "[]", '{"gain": "high"}', '{"gain": 1}'])
def test_a_damaged_tag_is_no_comparison(value):
    assert challenge_of({f"{AGAINST_TAG}1": value}, 1) is None
    assert leads([version(1), version(2, **{f"{AGAINST_TAG}1": value})]) == (1, 2)


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_who_leads_depends_on_tags_alone_and_not_on_the_order_of_looking(data):
    n = data.draw(st.integers(1, 6))
    versions = []
    for number in range(1, n + 1):
        against = {
            leader: data.draw(st.sampled_from([WON, LOST]))
            for leader in range(1, number)
            if data.draw(st.booleans())
        }
        extra = {}
        if data.draw(st.integers(0, 4)) == 0:
            extra = rollback_tag(
                number, data.draw(st.integers(number, n)), "x", time_ns=data.draw(st.integers(0, 99))
            )
        versions.append(version(number, against, **extra))
    found = standing(versions, line="data")
    for order in itertools.islice(itertools.permutations(versions), 6):
        assert standing(order, line="data") == found
    assert found.champion.version == found.history[-1]
    assert found.challenger is None or found.challenger.version not in found.history
