import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.instances import Instances, PredictionSet
from hubmap_ml.postprocess import (
    MaskThreshold,
    MaxPerImage,
    MinArea,
    Nms,
    Score,
    by_descending_score,
    parse_steps,
)
from hubmap_ml.tuning import CachedScorer, DirectScorer
from tests.random_scenes import CATEGORIES, images, predictions, truths

GRID = (0.3, 0.45, 0.5, 0.7)


def both(truth, found, variants, *, folds=None):
    found = by_descending_score(found)
    folds = [np.flatnonzero(found.images.folds == k) for k in (0, 1)] if folds is None else folds
    cached = CachedScorer(truth, found, folds, variants=variants, mask_thresholds=GRID)
    return cached, DirectScorer(truth, found, folds, "ap60")


def same(a, b):
    return [(s.n_images, s.n_instances) for s in a] == [
        (s.n_images, s.n_instances) for s in b
    ] and np.array_equal([s.value for s in a], [s.value for s in b], equal_nan=True)


steps = st.builds(
    lambda score, iou, threshold, area, count: (
        Score(score), Nms(iou), MaskThreshold(threshold), MinArea(area), MaxPerImage(count),
    ),
    st.floats(0.01, 1), st.floats(0.2, 0.9), st.sampled_from(GRID), st.integers(0, 400), st.integers(1, 30),
)  # fmt: skip


@given(
    seed=st.integers(0, 2**31),
    digits=st.sampled_from([None, 1]),
    bits=st.sampled_from([0.0, 0.3, 1.0]),
    crowds=st.booleans(),
    empty=st.sampled_from([(), (0,), (0, 2)]),
    variants=st.lists(steps, min_size=1, max_size=6),
)
@settings(max_examples=40, deadline=None)
def test_cached_scores_are_the_direct_ones_to_the_bit(seed, digits, bits, crowds, empty, variants):
    table = images(4)
    rng = np.random.default_rng(seed)
    truth = truths(seed % 17, table=table, empty=empty)
    if crowds:
        truth = truth.replace(iscrowd=rng.random(len(truth)) < 0.3)
    found = predictions(seed, table=table, objects_seed=seed % 17, count=35, digits=digits, bits=bits)
    if digits:
        found = found.replace(file_order=rng.permutation(len(found)))
    floor = (Score(0.01), Nms(0.2))
    cached, direct = both(truth, found, [floor, *variants])
    for one in variants:
        assert same(cached.scores(one), direct.scores(one))


@pytest.mark.parametrize(
    "data",
    [
        [],
        [{"score": 0.2}],
        [{"mask_threshold": 0.45}],
        [{"nms": {"iou": 0.5}}, {"score": 0.2}, {"mask_threshold": 0.5}],
        [{"max_per_image": 12}, {"nms": {"iou": 0.3}}, {"mask_threshold": 0.7}, {"max_per_image": 3}],
        [{"mask_threshold": 0.3}, {"min_area": 100}, {"nms": {"iou": 0.3}}, {"nms": {"iou": 0.25}}],
        [{"mask_threshold": 0.3}, {"mask_threshold": 0.7}, {"min_area": 50}, {"score": 0.4}],
    ],
)
def test_the_order_of_the_steps_is_free(data):
    one = parse_steps(data)
    cached, direct = both(truths(5, table=images(4)), predictions(5, table=images(4), objects_seed=5), [one])
    assert same(cached.scores(one), direct.scores(one))


def test_categories_are_matched_by_name():
    table = images(4)
    found = predictions(5, table=table, objects_seed=5)
    turned = found.replace(categories=CATEGORIES[::-1], labels=1 - found.labels)
    one = parse_steps([{"score": 0.1}, {"nms": {"iou": 0.5}}, {"mask_threshold": 0.5}])
    truth = truths(5, table=table)
    a, b = (both(truth, some, [one]) for some in (found, turned))
    assert same(a[0].scores(one), b[0].scores(one))
    assert same(b[0].scores(one), b[1].scores(one))


def test_images_without_candidates_are_scored_too():
    table = images(2)
    nothing = PredictionSet.from_instances(table, CATEGORIES, [Instances.empty(96, 128)] * 2)
    one = parse_steps([{"score": 0.1}, {"nms": {"iou": 0.5}}, {"mask_threshold": 0.5}])
    cached, direct = both(truths(5, table=table), nothing, [one])
    assert same(cached.scores(one), direct.scores(one))
    assert [score.value for score in cached.scores(one)] == [0, 0]


def test_what_the_cache_does_not_know_is_said():
    def known(data, metric="ap60", all_bits=False):
        return CachedScorer.can_score(parse_steps(data), metric, all_bits=all_bits)

    assert known([{"score": 0.1}, {"nms": {"iou": 0.5}}, {"mask_threshold": 0.5}, {"min_area": 3}])
    assert not known([{"score": 0.1}], metric="coco_segm")
    assert not known([{"mask_threshold": 0.5}, {"nms": {"iou": 0.5, "by": "mask"}}])
    assert not known([{"min_area": 3}])
    for other in (
        {"score": {"default": 0.1, "per_class": {"vessel": 0.2}}},
        {"mask_threshold": {"default": 0.5, "per_class": {"vessel": 0.4}}},
        {"max_per_image": {"count": 3, "per_class": True}},
        {"nms": {"iou": 0.5, "measure": "ios"}},
        {"nms": {"iou": 0.5, "across_classes": True}},
        {"soft_nms": {}},
        {"no_overlaps": {}},
    ):
        assert not known([other], all_bits=True)
    assert known([{"min_area": 3}], all_bits=True)
