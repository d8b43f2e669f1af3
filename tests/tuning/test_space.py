import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubmap_ml.postprocess import Nms, parse_steps
from hubmap_ml.spec import InputError
from hubmap_ml.tuning import parse_space, setting_of, value_at, with_setting

STEPS = parse_steps(
    [
        {"score": {"default": 0.1, "per_class": {"astro": 0.3}}},
        {"nms": {"iou": 0.5}},
        {"mask_threshold": 0.5},
        {"opening": {"kernel": 3, "iterations": 1}},
        {"nms": {"iou": 0.6, "by": "mask"}},
        {"min_area": 30},
        {"max_per_image": 100},
    ]
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("score", 0.1),
        ("score.astro", 0.3),
        ("score.cort", 0.1),
        ("min_area.cort", 30),
        ("mask_threshold", 0.5),
        ("opening.iterations", 1),
        ("nms[0].iou", 0.5),
        ("nms[1].iou", 0.6),
        ("nms[1].measure", "iou"),
        ("max_per_image", 100),
    ],
)
def test_values_are_named_by_step_key_and_class(name, value):
    assert value_at(STEPS, name) == value
    other = {"iou": "ios"}.get(value, 7 if isinstance(value, int) else 0.25)
    changed = with_setting(STEPS, {name: other})
    assert value_at(changed, name) == other
    for untouched in {"score", "score.astro", "min_area", "nms[0].iou", "nms[1].iou", "opening.kernel"} - {
        name
    }:
        assert value_at(changed, untouched) == value_at(STEPS, untouched)


def test_a_default_and_a_classs_own_value_change_apart():
    own = with_setting(STEPS, {"min_area.astro": 80, "min_area": 40})
    assert setting_of(own, ["min_area", "min_area.astro", "min_area.cort"]) == {
        "min_area": 40,
        "min_area.astro": 80,
        "min_area.cort": 40,
    }


@given(st.floats(0.01, 1), st.integers(0, 500), st.integers(1, 5))
def test_what_is_set_is_what_the_steps_hold(iou, area, iterations):
    setting = {"nms[0].iou": iou, "min_area": area, "opening.iterations": iterations}
    assert setting_of(with_setting(STEPS, setting), list(setting)) == setting
    assert with_setting(STEPS, setting)[1] == Nms(iou)


def test_whole_numbers_logarithms_steps_and_choices():
    space = parse_space(
        {
            "score": {"low": 0.001, "high": 0.5, "log": True},
            "nms[0].iou": {"low": 0.3, "high": 0.7, "step": 0.1},
            "opening.iterations": [1, 4],
            "nms[1].measure": {"choices": ["iou", "ios"]},
            "min_area": [0.5, 20],
            "max_per_image": 50,
        },
        STEPS,
    )
    by_name = {p.name: p for p in space.parameters}
    assert by_name["score"].log
    assert by_name["opening.iterations"].whole
    assert by_name["max_per_image"].fixed
    assert by_name["max_per_image"].only == 50
    assert (by_name["min_area"].low, by_name["min_area"].high) == (1, 20)
    assert by_name["nms[1].measure"].choices == ("iou", "ios")
    good = {"score": 0.2, "nms[0].iou": 0.3 + 0.1 * 3, "opening.iterations": 2, "nms[1].measure": "ios",
            "min_area": 5, "max_per_image": 50}  # fmt: skip
    assert space.holds(good)
    for name, bad in [
        ("nms[0].iou", 0.35),
        ("opening.iterations", 1.5),
        ("nms[1].measure", "box"),
        ("score", 0.6),
    ]:
        assert not space.holds({**good, name: bad})


def test_a_fixed_threshold_of_whole_value_stays_what_it_is():
    assert not parse_space({"score": [0, 1]}, STEPS).parameters[0].whole
    assert not parse_space({"mask_threshold": [0.2, 1]}, STEPS).parameters[0].whole


def test_masks_are_made_at_most_a_twentieth_apart():
    grid = parse_space({"mask_threshold": [0.3, 0.72]}, STEPS).mask_grid
    assert (grid[0], grid[-1]) == (0.3, 0.72)
    assert max(b - a for a, b in itertools.pairwise(grid)) <= 0.05 + 1e-9
    assert parse_space({"mask_threshold": 0.4}, STEPS).mask_grid == (0.4,)
    assert parse_space({"score": [0.1, 0.2]}, STEPS).mask_grid == ()


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"nms_iou": [0.3, 0.8]}, r"2 'nms' steps; say which one: nms\[0\]"),
        ({"nms[2].iou": [0.3, 0.8]}, "only 2 'nms' step"),
        (
            {"closing.kernel": [3, 5]},
            "no 'closing' step; add one to postprocess, or leave closing.kernel out",
        ),
        ({"opening.size": [3, 5]}, "has no 'size'; it has"),
        ({"opening": [3, 5]}, "no single value"),
        ({"nms[0].by.x": [0.1, 0.2]}, "has no 'x'"),
        ({"max_per_image.astro": [10, 20]}, "max_per_image"),
        ({"nms[0].by": {"choices": ["box", "circle"]}}, "circle"),
        ({"score": {"choices": []}}, "choices are a list"),
        ({"score": {"low": 0.0, "high": 0.5, "log": True}}, "above 0"),
        ({"score": {"low": 0.1, "high": 0.5, "step": 0}}, "step is 0"),
        ({"score": {"low": 0.1, "top": 0.5}}, "unknown key 'top'"),
        ({"nms[0].iou": [0.3, 0.95]}, "end the range at 0.9"),
        ({"opening.iterations": [1.2, 1.7]}, "opening.iterations"),
        ([0.1], "mapping of names"),
    ],
)
def test_a_bad_space_is_one_line(space, words):
    with pytest.raises(InputError, match=words) as error:
        parse_space(space, STEPS)
    assert "\n" not in str(error.value)


def test_suppression_by_mask_may_go_beyond_what_was_removed_by_box():
    assert parse_space({"nms[1].iou": [0.3, 1.0]}, STEPS).parameters[0].high == 1.0
    assert parse_space({"nms[0].iou": [0.3, 1.0]}, STEPS, deduplicated_at=1.0).parameters[0].high == 1.0
