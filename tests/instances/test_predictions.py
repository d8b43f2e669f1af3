import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.instances import Category, Images, Instances, Masks, PredictionSet
from hubmap_ml.spec import InputError
from tests.instances.examples import (
    CATEGORIES,
    random_images,
    random_instances,
    random_masks,
    random_predictions,
    same,
    seeds,
)

kinds = st.sampled_from(["mixed", "soft", "bits", None])


def example(seed=0, count=5, kinds="mixed"):
    rng = np.random.default_rng(seed)
    return random_predictions(rng, random_images(rng, count), kinds=kinds)


@settings(deadline=None, max_examples=50)
@given(seeds, st.integers(0, 6), kinds)
def test_a_set_gives_its_images_back(seed, count, kinds):
    rng = np.random.default_rng(seed)
    images = random_images(rng, count)
    instances = [
        random_instances(
            rng, int(rng.integers(0, 4)), int(images.heights[k]), int(images.widths[k]), kinds=kinds
        )
        for k in range(count)
    ]
    found = PredictionSet.from_instances(images, CATEGORIES, instances, sources=("a", "b", "c"))
    assert len(found) == sum(len(one) for one in instances)
    for row, one in enumerate(instances):
        assert same(found.image(row), one) or len(one) == 0
        assert len(found.image(row)) == len(one)
    assert np.bincount(found.image_rows(), minlength=count).tolist() == [len(one) for one in instances]
    assert found.heights_of_instances().tolist() == images.heights[found.image_rows()].tolist()
    assert found.widths_of_instances().tolist() == images.widths[found.image_rows()].tolist()


@settings(deadline=None, max_examples=50)
@given(seeds, kinds)
def test_taking_images_in_any_order(seed, kinds):
    found = example(seed, 6, kinds)
    rows = np.random.default_rng(seed).permutation(6)[:4]
    taken = found.take_images(rows)
    assert taken.images.ids.tolist() == found.images.ids[rows].tolist()
    for k, row in enumerate(rows):
        assert same(taken.image(k), found.image(row))
    assert same(found.take_images(np.arange(6)), found)


@settings(deadline=None, max_examples=50)
@given(seeds)
def test_taking_instances_keeps_every_image(seed):
    rng = np.random.default_rng(seed)
    found = example(seed, 6)
    chosen = rng.random(len(found)) < 0.4
    taken = found.take(chosen)
    assert same(taken.images, found.images)
    assert taken.scores.tolist() == found.scores[chosen].tolist()
    assert taken.image_rows().tolist() == found.image_rows()[chosen].tolist()
    best_first = np.lexsort((-found.scores, found.image_rows()))
    assert same(found.take(best_first).take(np.argsort(best_first)), found) or len(found) == 0


def test_instances_cannot_be_taken_across_images():
    found = example(1)
    with pytest.raises(ValueError, match="images in order"):
        found.take(np.arange(len(found))[::-1])


def test_clusters_and_file_order_follow_their_instances():
    found = example(2)
    n = len(found)
    lengths = np.arange(n) % 3
    clusters = found.replace(
        cluster_offsets=np.concatenate([[0], np.cumsum(lengths)]),
        member_rows=np.arange(lengths.sum()) + 100,
        file_order=np.arange(n)[::-1].copy(),
    )
    taken = clusters.take([1, 4, 5])
    assert taken.cluster_offsets.tolist() == [0, 1, 2, 4]
    assert taken.member_rows.tolist() == [100, 103, 104, 105]
    assert taken.file_order.tolist() == [n - 2, n - 5, n - 6]
    back = clusters.take_images(np.arange(5)[::-1]).take_images(np.arange(5)[::-1])
    assert same(back, clusters)


@settings(deadline=None, max_examples=40)
@given(seeds, kinds)
def test_folds_put_together_and_taken_apart(seed, kinds):
    found = example(seed, 6, kinds)
    halves = [found.take_images([0, 2, 3]), found.take_images([1, 4, 5])]
    joined = PredictionSet.concatenate(halves)
    assert same(joined.take_images(joined.images.rows_of(list(found.images.ids))), found)


@settings(deadline=None, max_examples=40)
@given(seeds, kinds)
def test_several_opinions_side_by_side(seed, kinds):
    rng = np.random.default_rng(seed)
    images = random_images(rng, 4)
    sets = [random_predictions(rng, images, kinds=kinds) for _ in range(3)]
    shuffled = [sets[0], sets[1].take_images([3, 1, 0, 2]), sets[2].take_images([2, 3, 1, 0])]
    stacked = PredictionSet.stack_sources(shuffled, ["a", "b", "c"])
    assert stacked.sources == ("a", "b", "c")
    assert same(stacked.images, images)
    for row in range(4):
        together = stacked.image(row)
        assert together.source.tolist() == sorted(together.source)
        for source, one in enumerate(sets):
            part = together.take(together.source == source)
            assert same(part.replace(source=one.image(row).source), one.image(row))


def test_properties_that_all_share_are_kept():
    found = example(3)
    one, two = found.take_images([0, 1]), found.take_images([2, 3])
    joined = PredictionSet.concatenate([one.replace(properties={"run": "abc", "fold": "0"}), two])
    assert joined.properties == {"run": "abc"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"categories": (Category(1, "vessel"), Category(7, "duct"))}, "different categories"),
        ({"masks": None}, "one has masks"),
        ({"sources": ("none",)}, "different sources"),
    ],
)
def test_sets_that_differ_do_not_go_together(change, said):
    found = example(4)
    with pytest.raises(InputError, match=said):
        PredictionSet.concatenate([found.take_images([0, 1]), found.take_images([2, 3]).replace(**change)])


def test_an_image_may_be_in_one_of_the_sets_only():
    found = example(4)
    with pytest.raises(InputError, match="occurs twice"):
        PredictionSet.concatenate([found, found])
    with pytest.raises(InputError, match="different images"):
        PredictionSet.stack_sources([found, found.take_images([0, 1])], ["a", "b"])
    with pytest.raises(InputError, match="no predictions"):
        PredictionSet.concatenate([])


def test_instances_of_another_size_are_refused():
    images = Images.build(ids=["x"], heights=10, widths=20)
    with pytest.raises(InputError, match="'x' is 20 x 10, its instances were made for 10 x 20"):
        PredictionSet.from_instances(images, CATEGORIES, [Instances.empty(20, 10)])
    with pytest.raises(InputError, match="instances of 0 images"):
        PredictionSet.from_instances(images, CATEGORIES, [])


def test_some_images_with_masks_and_some_without_are_refused():
    rng = np.random.default_rng(0)
    images = Images.build(ids=["x", "y"], heights=10, widths=20)
    instances = [random_instances(rng, 2, 10, 20), random_instances(rng, 2, 10, 20, kinds=None)]
    with pytest.raises(InputError, match="masks for all or for none"):
        PredictionSet.from_instances(images, CATEGORIES, instances)


def test_labels_beyond_the_categories_are_refused():
    found = example(5)
    with pytest.raises(InputError, match="labels from 0 to 1 with 1 categories"):
        found.replace(categories=CATEGORIES[:1])


@pytest.mark.parametrize(
    "change",
    [
        {"boxes": np.zeros((3, 4), np.float32)},
        {"masks": random_masks(np.random.default_rng(0), 1, 5, 5)},
        {"offsets": np.zeros(6, np.int64)},
        {"cluster_offsets": np.zeros(1, np.int64)},
        {"file_order": np.zeros(1, np.int64)},
    ],
)
def test_fields_of_other_lengths_are_refused(change):
    with pytest.raises(ValueError, match=r"instances|offsets|clusters"):
        example(6).replace(**change)


def test_nothing_found_anywhere():
    images = random_images(np.random.default_rng(0), 3)
    empty = [Instances.empty(int(h), int(w)) for h, w in zip(images.heights, images.widths, strict=True)]
    found = PredictionSet.from_instances(images, CATEGORIES, empty)
    assert len(found) == 0
    assert isinstance(found.masks, Masks)
    assert len(found.take_images([2, 0])) == len(found.take([])) == len(found.image(1)) == 0
