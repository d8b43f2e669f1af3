import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.spec import InputError
from tests.postprocess.dense import decided_set, dense_masks, same_sets, seeds, stepped
from tests.random_scenes import predictions


@given(seed=seeds, bits=st.sampled_from([0.0, 0.5]))
@settings(max_examples=20, deadline=None)
def test_a_class_may_have_a_mask_threshold_of_its_own(seed, bits):
    found = predictions(seed, count=15, bits=bits)
    kept = stepped(found, mask_threshold={"default": 0.3, "per_class": {"glomerulus": 0.7}})
    both = {label: stepped(found, mask_threshold=at) for label, at in ((0, 0.3), (1, 0.7))}
    for label, one in both.items():
        rows = np.flatnonzero(one.labels == label)
        mine = kept.take(np.flatnonzero(kept.labels == label))
        assert same_sets(mine, one.take(rows))
    assert kept.masks.all_bits


@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_boxes_laid_around_the_pixels(seed):
    found = decided_set(seed)
    tight = stepped(found, tight_boxes={})
    for row, mask in enumerate(dense_masks(found)):
        y, x = np.nonzero(mask)
        expected = [x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else found.boxes[row]
        assert np.array_equal(tight.boxes[row], np.float32(expected))
    assert same_sets(stepped(tight, tight_boxes={}), tight)
    assert tight.boxes.dtype == np.float32
    assert same_sets(tight.replace(boxes=found.boxes), found)


def test_boxes_stay_the_detectors_until_they_are_asked_to_be_tight():
    found = decided_set(5, n_images=6, low=40)
    opened = stepped(found, opening={"kernel": 3})
    rows = opened.source
    assert np.array_equal(opened.boxes, found.boxes[rows])
    assert not np.array_equal(stepped(opened, tight_boxes=None).boxes, opened.boxes)


def test_tight_boxes_have_no_keys():
    with pytest.raises(InputError, match=r"tight_boxes: unknown key 'by'; allowed: no keys"):
        stepped(decided_set(0), tight_boxes={"by": "mask"})
    with pytest.raises(InputError, match=r"tight_boxes is False; a mapping of no keys is expected"):
        stepped(decided_set(0), tight_boxes=False)
