"""Every image once is the metric itself, and draws are scored like sets that hold images several times."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.metrics import area_under, evaluate
from hubmap_ml.metrics.judged import EVERY_RECALL, RankedDetections, in_lanes, value_of
from hubmap_ml.metrics.judging import judge
from hubmap_ml.spec import InputError
from tests.metrics.scenes import bar, predicted, random_scene, truth_of

METRICS = ("ap60", "coco_segm", "dice", "dsb_map")
seeds = st.integers(0, 2**32 - 1)


def repeated(item, times):
    """A set in which image ``m`` stands ``times[m]`` times, under new names."""
    rows = np.repeat(np.arange(len(times)), times)
    taken = item.take_images(rows)
    names = [f"{name} / {k}" for k, name in enumerate(taken.images.ids)]
    ids = np.array(names, object)
    return taken.replace(images=taken.images.replace(ids=ids, original_ids=ids))


@pytest.mark.parametrize("metric", METRICS)
@settings(deadline=None, max_examples=40)
@given(seeds)
def test_every_image_once_is_the_metric_itself(metric, seed):
    truth, found = random_scene(np.random.default_rng(seed), n_categories=2, crowds=True)
    expected = evaluate(metric, truth, found).value
    assert value_of(judge(metric, truth, found)) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("metric", METRICS)
@settings(deadline=None, max_examples=40)
@given(seeds)
def test_a_draw_is_scored_like_a_set_that_holds_images_several_times(metric, seed):
    """With scores that all differ: ties inside a repeated image would come in another order."""
    rng = np.random.default_rng(seed)
    truth, found = random_scene(rng, n_categories=2, crowds=True)
    found = found.replace(scores=rng.permutation(len(found)).astype(np.float32) / max(len(found), 1))
    times = rng.integers(0, 4, len(truth.images))
    if not times.any():
        return
    expected = evaluate(metric, repeated(truth, times), repeated(found, times)).value
    got = value_of(judge(metric, truth, found), times)
    assert got == pytest.approx(expected, abs=1e-12, nan_ok=True)


@settings(deadline=None, max_examples=60)
@given(seeds)
def test_many_draws_are_scored_like_loops_over_each(seed):
    rng = np.random.default_rng(seed)
    n_images, n = int(rng.integers(1, 7)), int(rng.integers(0, 40))
    images, hits = rng.integers(0, n_images, n).astype(np.int32), rng.random(n) < 0.5
    truths = np.bincount(images[hits], minlength=n_images) + rng.integers(0, 3, n_images)
    draws = rng.integers(0, 4, (37, n_images))
    for levels in (EVERY_RECALL, np.linspace(0, 1, 101)):
        judged = RankedDetections((images,), (hits,), truths[None], levels)
        got = judged.values(in_lanes(draws)).reshape(-1)
        for draw, value in zip(draws, got, strict=False):
            assert value == pytest.approx(
                by_loops(images, hits, truths, draw, levels), abs=1e-12, nan_ok=True
            )
        assert np.isnan(got[len(draws) :]).all()


def by_loops(images, hits, truths, draw, levels):
    """A draw's counts, the envelope, and its area or its mean at COCO's levels (``COCOeval.accumulate``)."""
    total = int(truths @ draw)
    if not total:
        return np.nan
    found, tried = np.cumsum(draw[images] * hits), np.cumsum(draw[images])
    recall, precision = found / total, found / np.maximum(tried, 1)
    if not len(levels):
        return area_under(recall, precision)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, levels, side="left")
    return float(np.mean([envelope[at] if at < len(envelope) else 0.0 for at in places]))


@pytest.mark.parametrize("metric", METRICS)
def test_some_images_are_judged_as_they_are_alone(metric):
    truth, found = random_scene(np.random.default_rng(3), count=8, n_categories=2)
    rows = np.array([1, 4, 5, 7])
    alone = judge(metric, truth.take_images(rows), found.take_images(rows))
    assert value_of(judge(metric, truth, found).take(rows)) == value_of(alone)


def test_draws_without_a_truth_have_no_score():
    truth, found = truth_of([[bar(0, 10)], []]), predicted([[(bar(0, 10), 0.9)], [(bar(0, 10), 0.9)]])
    for metric in METRICS:
        judged = judge(metric, truth, found)
        assert np.isnan(value_of(judged, [0, 2]))
        assert value_of(judged, [2, 0]) == 1


def test_a_metric_that_is_not_told_image_by_image_is_refused():
    truth, found = truth_of([[bar(0, 10)]]), predicted([[(bar(0, 10), 0.9)]])
    with pytest.raises(InputError, match="no metric"):
        judge("accuracy", truth, found)
