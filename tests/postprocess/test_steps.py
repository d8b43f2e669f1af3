import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.fusion import non_maximum_suppression
from hubmap_ml.instances import BitMasks, Instances, Masks, PredictionSet
from hubmap_ml.postprocess import (
    STEPS,
    apply_steps,
    candidate_steps,
    check_classes,
    parse_steps,
    steps_to_data,
)
from hubmap_ml.spec import InputError
from tests.random_scenes import CATEGORIES, images, predictions

DATA = [
    {"score": 0.05},
    {"nms": {"iou": 0.5, "by": "box"}},
    {"mask_threshold": 0.5},
    {"min_area": 40},
    {"max_per_image": 5},
]


def test_steps_read_from_data_are_written_as_the_same_data():
    assert json.loads(json.dumps(steps_to_data(parse_steps(DATA)))) == DATA


EVERY_STEP = [
    {"score": {"default": 0.05, "per_class": {"glomerulus": 0.2}}},
    {"nms": {"iou": 0.5, "by": "box", "measure": "ios", "across_classes": True}},
    {"soft_nms": {"method": "gaussian", "iou": 0.5, "sigma": 0.4, "min_score": 0.01}},
    {"mask_threshold": {"default": 0.5, "per_class": {"vessel": 0.4}}},
    {"nms": {"iou": 0.6, "by": "mask"}},
    {"fill_holes": {"max_area": 30.0}},
    {"opening": {"kernel": 3, "shape": "ellipse", "iterations": 1, "border": 1}},
    {"closing": {"kernel": [2, 1], "shape": "square", "iterations": 2, "border": 0}},
    {"erosion": {"kernel": 2, "shape": "cross", "iterations": 1, "border": 1}},
    {"dilation": {"kernel": 3, "shape": "square", "iterations": 1}},
    {"largest_component": {"connectivity": 4}},
    {"remove_small_components": {"min_area": 5.0, "connectivity": 8}},
    {"min_area": {"default": 10.0, "per_class": {"glomerulus": 40.0}}},
    {"max_area": 5000.0},
    {"exclude_inside": {"class": "glomerulus", "share": 0.9}},
    {"image_class": {"rule": "score_sum"}},
    {"no_overlaps": {"min_area": 20.0}},
    {"max_per_image": {"count": 7, "per_class": True}},
    {"tight_boxes": {}},
]


def test_every_step_is_written_as_it_was_read_and_runs_on_any_images():
    assert {name for step in EVERY_STEP for name in step} == set(STEPS)
    steps = parse_steps(EVERY_STEP)
    assert steps_to_data(steps) == EVERY_STEP
    assert json.loads(json.dumps(steps_to_data(steps))) == EVERY_STEP
    assert parse_steps(steps_to_data(steps)) == steps
    assert len({hash(step) for step in steps}) == len(steps)
    given_set = predictions(1, count=40)
    result = apply_steps(given_set, steps)
    assert 0 < len(result) < len(given_set)
    for row in range(len(given_set.images)):
        alone = apply_steps(given_set.take_images([row]), steps)
        assert np.array_equal(alone.boxes, result.image(row).boxes)
        assert (np.diff(alone.scores) <= 0).all()


def test_every_step_leaves_images_without_instances_as_they_are():
    given_set = predictions(1, count=5)
    nothing = given_set.take([])
    assert nothing.masks is not None
    for name in STEPS:
        steps = parse_steps([one for one in EVERY_STEP if name in one])
        for found in (nothing, nothing.take_images([])):
            result = apply_steps(found, steps)
            assert len(result) == 0
            assert result.images.ids.tolist() == found.images.ids.tolist()


def test_every_step_with_defaults_may_be_written_without_values():
    """``- largest_component:`` in YAML is a step with no value."""
    names = [
        "soft_nms", "fill_holes", "opening", "closing", "erosion", "dilation", "largest_component", "no_overlaps",
        "image_class", "tight_boxes",
    ]  # fmt: skip
    for name in names:
        assert parse_steps([{name: None}]) == parse_steps([{name: {}}])


def test_a_class_that_no_prediction_will_have_is_found_before_the_work():
    check_classes(parse_steps(EVERY_STEP), ["vessel", "glomerulus"])
    check_classes(parse_steps(DATA), ["blood_vessel"])
    with pytest.raises(
        InputError, match="postprocess: score names the class 'glomerulus'; the classes are a, b"
    ):
        check_classes(parse_steps(EVERY_STEP), ["a", "b"])


def test_the_defaults_of_a_step_may_be_left_out():
    assert steps_to_data(parse_steps([{"nms": {"iou": 0.4}}])) == [{"nms": {"iou": 0.4, "by": "box"}}]
    assert steps_to_data(parse_steps([{"score": {"default": 0.4}}])) == [{"score": 0.4}]
    assert steps_to_data(parse_steps([{"max_per_image": {"count": 3}}])) == [{"max_per_image": 3}]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            [{"only_rle": True}],
            r"postprocess\[0\]: unknown step 'only_rle'; allowed: score, nms, soft_nms, mask_threshold, ",
        ),
        (
            [{"score": 0.1}, {"nms": {"iou": 0.5, "kind": "box"}}],
            r"\[1\].nms: unknown key 'kind'; allowed: iou, by",
        ),
        ([{"nms": {"iou": 0.5, "by": "rle"}}], "allowed: box, mask"),
        ([{"nms": 0.5}], "a mapping of iou, by, measure, across_classes is expected"),
        ([{"nms": {"by": "box"}}], "nms.iou is None"),
        ([{"nms": None}], "nms.iou is None; a number above 0 to 1"),
        ([{"nms": {"iou": 0.5, "measure": "iof"}}], "nms.measure is 'iof'; allowed: iou, ios"),
        ([{"nms": {"iou": 0.5, "across_classes": 1}}], "across_classes is 1; true or false is expected"),
        ([{"nms": {"iou": 0}}], "a number above 0 to 1"),
        ([{"score": 1.2}], "a number from 0 to 1"),
        ([{"score": "high"}], "score is 'high'"),
        ([{"score": True}], "score is True"),
        ([{"score": float("nan")}], "score is nan"),
        ([{"mask_threshold": 0}], "above 0 to 1"),
        ([{"min_area": -1}], "from 0 is expected"),
        ([{"min_area": float("inf")}], "from 0 is expected"),
        ([{"max_per_image": 0}], "from 1"),
        ([{"max_per_image": 2.5}], "a whole number"),
        ([{"max_per_image": {"per_class": True}}], "max_per_image.count is None"),
        ([{"max_per_image": {"count": 5, "per_class": "yes"}}], "per_class is 'yes'; true or false"),
        ([{"score": {"per_class": {"a": 0.5}}}], "score.default is None; a number from 0 to 1"),
        ([{"score": {"default": 0.5, "a": 0.5}}], "unknown key 'a'; allowed: default, per_class"),
        (
            [{"score": {"default": 0.5, "per_class": {"a": 2}}}],
            "score.per_class.a is 2; a number from 0 to 1",
        ),
        ([{"score": {"default": 0.5, "per_class": [0.5]}}], "a mapping of class names to numbers"),
        ([{"score": {"default": 0.5, "per_class": {1: 0.5}}}], "a mapping of class names to numbers"),
        ([{"mask_threshold": {"default": 0.5, "per_class": {"a": 0}}}], "per_class.a is 0; a number above 0"),
        ([{"max_area": 0}], "max_area is 0; a number above 0"),
        ([{"score": 0.1, "min_area": 3}], "a mapping of one step's name"),
        (["score"], "a mapping of one step's name"),
        ({"score": 0.1}, "a list of steps is expected"),
    ],
)
def test_bad_steps_are_one_line_that_says_what_is_allowed(data, words):
    with pytest.raises(InputError, match=words) as error:
        parse_steps(data)
    assert "\n" not in str(error.value)


def test_a_score_written_as_the_threshold_passes_it():
    for written in (0.1, 0.3, 0.7, 0.9):
        found = Instances.build([[0, 0, 1, 1]], [written], masks=None, height=4, width=4)
        one = PredictionSet.from_instances(images(1, height=4, width=4), CATEGORIES, [found])
        assert len(apply_steps(one, parse_steps([{"score": written}]))) == 1


@given(seed=st.integers(0, 2**32 - 1), bits=st.sampled_from([0.0, 0.4]))
@settings(max_examples=25, deadline=None)
def test_the_steps_do_what_they_say_one_after_the_other(seed, bits):
    """Against the plain reading of each step, image by image."""
    given_set = predictions(seed, count=30, bits=bits)
    result = apply_steps(given_set, parse_steps(DATA))
    for row in range(len(given_set.images)):
        found = given_set.image(row)
        found = found.take(np.argsort(-found.scores, kind="stable"))
        found = found.take(found.scores >= 0.05)
        found = non_maximum_suppression(found, iou_threshold=0.5)
        pixels = found.masks.binarize(0.5, found.height, found.width)
        keep = np.flatnonzero(pixels.areas() >= 40)[:5]
        assert np.array_equal(result.image(row).boxes, found.boxes[keep])
        assert np.array_equal(result.image(row).masks.bits.words, pixels.take(keep).words)


def test_results_are_by_descending_score_and_ties_keep_their_order():
    boxes = [[k, 0, k + 1, 1] for k in range(4)]
    found = Instances.build(boxes, [0.2, 0.9, 0.2, 0.9], masks=None, height=8, width=8)
    one = PredictionSet.from_instances(images(1, height=8, width=8), CATEGORIES, [found])
    assert apply_steps(one, ()).boxes[:, 0].tolist() == [1, 3, 0, 2]
    from_file = one.replace(file_order=np.array([3, 2, 1, 0]))
    assert apply_steps(from_file, ()).boxes[:, 0].tolist() == [3, 1, 2, 0]


def test_masks_without_a_pixel_are_dropped_with_the_mask_threshold():
    found = Instances.build(
        [[0, 0, 2, 2]] * 2, [0.9, 0.8], height=8, width=8,
        masks=Masks.from_bits(BitMasks.from_dense([np.zeros((8, 8)), np.eye(8)])),
    )  # fmt: skip
    one = PredictionSet.from_instances(images(1, height=8, width=8), CATEGORIES, [found])
    assert len(apply_steps(one, parse_steps([{"score": 0}]))) == 2
    assert (
        apply_steps(one, parse_steps([{"mask_threshold": 0.5}])).scores.tolist() == np.float32([0.8]).tolist()
    )


def test_images_that_lose_everything_stay():
    given_set = predictions(0)
    result = apply_steps(given_set, parse_steps([{"score": 1.0}, {"mask_threshold": 0.5}, {"min_area": 5}]))
    assert len(result) == 0
    assert len(result.images) == len(given_set.images)


def test_suppression_by_mask_comes_after_the_mask_threshold():
    given_set = predictions(0)
    steps = parse_steps([{"mask_threshold": 0.5}, {"nms": {"iou": 0.3, "by": "mask"}}])
    assert 0 < len(apply_steps(given_set, steps)) < len(given_set)
    with pytest.raises(InputError, match="put mask_threshold before it"):
        apply_steps(given_set, steps[::-1])


def test_pixels_are_asked_for_only_where_there_are_some():
    bare = predictions(0).replace(masks=None)
    on_pixels = [step for step in EVERY_STEP[4:] if not {"image_class", "max_per_image"} & set(step)]
    for step in (EVERY_STEP[3], *on_pixels):
        with pytest.raises(InputError, match="boxes only"):
            apply_steps(bare, parse_steps([step]))
    for step in on_pixels:
        for bits in (0.0, 0.5):
            with pytest.raises(
                InputError, match="still probabilities; put mask_threshold before it"
            ) as error:
                apply_steps(predictions(0, bits=bits), parse_steps([step]))
            assert "\n" not in str(error.value)
    for step in EVERY_STEP:
        if step not in (EVERY_STEP[3], *on_pixels):
            assert len(apply_steps(bare, parse_steps([step])))


def test_what_a_member_goes_through_before_fusion_ends_at_the_pixels():
    assert steps_to_data(candidate_steps(parse_steps(DATA))) == DATA[:2]
    assert candidate_steps(parse_steps([{"nms": {"iou": 0.5, "by": "mask"}}, {"score": 0.3}])) == ()
    assert steps_to_data(candidate_steps(parse_steps(EVERY_STEP))) == EVERY_STEP[:3]
    for step in EVERY_STEP[3:]:
        assert candidate_steps(parse_steps([{"score": 0.5}, step, {"score": 0.6}])) == parse_steps(
            [{"score": 0.5}]
        )
