"""A view and its way back are the identity, whatever the size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.inference.views import VIEWS, check_views, flip_boxes, flip_crops, flip_image
from hubmap_ml.instances import SoftMasks
from hubmap_ml.spec import InputError

SIDES = st.integers(1, 40)


@settings(deadline=None)
@given(view=st.sampled_from(list(VIEWS)), height=SIDES, width=SIDES, seed=st.integers(0, 1000))
def test_a_view_of_a_view_is_the_image(view: str, height: int, width: int, seed: int) -> None:
    draws = np.random.default_rng(seed)
    image = draws.integers(0, 256, (height, width, 3)).astype(np.uint8)
    np.testing.assert_array_equal(flip_image(flip_image(image, view), view), image)
    corners = np.sort(draws.integers(0, 8 * np.array([width, height]) + 1, (5, 2, 2)), axis=1) / 8
    boxes = corners.reshape(5, 4).astype(np.float32)
    there = flip_boxes(boxes, view, height=height, width=width)
    np.testing.assert_array_equal(flip_boxes(there, view, height=height, width=width), boxes)
    assert np.all(there[:, :2] <= there[:, 2:])
    crops = draws.integers(0, 256, (5, 3, 4)).astype(np.uint8)
    np.testing.assert_array_equal(flip_crops(flip_crops(crops, view), view), crops)


@settings(deadline=None, max_examples=30)
@given(view=st.sampled_from(list(VIEWS)), height=SIDES, width=SIDES, seed=st.integers(0, 1000))
def test_box_and_crop_flipped_paste_to_the_flipped_mask(
    view: str, height: int, width: int, seed: int
) -> None:
    draws = np.random.default_rng(seed)
    corners = np.sort(draws.integers(0, 4 * np.array([width, height]) + 1, (1, 2, 2)), axis=1) / 4
    box = corners.reshape(1, 4).astype(np.float32)
    box[:, 2:] += 0.25
    crop = draws.integers(0, 256, (1, 7, 5)).astype(np.uint8)
    straight = SoftMasks.from_crops(crop, box).paste(0, height, width)
    flipped = SoftMasks.from_crops(flip_crops(crop, view), flip_boxes(box, view, height=height, width=width))
    columns, rows = VIEWS[view]
    expected = straight[:: -1 if rows else 1, :: -1 if columns else 1]
    np.testing.assert_allclose(flipped.paste(0, height, width), expected, atol=1e-4)


def test_a_box_at_the_left_edge_is_at_the_right_edge_of_its_mirror() -> None:
    box = np.array([[0, 2, 3, 6]], np.float32)
    assert flip_boxes(box, "hflip", height=9, width=7).tolist() == [[4, 2, 7, 6]]
    assert flip_boxes(box, "vflip", height=9, width=7).tolist() == [[0, 3, 3, 7]]
    assert flip_boxes(box, "diagonal", height=9, width=7).tolist() == [[4, 3, 7, 7]]


@pytest.mark.parametrize(("views", "match"), [(("rot90",), "'rot90' is not known"), ((), "at least one")])
def test_what_is_no_list_of_views_is_refused(views: tuple[str, ...], match: str) -> None:
    with pytest.raises(InputError, match=match):
        check_views(views)
