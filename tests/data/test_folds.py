import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from hubmap_ml.data import assign_folds, stratified
from hubmap_ml.instances import Images
from hubmap_ml.spec import InputError


def table(slides):
    return Images.build(ids=[f"t{k}" for k in range(len(slides))], heights=8, widths=8, slides=list(slides))


@pytest.mark.filterwarnings("ignore:The least populated class")
@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from("abc"), min_size=12, max_size=80), st.integers(2, 4), st.integers(0, 2**31 - 1)
)
def test_folds_are_scikit_learns(labels, n, seed):
    folds = stratified(labels, n, seed)
    splitter = StratifiedKFold(n, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(labels, labels)):
        assert np.array_equal(np.flatnonzero(folds == fold), held_out)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from("ab"), min_size=10, max_size=60), st.integers(2, 5))
def test_each_class_is_spread_as_evenly_as_it_can_be(labels, n):
    folds = stratified(labels, n, 0)
    for label in set(labels):
        counts = np.bincount(folds[np.array(labels) == label], minlength=n)
        assert counts.max() - counts.min() <= 1


def test_the_reference_gets_its_fold_sizes():
    # 422 reviewed tiles, 270 of slide 1 and 152 of slide 2: folds of 85, 85, 84, 84, 84.
    folds = stratified(["1"] * 270 + ["2"] * 152, 5, 42)
    assert sorted(np.bincount(folds).tolist(), reverse=True) == [85, 85, 84, 84, 84]


def test_images_outside_the_pool_are_in_no_fold():
    images = table("aabbaabb" + "cc")
    rows = np.arange(8)
    folds = assign_folds(images, rows=rows, n=2, by="source_wsi", seed=1)
    assert folds.dtype == np.int16
    assert np.array_equal(folds[rows], stratified(list("aabbaabb"), 2, 1))
    assert (folds[8:] == -1).all()


def test_slide_and_source_wsi_are_one_column():
    images = table("aabbaabb")
    by_slide, by_wsi = (
        assign_folds(images, rows=np.arange(8), n=2, by=by, seed=5) for by in ("slide", "source_wsi")
    )
    assert np.array_equal(by_slide, by_wsi)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "grouped"}, "'grouped' is unknown: use one of stratified"),
        ({"by": "colour"}, "'colour' is no column .* dataset, slide, source_wsi"),
        ({"n": 1}, "at least 2"),
        ({"n": 9}, "cannot be split into 9 folds"),
        ({"n": 5}, "at most 4 of one class"),
        ({"rows": np.arange(0)}, "0 images"),
    ],
)
def test_what_cannot_be_done_is_said(change, message):
    with pytest.raises(InputError, match=message):
        assign_folds(table("aabbaabb"), **{"rows": np.arange(8), "n": 2, "seed": 0, **change})
