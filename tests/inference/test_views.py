"""A view and its way back are the identity, whatever the size."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.inference.views import (
    VIEWS,
    boxes_from_view,
    boxes_in_view,
    check_views,
    crops_from_view,
    crops_in_view,
    view_of_image,
)
from hubmap_ml.instances import SoftMasks
from hubmap_ml.spec import InputError
from hubmap_ml.spec.members import View

SIDES = st.integers(1, 41)


def boxes_of(draws: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    corners = np.sort(draws.integers(0, 8 * np.array([width, height]) + 1, (count, 2, 2)), axis=1) / 8
    return corners.reshape(count, 4).astype(np.float32)


@settings(deadline=None)
@given(view=st.sampled_from(list(VIEWS)), height=SIDES, width=SIDES, seed=st.integers(0, 1000))
def test_the_way_back_undoes_a_view(view: str, height: int, width: int, seed: int) -> None:
    draws = np.random.default_rng(seed)
    boxes = boxes_of(draws, 5, height, width)
    there = boxes_in_view(boxes, view, height=height, width=width)
    np.testing.assert_array_equal(boxes_from_view(there, view, height=height, width=width), boxes)
    assert np.all(there[:, :2] <= there[:, 2:])
    crops = draws.integers(0, 256, (5, 3, 4)).astype(np.uint8)
    np.testing.assert_array_equal(crops_from_view(crops_in_view(crops, view), view), crops)


@settings(deadline=None)
@given(view=st.sampled_from(list(VIEWS)), height=SIDES, width=SIDES, seed=st.integers(0, 1000))
def test_boxes_go_where_their_pixels_go(view: str, height: int, width: int, seed: int) -> None:
    """Pixels of a box, seen through the view, are the pixels of the box in the view; crops too."""
    draws = np.random.default_rng(seed)
    x0, y0 = draws.integers(0, width), draws.integers(0, height)
    x1, y1 = draws.integers(x0, width) + 1, draws.integers(y0, height) + 1
    image = draws.integers(0, 256, (height, width, 3)).astype(np.uint8)
    seen = view_of_image(image, view)
    assert seen.shape == ((width, height, 3) if VIEWS[view].transposed else (height, width, 3))
    box = boxes_in_view(np.float32([[x0, y0, x1, y1]]), view, height=height, width=width)[0].astype(int)
    inside = seen[box[1] : box[3], box[0] : box[2], 0]
    np.testing.assert_array_equal(crops_in_view(image[None, y0:y1, x0:x1, 0], view)[0], inside)
    np.testing.assert_array_equal(crops_from_view(inside[None], view)[0], image[y0:y1, x0:x1, 0])


@settings(deadline=None, max_examples=40)
@given(view=st.sampled_from(list(VIEWS)), height=SIDES, width=SIDES, seed=st.integers(0, 1000))
def test_box_and_crop_of_a_view_paste_to_the_view_of_the_mask(
    view: str, height: int, width: int, seed: int
) -> None:
    draws = np.random.default_rng(seed)
    box = boxes_of(draws, 1, height, width)
    box[:, 2:] += 0.25
    crop = draws.integers(0, 256, (1, 7, 5)).astype(np.uint8)
    straight = SoftMasks.from_crops(crop, box).paste(0, height, width)
    there = boxes_in_view(box, view, height=height, width=width)
    size = (width, height) if VIEWS[view].transposed else (height, width)
    seen = SoftMasks.from_crops(crops_in_view(crop, view), there).paste(0, *size)
    expected = view_of_image(np.repeat(straight[..., None], 3, axis=2), view)[..., 0]
    np.testing.assert_allclose(seen, expected, atol=1e-4)


def test_the_views_are_the_eight_ways_to_lay_a_square_on_itself() -> None:
    image = np.arange(3 * 3 * 3, dtype=np.uint8).reshape(3, 3, 3)
    expected = {
        "none": image,
        "hflip": image[:, ::-1],
        "vflip": image[::-1],
        "diagonal": np.rot90(image, 2),
        "transpose": image.swapaxes(0, 1),
        "rot90": np.rot90(image),
        "rot270": np.rot90(image, 3),
        "transverse": np.rot90(image.swapaxes(0, 1), 2),
    }
    assert list(VIEWS) == list(expected)
    for view, seen in expected.items():
        np.testing.assert_array_equal(view_of_image(image, view), seen)
    assert len({seen.tobytes() for seen in expected.values()}) == 8


def test_an_experiment_may_name_every_view() -> None:
    assert get_args(View) == tuple(VIEWS)


def test_a_box_at_the_left_edge_is_at_the_right_edge_of_its_mirror() -> None:
    box = np.array([[0, 2, 3, 6]], np.float32)
    expected = {
        "hflip": [4, 2, 7, 6],
        "vflip": [0, 3, 3, 7],
        "diagonal": [4, 3, 7, 7],
        "transpose": [2, 0, 6, 3],
        "rot90": [2, 4, 6, 7],
        "rot270": [3, 0, 7, 3],
    }
    for view, moved in expected.items():
        assert boxes_in_view(box, view, height=9, width=7).tolist() == [moved]


@pytest.mark.parametrize(("views", "match"), [(("rot45",), "'rot45' is not known"), ((), "at least one")])
def test_what_is_no_list_of_views_is_refused(views: tuple[str, ...], match: str) -> None:
    with pytest.raises(InputError, match=match):
        check_views(views)
