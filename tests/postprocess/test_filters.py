import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.spec import InputError
from tests.postprocess.dense import decided_set, dense_masks, same_sets, seeds, stepped


@given(seed=seeds, least=st.sampled_from([0, 1, 20, 400]), most=st.sampled_from([1, 50, 2000]))
@settings(max_examples=60, deadline=None)
def test_areas_are_bounded_for_all_classes_or_for_one(seed, least, most):
    found = decided_set(seed)
    areas = np.array([mask.sum() for mask in dense_masks(found)], dtype=int)
    kept = stepped(found, min_area=least, max_area=most)
    assert kept.source.tolist() == np.flatnonzero((areas >= least) & (areas <= most)).tolist()
    per_class = {"default": 0, "per_class": {"glomerulus": least}}
    kept = stepped(found, min_area=per_class)
    assert kept.source.tolist() == np.flatnonzero((areas >= least) | (found.labels != 1)).tolist()
    per_class = {"default": most, "per_class": {"unsure": 10}}
    kept = stepped(found, max_area=per_class)
    limits = np.where(found.labels == 2, 10, most)
    assert kept.source.tolist() == np.flatnonzero(areas <= limits).tolist()
    assert same_sets(stepped(kept, max_area=per_class), kept)


def test_a_class_may_have_a_score_threshold_of_its_own():
    found = decided_set(3, n_images=6)
    kept = stepped(found, score={"default": 0.5, "per_class": {"glomerulus": 0.875, "unsure": 0}})
    limits = np.array([0.5, 0.875, 0.0])[found.labels]
    assert 0 < len(kept) < len(found)
    assert kept.source.tolist() == np.flatnonzero(found.scores >= limits).tolist()
    assert same_sets(stepped(found, score={"default": 0.5, "per_class": {}}), stepped(found, score=0.5))


def test_a_class_threshold_is_rounded_as_scores_are():
    found = decided_set(3, n_images=6)
    found = found.replace(scores=np.full(len(found), 0.7, np.float32))
    assert len(stepped(found, score={"default": 1, "per_class": dict.fromkeys(("vessel", "unsure"), 0.7)})) == int(
        (found.labels != 1).sum()
    )  # fmt: skip


@given(seed=seeds, count=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_the_best_of_each_image_or_of_each_of_its_classes(seed, count):
    found = decided_set(seed)
    of_image, of_class = [], []
    for row in range(len(found.images)):
        rows = np.arange(found.offsets[row], found.offsets[row + 1])
        of_image += rows[:count].tolist()
        of_class += sorted(int(r) for label in range(3) for r in rows[found.labels[rows] == label][:count])
    assert stepped(found, max_per_image=count).source.tolist() == of_image
    assert stepped(found, max_per_image={"count": count}).source.tolist() == of_image
    kept = stepped(found, max_per_image={"count": count, "per_class": True})
    assert kept.source.tolist() == of_class
    assert same_sets(stepped(kept, max_per_image={"count": count, "per_class": True}), kept)


@pytest.mark.parametrize("step", ["score", "mask_threshold", "min_area", "max_area"])
def test_a_class_that_does_not_exist_is_one_line(step):
    value = {"default": 1, "per_class": {"tubule": 1}}
    words = f"postprocess: {step} names the class 'tubule'; the classes are vessel, glomerulus, unsure"
    for found in (decided_set(0), decided_set(0, most=0), decided_set(0, n_images=0)):
        with pytest.raises(InputError, match=words) as error:
            stepped(found, **{step: value})
        assert "\n" not in str(error.value)
