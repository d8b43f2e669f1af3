"""Gains are scored as headlines are, on common images, with draws that are equal for both sets."""

import numpy as np
import pytest

from hubmap_ml.metrics import average_precision, evaluate, headline, paired_gain
from hubmap_ml.metrics.judged import judge
from hubmap_ml.spec import InputError
from tests.random_scenes import images, predictions
from tests.random_scenes import truths as truth


@pytest.mark.parametrize("seed", range(4))
def test_each_image_drawn_once_is_the_score_itself(seed: int) -> None:
    target, found = truth(seed), predictions(seed, objects_seed=seed)
    judged = judge(target, found, iou_threshold=0.6)
    assert judged.average_precision() == pytest.approx(average_precision(target, found).value, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_a_draw_is_scored_like_a_set_that_holds_images_several_times(seed: int) -> None:
    table = images(4)
    target, found = truth(seed, table=table), predictions(seed, table=table, objects_seed=seed)
    draw = np.random.default_rng(seed).integers(0, 4, 4)
    rows = np.arange(4)[np.bincount(draw, minlength=4) > 0]  # what a set with unique ids can show: each once
    judged = judge(target, found, iou_threshold=0.6)
    expected = average_precision(target.take_images(rows), found.take_images(rows)).value
    assert judged.average_precision(np.isin(np.arange(4), rows).astype(np.int64)) == pytest.approx(expected)
    times = 3 * np.isin(np.arange(4), rows).astype(np.int64)
    assert judged.average_precision(times) == pytest.approx(expected)


def test_the_gain_of_a_set_over_itself_is_nothing() -> None:
    target, found = truth(1), predictions(1, objects_seed=1)
    gain = paired_gain("ap60", target, found, found, resamples=50)
    assert (gain.gain, gain.low, gain.high) == (0.0, 0.0, 0.0)


def test_scores_are_headlines_over_folds_of_the_common_images() -> None:
    table = images(6)
    target = truth(2, table=table)
    one = predictions(2, table=table, objects_seed=2)
    other = predictions(3, table=table, objects_seed=2).take_images(np.array([5, 3, 2, 1]))
    gain = paired_gain("ap60", target, one, other, resamples=200, seed=1)
    common = np.array([1, 2, 3, 5])
    folds = [common[common % 2 == k] for k in (0, 1)]
    for found, value in ((one, gain.before), (predictions(3, table=table, objects_seed=2), gain.after)):
        scores = [evaluate("ap60", target.take_images(rows), found.take_images(rows)) for rows in folds]
        assert value == pytest.approx(headline(scores), abs=1e-12)
    assert gain.n_images == 4
    assert gain.low is not None
    assert gain.high is not None
    assert gain.low <= gain.gain <= gain.high
    again = paired_gain("ap60", target, one, other, resamples=200, seed=1)
    assert (again.low, again.high) == (gain.low, gain.high)


def test_no_common_image_is_refused() -> None:
    a, b = predictions(1, table=images(2, prefix="a")), predictions(1, table=images(2, prefix="b"))
    with pytest.raises(InputError, match="no image in common"):
        paired_gain("ap60", truth(1), a, b)


def test_another_metric_has_scores_and_no_interval() -> None:
    target, found = truth(1), predictions(1, objects_seed=1)
    gain = paired_gain("coco_segm", target, found, found)
    assert gain.low is None
    assert gain.before == gain.after
