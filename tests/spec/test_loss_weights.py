"""Weights of losses say what they should in each iteration, and stand for the terms that they name."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubmap_ml.spec import InputError
from hubmap_ml.spec.loss_weights import check_loss_weights, decaying_losses, rule_of, weight_at


def course(rule: Any, *, epochs: int, length: int) -> list[float]:
    at = {"epochs": epochs, "iterations": epochs * length}
    return [weight_at(rule, epoch=i // length, iteration=i, **at) for i in range(epochs * length)]


def test_weights_go_in_a_line_in_steps_by_a_list_or_stay() -> None:
    line = {"start": 1.0, "end": 0.5}
    assert course(line, epochs=3, length=2) == pytest.approx([1, 0.9, 0.8, 0.7, 0.6, 0.5])
    assert course({**line, "by": "epoch"}, epochs=3, length=2) == [1, 1, 0.75, 0.75, 0.5, 0.5]
    assert course([1, 0.2, 3], epochs=3, length=2) == [1, 1, 0.2, 0.2, 3, 3]
    assert course(2, epochs=2, length=1) == [2, 2]
    assert course(line, epochs=1, length=1) == [1]


@pytest.mark.parametrize(
    ("term", "name"),
    [
        ("loss_cls", "loss_cls"),
        ("s1.loss_cls", "loss_cls"),
        ("s2.loss_mask", "s2.loss_mask"),
        ("s1.loss_mask", "loss_mask"),
        ("loss_rpn_cls0_w0.5", "loss_rpn_cls"),
        ("s0.loss_mask1", "loss_mask"),
        ("s2.loss_mask0_w0.5", "loss_mask"),
        ("loss_semantic_seg", None),
        ("my_loss_cls", None),
    ],
)
def test_a_name_stands_for_a_term_of_all_stages_and_pyramids(term: str, name: str | None) -> None:
    names = dict.fromkeys(("loss_cls", "loss_mask", "s2.loss_mask", "loss_rpn_cls"), 1.0)
    assert rule_of(term, names) == name


@given(epochs=st.integers(1, 40))
def test_the_reference_course_is_its_formula_and_adds_up_to_one(epochs: int) -> None:
    weights = decaying_losses(epochs)
    check_loss_weights(weights, epochs, "here")
    for e in range(1, epochs + 1):
        classes = Fraction(epochs + 3 - e, epochs + 2)
        slow = Fraction(epochs + 2 - e // 2, epochs + 2)
        total = 1 + classes + 3 * slow
        of = {"loss_mask": Fraction(1), "loss_cls": classes, "loss_bbox": slow}
        for name, value in of.items():
            assert weights[name][e - 1] == pytest.approx(float(value / total))
        assert sum(course[e - 1] for course in weights.values()) == pytest.approx(1)
    with_branch = decaying_losses(epochs, semantic=True)
    assert with_branch["loss_semantic_seg"] == with_branch["loss_mask"] == weights["loss_mask"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "must be a dict by the names"),
        ({}, "must be a dict by the names"),
        ({"loss_cls": {"start": 1}}, "loss_cls must have start, end and perhaps by, not start"),
        ({"loss_cls": {"start": 1, "end": 0, "by": "step"}}, "by is 'step'; allowed: iteration, epoch"),
        ({"loss_cls": [1.0]}, "loss_cls has 1 weights for 2 epochs"),
        ({"loss_cls": [1.0, -1]}, "a weight is a number from 0, not -1"),
        ({"loss_cls": True}, "a weight is a number from 0, not True"),
        ({"loss_cls": float("nan")}, "a weight is a number from 0, not nan"),
        ({"loss_cls": "half"}, "a weight is a number from 0, not 'half'"),
    ],
)
def test_weights_that_cannot_be_followed_are_one_line(value: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_loss_weights(value, 2, "member.py")
