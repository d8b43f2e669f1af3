"""Overlays: sizes, what is drawn where, and what is left alone."""

import numpy as np
import pytest

from hubmap_ml.instances import Annotations, BitMasks, Category, Images, Instances, Masks, SoftMasks
from hubmap_ml.viz import draw_instances, truth_and_prediction
from hubmap_ml.viz.overlays import (
    BAR,
    FILL,
    FOUND_COLOUR,
    GAP,
    MISSED_COLOUR,
    PALETTE,
    WRONG_COLOUR,
    draw_errors,
)


def two_vessels(height: int, width: int) -> Instances:
    masks = np.zeros((2, height, width), dtype=bool)
    masks[0, 2:12, 3:20] = True
    masks[1, 20:30, 25:40] = True
    bits = BitMasks.from_dense(list(masks))
    return Instances.build(
        bits.tight_boxes(), [0.9, 0.4], masks=Masks.from_bits(bits), height=height, width=width
    )


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, dtype=np.uint8)


def nearly(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    """OpenCV's antialiased line lets a little of what is below shine through."""
    return bool(np.abs(pixel.astype(int) - colour).max() <= 30)


def test_the_halves_stand_side_by_side_under_a_caption() -> None:
    found = two_vessels(48, 60)
    picture = truth_and_prediction(grey(48, 60), found, found, min_side=120)
    assert picture.dtype == np.uint8
    assert picture.shape == (2 * 48 + BAR, 2 * 2 * 60 + GAP, 3)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((48, 60), (288, 360)), ((320, 200), (320, 200)), ((2048, 1000), (1024, 500)), ((1, 1), (320, 320))],
)
def test_small_pictures_grow_by_whole_numbers_and_large_ones_shrink(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    empty = Instances.empty(*size)
    assert draw_instances(grey(*size), empty, min_side=320).shape[:2] == expected


def test_each_instance_has_its_own_colour_on_its_own_outline() -> None:
    picture = draw_instances(grey(48, 60), two_vessels(48, 60), min_side=0)
    assert nearly(picture[7, 3], PALETTE[0])
    assert nearly(picture[25, 25], PALETTE[1])


def test_annotations_are_drawn_like_predictions() -> None:
    found = two_vessels(48, 60)
    table = Images.build(ids=["a"], heights=48, widths=60)
    assert found.masks is not None
    truth = Annotations.from_bits(table, [Category(0, "vessel")], [0, 0], found.masks.bits).image(0)
    assert np.array_equal(draw_instances(grey(48, 60), truth), draw_instances(grey(48, 60), found))


def test_inside_shines_through_and_outside_is_untouched() -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 60, 3), dtype=np.uint8)
    picture = draw_instances(image, two_vessels(48, 60))
    assert np.array_equal(picture[14:18], image[14:18])
    inside = picture[5:9, 8:15].astype(float) - (1 - FILL) * image[5:9, 8:15]
    assert np.allclose(inside, FILL * np.array(PALETTE[0]), atol=1.0)


def test_holes_stay_open() -> None:
    mask = np.zeros((40, 40), dtype=bool)
    mask[5:35, 5:35] = True
    mask[15:25, 15:25] = False
    bits = BitMasks.from_dense([mask])
    ring = Instances.build(bits.tight_boxes(), [1.0], masks=Masks.from_bits(bits), height=40, width=40)
    picture = draw_instances(grey(40, 40), ring)
    assert tuple(picture[20, 20]) == (128, 128, 128)


def test_soft_masks_are_drawn_at_their_threshold() -> None:
    soft = SoftMasks.from_crops([np.full((4, 4), 0.6, np.float32)], np.array([[4, 4, 20, 20]], np.float32))
    found = Instances.build([[4, 4, 20, 20]], [0.5], masks=Masks.from_soft(soft), height=24, width=24)
    drawn = draw_instances(grey(24, 24), found, mask_threshold=0.5)
    blank = draw_instances(grey(24, 24), found, mask_threshold=0.7)
    assert (drawn != 128).any()
    assert (blank == 128).all()


def test_instances_without_masks_are_drawn_as_boxes() -> None:
    found = Instances.build([[4, 4, 20, 18]], [0.5], masks=None, height=24, width=24)
    picture = draw_instances(grey(24, 24), found)
    assert nearly(picture[4, 10], PALETTE[0])
    assert nearly(picture[17, 10], PALETTE[0])


def test_a_tile_without_truth_shows_the_prediction_alone() -> None:
    picture = truth_and_prediction(grey(48, 60), None, two_vessels(48, 60), min_side=0, caption="tile é")
    assert picture.shape == (48 + BAR, 60, 3)
    assert truth_and_prediction(grey(48, 60), None, None, min_side=0).shape == (48 + BAR, 60, 3)


def test_the_callers_image_is_not_drawn_on() -> None:
    image = grey(48, 60)
    truth_and_prediction(image, two_vessels(48, 60), None, min_side=0)
    assert (image == 128).all()


def test_an_image_of_another_size_or_type_is_refused() -> None:
    with pytest.raises(ValueError, match="instances are on"):
        draw_instances(grey(48, 61), two_vessels(48, 60))
    with pytest.raises(ValueError, match="uint8"):
        draw_instances(np.zeros((48, 60, 3)), two_vessels(48, 60))  # type: ignore[arg-type]


def test_errors_stand_beside_truth_and_prediction_in_their_colours() -> None:
    both = two_vessels(48, 60)
    truth, found = both, two_vessels(48, 60).take([0])
    picture = truth_and_prediction(grey(48, 60), truth, found, kinds=["right"], finds=[0], min_side=0)
    assert picture.shape == (48 + BAR, 3 * 60 + 2 * GAP, 3)
    errors = picture[BAR:, -60:]
    assert nearly(errors[7, 3], FOUND_COLOUR)
    assert nearly(errors[25, 25], MISSED_COLOUR)
    assert nearly(errors[40, 5], (76, 76, 76))  # the picture itself, darkened
    wrong = draw_errors(grey(48, 60), truth.take([0]), found, ["background"], [-1])
    assert nearly(wrong[7, 3], WRONG_COLOUR) or nearly(wrong[7, 3], MISSED_COLOUR)
    assert np.array_equal(draw_errors(grey(48, 60), truth.take([]), found, ["left out"], [-1]),
                          draw_errors(grey(48, 60), truth.take([]), found.take([]), [], []))  # fmt: skip
