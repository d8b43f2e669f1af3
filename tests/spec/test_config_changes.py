import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.spec import Change, config_changes

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(VALUES)
def test_a_configuration_does_not_differ_from_itself(value: object) -> None:
    assert config_changes(value, value) == []


@settings(deadline=None)
@given(VALUES, VALUES)
def test_what_differs_is_said_from_both_sides(a: object, b: object) -> None:
    there, back = config_changes(a, b), config_changes(b, a)
    assert {item.path for item in there} == {item.path for item in back}
    assert bool(there) == (repr_sorted(a) != repr_sorted(b))


def repr_sorted(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{repr_sorted(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(repr_sorted, value)) + "]"
    return repr(value)


def test_places_are_named_by_dots_and_numbers() -> None:
    before = {"optimizer": {"lr": 0.1, "momentum": 0.9}, "steps": [{"a": 1}, {"b": 2}], "size": (1, 2)}
    after = {"optimizer": {"lr": 0.2, "nesterov": True}, "steps": [{"a": 1}, {"b": 3}], "size": (1, 3)}
    assert config_changes(before, after) == [
        Change("optimizer.lr", "changed", 0.1, 0.2),
        Change("optimizer.momentum", "removed", before=0.9),
        Change("optimizer.nesterov", "added", after=True),
        Change("steps.1.b", "changed", 2, 3),
        Change("size", "changed", (1, 2), (1, 3)),
    ]


@pytest.mark.parametrize(("before", "after"), [(1, True), (1, 1.0), ((1,), [1]), ([1], [1, 2])])
def test_types_and_lengths_count(before: object, after: object) -> None:
    assert config_changes({"a": before}, {"a": after}) == [Change("a", "changed", before, after)]
