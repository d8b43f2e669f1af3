import numpy as np
import pytest
from hypothesis import given, settings

from hubmap_ml.instances import Annotations, BitMasks, Images, Masks
from hubmap_ml.spec import InputError
from tests.instances.examples import (
    CATEGORIES,
    dense_mask,
    random_annotations,
    random_images,
    random_soft,
    same,
    seeds,
)


@settings(deadline=None, max_examples=40)
@given(seeds)
def test_annotations_in_any_order_are_sorted_by_image(seed):
    rng = np.random.default_rng(seed)
    images = random_images(rng, 4, low=30, high=31)
    rows = rng.integers(0, 4, 7)
    dense = [dense_mask(rng, 30, 30) for _ in rows]
    found = Annotations.from_bits(images, CATEGORIES, rows, BitMasks.from_dense(dense), rows % 2)
    order = np.argsort(rows, kind="stable")
    assert found.image_rows().tolist() == rows[order].tolist()
    assert found.labels.tolist() == (rows[order] % 2).tolist()
    assert found.areas.tolist() == [float(dense[k].sum()) for k in order]
    assert found.ids.tolist() == list(range(1, 8))
    for row in range(4):
        one = found.image(row)
        assert len(one) == np.sum(rows == row)
        assert (one.height, one.width) == (30, 30)


@settings(deadline=None, max_examples=40)
@given(seeds)
def test_taking_images_and_annotations(seed):
    rng = np.random.default_rng(seed)
    truth = random_annotations(rng, random_images(rng, 5))
    taken = truth.take_images([4, 0])
    assert taken.ids.tolist() == [*truth.image(4).ids, *truth.image(0).ids]
    assert same(truth.take_images(np.arange(5)), truth)
    chosen = rng.random(len(truth)) < 0.5
    some = truth.take(chosen)
    assert some.ids.tolist() == truth.ids[chosen].tolist()
    assert same(some.images, truth.images)


def test_categories_are_chosen_and_ordered_by_name():
    rng = np.random.default_rng(1)
    truth = random_annotations(rng, random_images(rng, 9))
    swapped = truth.with_categories(["glomerulus", "vessel"])
    assert swapped.categories == CATEGORIES[::-1]
    assert swapped.labels.tolist() == (1 - truth.labels).tolist()
    only = truth.with_categories(["glomerulus"])
    assert len(only) == np.sum(truth.labels == 1)
    assert not only.labels.any()
    assert len(only.images) == 9
    with pytest.raises(InputError, match=r"no category 'duct' .*they have vessel, glomerulus"):
        truth.with_categories(["duct"])


def test_a_mask_of_another_size_is_refused():
    images = Images.build(ids=["x"], heights=10, widths=20)
    with pytest.raises(InputError, match="'x' has"):
        Annotations.from_dense(images, CATEGORIES, [[np.zeros((20, 10))]])


def test_soft_masks_are_no_truth():
    rng = np.random.default_rng(0)
    truth = random_annotations(rng, random_images(rng, 3))
    soft = Masks.from_soft(random_soft(rng, len(truth), 9, 9))
    with pytest.raises(ValueError, match="decided"):
        truth.replace(masks=soft)
    with pytest.raises(ValueError, match="2 masks with 1 image rows"):
        Annotations.from_bits(truth.images, CATEGORIES, [0], BitMasks.empty(2))
    with pytest.raises(IndexError):
        Annotations.from_bits(truth.images, CATEGORIES, [3], BitMasks.empty(1))
