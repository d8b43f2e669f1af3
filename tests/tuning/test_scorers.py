"""The cached scorer says what the direct one says, to the bit, whatever steps and metric it is asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.instances import Instances, PredictionSet
from hubmap_ml.metrics import METRICS
from hubmap_ml.postprocess import (
    MaskThreshold,
    MaxArea,
    MaxPerImage,
    MinArea,
    Nms,
    Score,
    apply_steps,
    by_descending_score,
    parse_steps,
)
from hubmap_ml.spec import InputError
from hubmap_ml.tuning import CachedScorer, DirectScorer
from tests.random_scenes import CATEGORIES, images, predictions, truths

GRID = (0.3, 0.45, 0.5, 0.7)
FLOOR = (Score(0.01), Nms(0.2), Nms(0.2, "box", "ios", True), MaskThreshold(0.5), Nms(0.1, "mask"))


def both(truth, found, variants, *, metric="ap60", folds=None):
    found = by_descending_score(found)
    folds = [np.flatnonzero(found.images.folds == k) for k in (1, 0)] if folds is None else folds
    cached = CachedScorer(truth, found, folds, metric=metric, variants=variants, mask_thresholds=GRID)
    return cached, DirectScorer(truth, found, folds, metric)


def same(a, b):
    return (
        [(s.metric, s.n_images, s.n_instances) for s in a] == [(s.metric, s.n_images, s.n_instances) for s in b]
        and np.array_equal([s.value for s in a], [s.value for s in b], equal_nan=True)
        and all(s.details[name] == value for r, s in zip(a, b, strict=True) for name, value in r.details.items())
    )  # fmt: skip


def scene(seed, *, crowds=False, empty=(), digits=None, bits=0.0, count=35):
    """Truth and candidates of four images in two folds, with ties in score where ``digits`` is given."""
    table = images(4)
    rng = np.random.default_rng(seed)
    truth = truths(seed % 17, table=table, empty=empty)
    if crowds:
        truth = truth.replace(iscrowd=rng.random(len(truth)) < 0.3)
    found = predictions(seed, table=table, objects_seed=seed % 17, count=count, digits=digits, bits=bits)
    if digits and seed % 2:
        found = found.replace(file_order=rng.permutation(len(found)))
    return truth, found


def per_class(low, high):
    return st.one_of(
        st.just({}), st.dictionaries(st.sampled_from([c.name for c in CATEGORIES]), st.floats(low, high), max_size=2)
    )  # fmt: skip


filters = st.one_of(
    st.builds(Score, st.floats(0.01, 1), per_class(0.01, 1)),
    st.builds(Nms, st.floats(0.2, 0.9)),
    st.builds(Nms, st.floats(0.1, 0.9), st.just("box"), st.sampled_from(["iou", "ios"]), st.booleans()),
    st.builds(MaxPerImage, st.integers(1, 30), st.booleans()),
)
pixel_filters = st.one_of(
    filters,
    st.builds(MinArea, st.integers(0, 400), per_class(0, 400)),
    st.builds(MaxArea, st.integers(100, 2000), per_class(100, 2000)),
    st.builds(Nms, st.floats(0.05, 0.9), st.just("mask"), st.sampled_from(["iou", "ios"]), st.booleans()),
)
steps = st.tuples(
    st.lists(filters, max_size=3),
    st.builds(MaskThreshold, st.sampled_from((*GRID, 0.6))),
    st.lists(pixel_filters, max_size=3),
).map(lambda parts: (*parts[0], parts[1], *parts[2]))


@given(
    seed=st.integers(0, 2**31), digits=st.sampled_from([None, 1]), bits=st.sampled_from([0.0, 0.3, 1.0]),
    crowds=st.booleans(), empty=st.sampled_from([(), (0,), (0, 2)]), metric=st.sampled_from(METRICS),
    variants=st.lists(steps, min_size=1, max_size=4),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_cached_scores_are_the_direct_ones_to_the_bit(seed, digits, bits, crowds, empty, metric, variants):
    truth, found = scene(seed, crowds=crowds, empty=empty, digits=digits, bits=bits)
    cached, direct = both(truth, found, [FLOOR, variants[0]], metric=metric)
    for one in variants:
        assert same(cached.scores(one), direct.scores(one))


LAZY = [
    [{"score": 0.1}, {"nms": {"iou": 0.5}}, {"mask_threshold": 0.52}, {"min_area": 30}],
    [{"score": 0.1}, {"soft_nms": {"method": "gaussian"}}, {"mask_threshold": 0.5}, {"max_per_image": 8}],
    [
        {"nms": {"iou": 0.5}},
        {"mask_threshold": 0.5},
        {"min_area": 20},
        {"tight_boxes": {}},
        {"nms": {"iou": 0.3}},
    ],
    [
        {"nms": {"iou": 0.5}},
        {"mask_threshold": 0.5},
        {"nms": {"iou": 0.3, "by": "mask"}},
        {"no_overlaps": {}},
    ],
    [{"nms": {"iou": 0.5}}, {"mask_threshold": {"default": 0.5, "per_class": {CATEGORIES[0].name: 0.45}}}],
    [{"mask_threshold": 0.3}, {"mask_threshold": 0.7}, {"min_area": 50}, {"score": 0.4}],
    [{"score": 0.001}, {"nms": {"iou": 0.05}}, {"mask_threshold": 0.5}],  # under the floors of what was built
    [{"score": 0.1}],
    [],
]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("data", LAZY, ids=str)
@pytest.mark.parametrize("bits", [0.0, 1.0])
def test_what_the_cache_does_not_know_is_scored_all_the_same(metric, data, bits):
    truth, found = scene(5, bits=bits)
    one = parse_steps(data)
    cached, direct = both(truth, found, [FLOOR, (Score(0.05), Nms(0.3), MaskThreshold(0.5))], metric=metric)
    assert same(cached.scores(one), direct.scores(one))
    alone, _ = both(truth, found, [one], metric=metric)
    assert same(alone.scores(one), direct.scores(one))


def test_only_what_survives_the_filters_is_pasted(monkeypatch):
    truth, found = scene(5)
    one = parse_steps([{"score": 0.5}, {"nms": {"iou": 0.3}}, {"mask_threshold": 0.52}])
    cached, _ = both(truth, found, [FLOOR])
    pasted = []

    def apply(self, predictions):
        pasted.append(len(predictions))
        return right(self, predictions)

    right = MaskThreshold.apply
    monkeypatch.setattr(MaskThreshold, "apply", apply)
    cached.scores(one)
    monkeypatch.undo()
    assert pasted == [len(apply_steps(found, one[:2]))]


@pytest.mark.parametrize("metric", METRICS)
def test_categories_are_matched_by_name(metric):
    truth, found = scene(5)
    turned = found.replace(categories=CATEGORIES[::-1], labels=1 - found.labels)
    one = parse_steps([{"score": 0.1}, {"nms": {"iou": 0.5}}, {"mask_threshold": 0.5}])
    a, b = (both(truth, some, [one], metric=metric) for some in (found, turned))
    assert same(a[0].scores(one), b[0].scores(one))
    assert same(b[0].scores(one), b[1].scores(one))


@pytest.mark.parametrize("metric", METRICS)
def test_images_without_candidates_are_scored_too(metric):
    table = images(2)
    nothing = PredictionSet.from_instances(table, CATEGORIES, [Instances.empty(96, 128)] * 2)
    one = parse_steps([{"score": 0.1}, {"nms": {"iou": 0.5}}, {"mask_threshold": 0.5}])
    cached, direct = both(truths(5, table=table), nothing, [one], metric=metric)
    assert same(cached.scores(one), direct.scores(one))
    assert [score.value for score in cached.scores(one)] == [0, 0]


def test_images_of_no_fold_do_not_count():
    truth, found = scene(5)
    one = parse_steps([{"score": 0.1}, {"nms": {"iou": 0.5}}, {"mask_threshold": 0.5}])
    for metric in METRICS:
        cached, direct = both(truth, found, [one], metric=metric, folds=[np.array([3]), np.array([2, 0])])
        assert same(cached.scores(one), direct.scores(one))


def test_a_class_that_there_is_not_is_refused_as_by_the_step():
    truth, found = scene(5)
    cached, _ = both(truth, found, [FLOOR])
    for step in (Score(0.5, {"cell": 0.1}), MinArea(5, {"cell": 3})):
        with pytest.raises(InputError, match="'cell'"):
            cached.scores((MaskThreshold(0.5), step))


def test_trials_without_pixels_are_known():
    def known(data, metric="ap60", all_bits=False):
        return CachedScorer.can_score(parse_steps(data), metric, all_bits=all_bits)

    whole = [{"score": 0.1}, {"nms": {"iou": 0.5}}, {"mask_threshold": 0.5}, {"min_area": 3}]
    assert known(whole)
    assert known(whole, metric="coco_segm")
    assert known(whole, metric="dsb_map")
    assert not known(whole, metric="dice")
    assert known([{"mask_threshold": 0.5}, {"nms": {"iou": 0.5, "by": "mask"}}])
    assert not known([{"nms": {"iou": 0.5, "by": "mask"}}])
    assert not known([{"min_area": 3}])
    for filter_ in (
        {"score": {"default": 0.1, "per_class": {"vessel": 0.2}}},
        {"max_per_image": {"count": 3, "per_class": True}},
        {"nms": {"iou": 0.5, "measure": "ios"}},
        {"nms": {"iou": 0.5, "across_classes": True}},
    ):
        assert known([filter_])
    for other in (
        {"mask_threshold": {"default": 0.5, "per_class": {"vessel": 0.4}}},
        {"soft_nms": {}},
        {"no_overlaps": {}},
    ):
        assert not known([other], all_bits=True)
    assert known([{"min_area": 3}], all_bits=True)
    assert not known([{"soft_nms": {}}, {"mask_threshold": 0.5}])
