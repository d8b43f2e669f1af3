import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.instances import Images
from hubmap_ml.spec import InputError
from tests.instances.examples import random_images, same, seeds


def test_what_is_not_given_is_unknown():
    images = Images.build(ids=["a", "b"], heights=[3, 4], widths=5)
    assert len(images) == 2
    assert images.widths.tolist() == [5, 5]
    assert images.original_ids.tolist() == ["a", "b"]
    assert images.splits.tolist() == images.file_names.tolist() == ["", ""]
    assert images.folds.tolist() == [-1, -1]
    assert images.positions.tolist() == [[-1, -1], [-1, -1]]


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(0, 12), st.booleans())
def test_the_frame_holds_everything(seed, count, whole_ids):
    rng = np.random.default_rng(seed)
    images = random_images(
        rng, count, original_ids=list(range(10, 10 + count)) if whole_ids and count else None
    )
    frame = images.to_frame()
    assert len(frame) == count
    assert same(Images.from_frame(frame), images)
    shuffled = rng.permutation(count)
    assert same(Images.from_frame(frame.iloc[shuffled]), images.take(shuffled))
    assert (
        same(Images.concatenate([images.take(np.arange(k, k + 1)) for k in range(count)]), images)
        or count == 0
    )


def test_a_frame_needs_only_id_and_size():
    images = Images.from_frame(pd.DataFrame({"id": ["x"], "height": [2], "width": [3], "colour": ["red"]}))
    assert same(images, Images.build(ids=["x"], heights=[2], widths=[3]))
    with pytest.raises(InputError, match="no column 'width'"):
        Images.from_frame(pd.DataFrame({"id": ["x"], "height": [2]}))


def test_rows_of_ids():
    images = Images.build(ids=["a", "b", "c"], heights=1, widths=1)
    assert images.rows_of(["c", "a", "c"]).tolist() == [2, 0, 2]
    assert images.has(["c", "d"]).tolist() == [True, False]
    with pytest.raises(InputError, match="1 of 2 images are not in this set of 3: 'd'"):
        images.rows_of(["a", "d"])


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"ids": ["a", "a"], "heights": 1, "widths": 1}, "'a' occurs twice"),
        ({"ids": ["a", "b"], "heights": [1, 0], "widths": 1}, "image 'b' has size 1 x 0"),
        ({"ids": [1, 2], "heights": 1, "widths": 1}, "expected text"),
        (
            {"ids": ["a", "b"], "heights": 1, "widths": 1, "original_ids": ["x", 3]},
            "all whole numbers or all text",
        ),
        ({"ids": ["a", "b"], "heights": 1, "widths": 1, "slides": ["x", None]}, "its slide is None"),
    ],
)
def test_wrong_columns_are_refused(columns, said):
    with pytest.raises(InputError, match=said):
        Images.build(**columns)


def test_an_unknown_column_or_another_length_is_a_mistake_of_the_caller():
    with pytest.raises(TypeError, match="colours"):
        Images.build(ids=["a"], heights=1, widths=1, colours="red")
    with pytest.raises(ValueError, match="2 values"):
        Images.build(ids=["a"], heights=1, widths=1, slides=["x", "y"])
    with pytest.raises(ValueError, match="1 images with 2"):
        Images.build(ids=["a"], heights=1, widths=1).replace(folds=np.zeros(2, np.int16))


def test_replacing_a_column_keeps_the_rest():
    images = Images.build(ids=["a", "b"], heights=3, widths=4)
    folds = np.array([0, 1], np.int16)
    assert same(images.replace(folds=folds).replace(folds=images.folds), images)
    assert images.replace(folds=folds).folds.tolist() == [0, 1]
