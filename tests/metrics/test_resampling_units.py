"""What is drawn: blocks that hold together what lies together, drawn slide by slide."""

import numpy as np
import pytest

from hubmap_ml.instances import Images
from hubmap_ml.metrics.resampling_kernels import LANES, draw_units
from hubmap_ml.metrics.resampling_units import blocks_in_slides, whole_slides


def grid(*sides, tile=64, positions=True, slides=None):
    """Square slides of ``side`` x ``side`` tiles."""
    names, places = [], []
    for number, side in enumerate(sides):
        names += [f"slide {number}"] * side * side
        places.append(np.mgrid[:side, :side].reshape(2, -1).T * tile)
    return Images.build(
        ids=[str(k) for k in range(len(names))],
        heights=tile,
        widths=tile,
        slides=names if slides is None else slides,
        positions=np.concatenate(places) if positions else -1,
    )


def test_blocks_are_four_tiles_a_side_where_there_are_enough():
    images = grid(8, 12, 12)
    units = blocks_in_slides(images)
    assert len(units) == 4 + 9 + 9
    assert units.freedom == 22 - 3
    assert units.words == "22 blocks of neighbouring tiles on 3 slides"
    assert np.bincount(units.of_image).tolist() == [16] * 22
    assert np.bincount(units.strata).tolist() == [4, 9, 9]
    for unit in range(len(units)):
        place = images.positions[units.of_image == unit] // 64
        assert (np.ptp(place, axis=0) == 3).all()
        assert len(set(images.slides[units.of_image == unit])) == 1


def test_few_tiles_make_smaller_blocks():
    assert (
        len(blocks_in_slides(grid(8, 8))) == 2 * 9
    )  # of three tiles: blocks of four would leave a freedom of six
    assert len(blocks_in_slides(grid(4))) == 16
    assert len(blocks_in_slides(grid(5, 12, 12))) == 4 + 9 + 9


def test_images_without_a_place_or_a_slide_are_drawn_singly():
    unplaced = blocks_in_slides(grid(4, 4, positions=False))
    assert unplaced.words == "32 images on 2 slides"
    assert np.bincount(unplaced.strata).tolist() == [16, 16]
    nowhere = blocks_in_slides(grid(4, slides=""))
    assert nowhere.words == "16 images"
    assert nowhere.freedom == 15


def test_slides_of_a_single_image_are_drawn_together():
    units = blocks_in_slides(grid(1, 1, 1, 1, 6))
    _, sizes = np.unique(units.strata, return_counts=True)
    assert sorted(sizes.tolist()) == [4, 36]
    assert len(np.unique(units.of_image)) == len(units)


def test_whole_slides_are_one_stratum():
    units = whole_slides(grid(2, 3))
    assert np.bincount(units.of_image).tolist() == [4, 9]
    assert units.freedom == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_draw_holds_as_many_units_of_each_slide_as_there_are(seed):
    images = grid(5, 8, 3)
    units = blocks_in_slides(images)
    _, first, sizes = np.unique(units.strata, return_index=True, return_counts=True)
    first, sizes = np.repeat(first, sizes), np.repeat(sizes, sizes)
    uniforms = np.random.default_rng(seed).random((3 * LANES, len(units)))
    weights = draw_units(uniforms, first, sizes, units.of_image)
    assert weights.shape == (3, len(images), LANES)
    of_unit = np.stack([weights[:, units.of_image == unit][:, 0] for unit in range(len(units))], 1)
    for unit in range(len(units)):
        together = weights[:, units.of_image == unit]
        assert (together == together[:, :1]).all()
    for stratum in np.unique(units.strata):
        assert (of_unit[:, units.strata == stratum].sum(axis=1) == (units.strata == stratum).sum()).all()
