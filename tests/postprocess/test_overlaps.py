import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.instances import BitMasks
from hubmap_ml.postprocess.image_pixels import union_of_groups, without_earlier
from hubmap_ml.spec import InputError
from tests.postprocess.dense import CLASSES, decided_set, dense_masks, same_sets, seeds, stepped, with_masks


@given(seed=seeds, least=st.sampled_from([0, 1, 30, 500]))
@settings(max_examples=80, deadline=None)
def test_each_pixel_goes_to_the_highest_scored_that_holds_it(seed, least):
    found = decided_set(seed)
    dense, rows, left = dense_masks(found), [], []
    for image in range(len(found.images)):
        used = np.zeros((found.images.heights[image], found.images.widths[image]), bool)
        for row in range(found.offsets[image], found.offsets[image + 1]):
            mask = dense[row] & ~used
            used |= dense[row]
            if mask.any() and mask.sum() >= least:
                rows.append(row)
                left.append(mask)
    result = stepped(found, no_overlaps={"min_area": least})
    assert same_sets(result, with_masks(found.take(rows), left))
    assert same_sets(stepped(result, no_overlaps={"min_area": least}), result)


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_no_pixel_is_lost_and_none_is_held_twice(seed):
    found = decided_set(seed)
    result = stepped(found, no_overlaps=None)
    before, after = dense_masks(found), dense_masks(result)
    for image in range(len(found.images)):
        held = sum((m.astype(int) for m in after[result.offsets[image] : result.offsets[image + 1]]), 0)
        wanted = sum((m.astype(int) for m in before[found.offsets[image] : found.offsets[image + 1]]), 0)
        assert np.all(held == np.minimum(wanted, 1))


@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_unions_and_what_is_left_are_masks_like_any_other(seed):
    """Words and windows are those that the dense mask would be packed into."""
    found = decided_set(seed)
    dense = dense_masks(found)
    unions = []
    for image in range(len(found.images)):
        union = np.zeros((found.images.heights[image], found.images.widths[image]), bool)
        for row in range(found.offsets[image], found.offsets[image + 1]):
            union |= dense[row]
        unions.append(union)
    bits, expected = union_of_groups(found.masks.bits, found.offsets), BitMasks.from_dense(unions)
    assert np.array_equal(bits.words, expected.words)
    assert np.array_equal(bits.windows, expected.windows)
    apart = without_earlier(found.masks.bits, np.arange(len(found) + 1))
    assert np.array_equal(apart.words, found.masks.bits.words)


@given(seed=seeds, share=st.sampled_from([0.1, 0.5, 0.75, 1.0]), region=st.integers(0, 2))
@settings(max_examples=80, deadline=None)
def test_what_lies_inside_the_union_of_a_class_is_dropped(seed, share, region):
    found = decided_set(seed)
    dense, keep = dense_masks(found), []
    for image in range(len(found.images)):
        rows = range(found.offsets[image], found.offsets[image + 1])
        inside = np.zeros((found.images.heights[image], found.images.widths[image]), bool)
        for row in rows:
            if found.labels[row] == region:
                inside |= dense[row]
        for row in rows:
            area = dense[row].sum()
            if found.labels[row] == region or area == 0 or (dense[row] & inside).sum() / area < share:
                keep.append(row)
    values = {"class": CLASSES[region].name, "share": share}
    result = stepped(found, exclude_inside=values)
    assert result.source.tolist() == keep
    assert same_sets(stepped(result, exclude_inside=values), result)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (
            {"exclude_inside": {"class": "tubule"}},
            "exclude_inside names the class 'tubule'; the classes are ves",
        ),
        ({"exclude_inside": {"share": 0.5}}, "exclude_inside.class is None; the name of a class is expected"),
        ({"exclude_inside": {"class": "vessel", "share": 0}}, "share is 0; a number above 0 to 1"),
        ({"exclude_inside": {"klass": "vessel"}}, "unknown key 'klass'; allowed: class, share"),
        ({"no_overlaps": {"min_area": -1}}, "no_overlaps.min_area is -1; a number from 0"),
        ({"no_overlaps": {"area": 1}}, "unknown key 'area'; allowed: min_area"),
        ({"no_overlaps": True}, "no_overlaps is True; a mapping of min_area"),
    ],
)
def test_bad_values_are_one_line(steps, words):
    with pytest.raises(InputError, match=words) as error:
        stepped(decided_set(0), **steps)
    assert "\n" not in str(error.value)
