import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hubmap_ml.spec import InputError
from tests.postprocess.dense import decided_set, dense_masks, same_sets, seeds, stepped, with_masks

CONNECTED = {4: ndimage.generate_binary_structure(2, 1), 8: np.ones((3, 3), bool)}


def parts_of(mask, connectivity):
    """The connected parts, those whose first pixel comes first (columns before rows) in front."""
    numbered, count = ndimage.label(mask.T, structure=CONNECTED[connectivity])
    return [(numbered == k + 1).T for k in range(count)]


def expected_set(found, change):
    """Every mask changed, those without a pixel dropped."""
    dense = [change(mask) for mask in dense_masks(found)]
    rows = [row for row, mask in enumerate(dense) if mask.any()]
    return with_masks(found.take(rows), [dense[row] for row in rows])


@given(seed=seeds, connectivity=st.sampled_from([4, 8]))
@settings(max_examples=30, deadline=None)
def test_the_largest_part_stays(seed, connectivity):
    found = decided_set(seed, high=70)

    def largest(mask):
        parts = parts_of(mask, connectivity)
        return max(parts, key=lambda part: part.sum()) if parts else mask

    result = stepped(found, largest_component={"connectivity": connectivity})
    assert same_sets(result, expected_set(found, largest))
    assert same_sets(stepped(result, largest_component={"connectivity": connectivity}), result)


@given(seed=seeds, connectivity=st.sampled_from([4, 8]), least=st.sampled_from([0, 2, 9.5, 100]))
@settings(max_examples=30, deadline=None)
def test_small_parts_go_and_an_instance_of_small_parts_goes_with_them(seed, connectivity, least):
    found = decided_set(seed, high=70)

    def large(mask):
        out = np.zeros_like(mask)
        for part in parts_of(mask, connectivity):
            if part.sum() >= least:
                out |= part
        return out

    values = {"min_area": least, "connectivity": connectivity}
    result = stepped(found, remove_small_components=values)
    assert same_sets(result, expected_set(found, large))
    assert same_sets(stepped(result, remove_small_components=values), result)


@given(seed=seeds, most=st.sampled_from([None, 1, 2, 20]))
@settings(max_examples=30, deadline=None)
def test_holes_are_filled(seed, most):
    found = decided_set(seed, high=70)

    def filled(mask):
        out = mask.copy()
        for hole in parts_of(ndimage.binary_fill_holes(mask) & ~mask, 4):
            if most is None or hole.sum() <= most:
                out |= hole
        return out

    result = stepped(found, fill_holes={"max_area": most})
    assert same_sets(result, expected_set(found, filled))
    assert same_sets(stepped(result, fill_holes={"max_area": most}), result)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ({"largest_component": {"connectivity": 6}}, "largest_component.connectivity is 6; allowed: 4, 8"),
        ({"largest_component": {"connectivity": True}}, "connectivity is True; allowed: 4, 8"),
        ({"remove_small_components": None}, "remove_small_components.min_area is None; a number from 0"),
        ({"remove_small_components": {"area": 3}}, "unknown key 'area'; allowed: min_area, connectivity"),
        ({"fill_holes": {"max_area": 0}}, "fill_holes.max_area is 0; a number above 0"),
        ({"fill_holes": True}, "fill_holes is True; a mapping of max_area"),
    ],
)
def test_bad_values_are_one_line(steps, words):
    with pytest.raises(InputError, match=words):
        stepped(decided_set(0), **steps)
