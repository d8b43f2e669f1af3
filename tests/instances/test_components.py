import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.morphology import remove_small_holes, remove_small_objects

from hubmap_ml.instances import BitMasks
from hubmap_ml.instances.components import (
    count_components,
    fill_holes,
    largest_component,
    without_small_components,
)
from hubmap_ml.spec import InputError
from tests.instances.examples import dense_mask, same, seeds

connectivities = st.sampled_from([4, 8])


@st.composite
def dense_masks(draw):
    height, width = draw(st.integers(1, 200)), draw(st.integers(1, 120))
    rng = np.random.default_rng(draw(seeds))
    masks = [dense_mask(rng, height, width) for _ in range(draw(st.integers(0, 5)))]
    # coarse noise: parts and holes of many sizes
    grains = rng.random((height // 5 + 1, width // 4 + 1)) < rng.uniform(0.3, 0.8)
    masks.append(np.kron(grains, np.ones((5, 4), bool))[:height, :width])
    return masks


def structure(connectivity):
    return ndimage.generate_binary_structure(2, 1 if connectivity == 4 else 2)


@settings(deadline=None, max_examples=120)
@given(dense_masks(), connectivities)
def test_parts_are_counted_as_scipy_counts_them(dense, connectivity):
    expected = [ndimage.label(mask, structure(connectivity))[1] for mask in dense]
    got = count_components(BitMasks.from_dense(dense), connectivity=connectivity)
    assert got.tolist() == expected


@settings(deadline=None, max_examples=120)
@given(dense_masks(), connectivities)
def test_holes_are_those_that_scipy_fills_in_the_whole_image(dense, connectivity):
    expected = [ndimage.binary_fill_holes(mask, structure(connectivity)) for mask in dense]
    assert same(
        fill_holes(BitMasks.from_dense(dense), connectivity=connectivity), BitMasks.from_dense(expected)
    )


@settings(deadline=None, max_examples=120)
@given(dense_masks(), connectivities, st.integers(0, 60))
def test_holes_up_to_a_size_are_filled(dense, connectivity, most):
    expected = []
    for mask in dense:
        enclosed = ndimage.binary_fill_holes(mask, structure(connectivity)) & ~mask
        large = remove_small_objects(enclosed, max_size=most, connectivity=1 if connectivity == 4 else 2)
        expected.append(mask | (enclosed & ~large))
    got = fill_holes(BitMasks.from_dense(dense), max_area=most, connectivity=connectivity)
    assert same(got, BitMasks.from_dense(expected))


def test_inside_an_image_without_openings_it_is_skimages_small_holes():
    """skimage also fills background at the image's edge; with a wide edge the two are the same."""
    rng = np.random.default_rng(0)
    for most in (1, 4, 20, 100):
        mask = np.pad(np.kron(rng.random((15, 20)) < 0.7, np.ones((3, 3), bool)), 12)
        expected = remove_small_holes(mask, max_size=most, connectivity=1)
        assert same(fill_holes(BitMasks.from_dense([mask]), max_area=most), BitMasks.from_dense([expected]))


@settings(deadline=None, max_examples=120)
@given(dense_masks(), connectivities, st.integers(0, 80))
def test_small_parts_go_as_by_skimage(dense, connectivity, least):
    order = 1 if connectivity == 4 else 2
    expected = [remove_small_objects(mask, max_size=least - 1, connectivity=order) for mask in dense]
    got = without_small_components(BitMasks.from_dense(dense), least, connectivity=connectivity)
    assert same(got, BitMasks.from_dense(expected))


@settings(deadline=None, max_examples=120)
@given(dense_masks(), connectivities)
def test_the_largest_part_stays_and_of_equal_ones_the_first_down_the_columns(dense, connectivity):
    expected = []
    for mask in dense:
        labels, count = ndimage.label(mask.T, structure(connectivity))  # numbered in column order
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        expected.append(np.argmax(sizes) + 1 == labels.T if count else mask)
    got = largest_component(BitMasks.from_dense(dense), connectivity=connectivity)
    assert same(got, BitMasks.from_dense(expected))


def test_the_notch_at_the_edge_of_the_image_is_no_hole():
    mask = np.ones((64, 9), bool)
    mask[60:, 4] = False  # opens downwards, to the image's last row
    mask[30, 3] = False
    got = fill_holes(BitMasks.from_dense([mask])).to_dense(0, 64, 9)
    assert got[30, 3]
    assert not got[60:, 4].any()


def test_a_ring_that_touches_by_corners_encloses_where_background_spreads_by_sides_only():
    ring = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)
    masks = BitMasks.from_dense([ring])
    assert fill_holes(masks).areas().tolist() == [5]
    assert fill_holes(masks, connectivity=8).areas().tolist() == [4]
    assert count_components(masks, connectivity=4).tolist() == [4]
    assert count_components(masks).tolist() == [1]


def test_limits_need_not_be_whole():
    mask = np.zeros((9, 9), bool)
    mask[1, 1:4] = True
    masks = BitMasks.from_dense([mask])
    assert without_small_components(masks, 2.5).areas().tolist() == [3]
    assert without_small_components(masks, 3.5).areas().tolist() == [0]


@pytest.mark.parametrize("count", [0, 2000])
def test_none_and_many_masks(count):
    rng = np.random.default_rng(0)
    dense = rng.random((count, 20, 30)) < 0.4
    masks = BitMasks.from_dense(dense)
    assert len(largest_component(masks)) == len(fill_holes(masks)) == len(count_components(masks)) == count
    assert count_components(masks).tolist() == [ndimage.label(mask, np.ones((3, 3)))[1] for mask in dense]


def test_what_is_filled_stays_filled_and_what_is_kept_stays():
    rng = np.random.default_rng(1)
    masks = BitMasks.from_dense([dense_mask(rng, 130, 70) for _ in range(40)])
    filled, largest = fill_holes(masks), largest_component(masks)
    assert same(fill_holes(filled), filled)
    assert same(largest_component(largest), largest)
    assert set(count_components(largest).tolist()) <= {0, 1}


@pytest.mark.parametrize("work", [fill_holes, largest_component, count_components])
def test_another_connectivity_is_refused(work):
    with pytest.raises(InputError, match="connectivity of 6: 4"):
        work(BitMasks.empty(1), connectivity=6)
