"""Entries of the score log: completed, never quietly contradicted."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.spec import InputError, LoggedSubmission

DIGESTS = ("a" * 64, "b" * 64)
scores = st.none() | st.floats(0, 1)
texts = st.sampled_from(["", "x", "y"])
entries = st.builds(
    LoggedSubmission,
    name=st.sampled_from(["one", "two"]),
    digest=st.sampled_from(["", *DIGESTS]),
    model=texts,
    public=scores,
    private=scores,
    cv=scores,
    cv_metric=texts,
    folds=texts,
    note=texts,
)


@given(entries, entries)
@settings(deadline=None)
def test_completing_loses_nothing_and_twice_is_once(
    before: LoggedSubmission, after: LoggedSubmission
) -> None:
    whole = before.completed_by(after, correct=True)
    for field in dataclasses.fields(LoggedSubmission):
        said = [getattr(one, field.name) for one in (after, before)]
        assert getattr(whole, field.name) == next(
            (value for value in said if value not in (None, "")), said[0]
        )
    assert whole.completed_by(after) == whole


def test_a_contradiction_names_both_and_the_way_out() -> None:
    before = LoggedSubmission("a", public=0.3)
    with pytest.raises(InputError, match=r"a: public is 0\.3 in the log and 0\.4 now; --correct"):
        before.completed_by(LoggedSubmission("a", public=0.4))
    assert before.completed_by(LoggedSubmission("a", public=0.4), correct=True).public == 0.4
    assert before.completed_by(LoggedSubmission("a", note="later")).note == "later"


def test_the_same_file_is_the_same_submission_whatever_it_is_called() -> None:
    one = LoggedSubmission("a", digest=DIGESTS[0])
    assert one.is_same_as(LoggedSubmission("b", digest=DIGESTS[0]))
    assert not one.is_same_as(LoggedSubmission("a", digest=DIGESTS[1]))
    assert one.is_same_as(LoggedSubmission("a"))
    assert not LoggedSubmission("a", date="Monday").is_same_as(LoggedSubmission("a", date="Tuesday"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": ""}, "neither a file nor a name"),
        ({"name": "a", "digest": "1234"}, "no SHA-256"),
        ({"name": "a", "public": float("nan")}, "public is nan"),
    ],
)
def test_what_is_no_submission_is_refused(values: dict, said: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(InputError, match=said):
        LoggedSubmission(**values)
