import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.spec import InputError
from tests.postprocess.dense import decided_set, dense_masks, same_sets, seeds, stepped, with_masks

SHAPES = {"square": cv2.MORPH_RECT, "cross": cv2.MORPH_CROSS, "ellipse": cv2.MORPH_ELLIPSE}


def by_opencv(mask, operations, element, iterations, border):
    """Erosions and dilations one after the other on the whole image; ``border`` is what erosion sees outside."""
    out = mask.astype(np.uint8)
    for operation in operations:
        if operation == "erode":
            outside = {"borderType": cv2.BORDER_CONSTANT, "borderValue": border}
            out = cv2.erode(out, element, iterations=iterations, **outside)
        else:
            out = cv2.dilate(out, element, iterations=iterations)
    return out.astype(bool)


ORDER = {
    "erosion": ["erode"],
    "dilation": ["dilate"],
    "opening": ["erode", "dilate"],
    "closing": ["dilate", "erode"],
}


@given(
    seed=seeds,
    step=st.sampled_from(list(ORDER)),
    kernel=st.sampled_from([1, 2, 3, 5, [2, 1], [3, 5]]),
    shape=st.sampled_from(list(SHAPES)),
    iterations=st.integers(1, 2),
    border=st.sampled_from([0, 1]),
)
@settings(max_examples=60, deadline=None)
def test_masks_are_opencvs_and_lost_instances_go(seed, step, kernel, shape, iterations, border):
    found = decided_set(seed, high=90)
    height, width = kernel if isinstance(kernel, list) else (kernel, kernel)
    element = cv2.getStructuringElement(SHAPES[shape], (width, height))
    dense = [by_opencv(mask, ORDER[step], element, iterations, border) for mask in dense_masks(found)]
    values = {"kernel": kernel, "shape": shape, "iterations": iterations}
    if step != "dilation":
        values["border"] = border
    rows = [row for row, mask in enumerate(dense) if mask.any()]
    expected = with_masks(found.take(rows), [dense[row] for row in rows])
    assert same_sets(stepped(found, **{step: values}), expected)


@given(seed=seeds, step=st.sampled_from(["opening", "closing"]))
@settings(max_examples=20, deadline=None)
def test_opening_and_closing_again_changes_nothing(seed, step):
    once = stepped(decided_set(seed, high=90), **{step: {"kernel": 3}})
    assert same_sets(stepped(once, **{step: {"kernel": 3}}), once)


def test_the_references_words_and_its_code_can_both_be_said():
    """Words: erosion, then dilation. Code: ``erosion(dilation(mask))``. By default as OpenCV computes them."""
    element = np.ones((3, 3), np.uint8)
    found = decided_set(11, n_images=5, low=40)
    masks = [mask.astype(np.uint8) for mask in dense_masks(found)]
    words = [cv2.morphologyEx(mask, cv2.MORPH_OPEN, element) for mask in masks]
    code = [cv2.erode(cv2.dilate(mask, element), element) for mask in masks]
    for steps, expected in (
        ({"opening": None}, words),
        ({"erosion": None, "dilation": None}, words),
        ({"closing": None}, code),
        ({"dilation": None, "erosion": None}, code),
    ):
        rows = [row for row, mask in enumerate(expected) if mask.any()]
        assert same_sets(
            stepped(found, **steps), with_masks(found.take(rows), [expected[row] for row in rows])
        )
    assert not all(np.array_equal(a, b) for a, b in zip(words, code, strict=True))


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ({"opening": {"kernel": 0}}, "opening.kernel is 0; a number from 1"),
        ({"opening": {"kernel": 2.5}}, "opening.kernel is 2.5; a whole number from 1"),
        ({"opening": {"kernel": [3, 3, 3]}}, r"opening.kernel is \[3, 3, 3\]; a number from 1"),
        ({"opening": {"kernel": 5000}}, "opening.kernel: a kernel of 5000 x 5000 pixels"),
        ({"closing": {"shape": "disk"}}, "closing.shape is 'disk'; allowed: square, cross, ellipse"),
        ({"erosion": {"iterations": 0}}, "erosion.iterations is 0; a number from 1"),
        ({"erosion": {"border": 2}}, "erosion.border is 2; allowed: 0, 1"),
        ({"dilation": {"border": 0}}, "unknown key 'border'; allowed: kernel, shape, iterations"),
        ({"dilation": 3}, "dilation is 3; a mapping of kernel, shape, iterations"),
    ],
)
def test_bad_values_are_one_line(steps, words):
    with pytest.raises(InputError, match=words):
        stepped(decided_set(0), **steps)
