"""Gains are scored as headlines are, on common images, with draws that are equal for both sets."""

import numpy as np
import pytest

from hubmap_ml.metrics import METRICS, evaluate, headline, paired_gain
from hubmap_ml.spec import InputError
from tests.random_scenes import images, predictions
from tests.random_scenes import truths as truth


@pytest.mark.parametrize("metric", METRICS)
def test_the_gain_of_a_set_over_itself_is_nothing(metric: str) -> None:
    table = images(12)
    target = truth(1, table=table)
    found = predictions(1, table=table, objects_seed=1, count=10)
    gain = paired_gain(metric, target, found, found, resamples=50)
    assert (gain.gain, gain.low, gain.high, gain.probability) == (0.0, 0.0, 0.0, 0.5)
    assert "cannot be told apart" in gain.words


def test_scores_are_headlines_over_folds_of_the_common_images() -> None:
    table = images(16)
    target = truth(2, table=table)
    one = predictions(2, table=table, objects_seed=2)
    common = np.setdiff1d(np.arange(16), [0, 4, 9])
    other = predictions(3, table=table, objects_seed=2).take_images(common[::-1])
    gain = paired_gain("ap60", target, one, other, resamples=200, seed=1)
    folds = [common[common % 2 == k] for k in (0, 1)]
    for found, value in ((one, gain.before), (predictions(3, table=table, objects_seed=2), gain.after)):
        scores = [evaluate("ap60", target.take_images(rows), found.take_images(rows)) for rows in folds]
        assert value == pytest.approx(headline(scores), abs=1e-12)
    assert gain.n_images == 13
    assert gain.low is not None
    assert gain.high is not None
    assert gain.low <= gain.gain <= gain.high
    assert 0 <= gain.probability <= 1
    assert gain.on_new.words == "not estimable: the files name no slides"
    again = paired_gain("ap60", target, one, other, resamples=200, seed=1)
    assert (again.low, again.high) == (gain.low, gain.high)


def test_no_common_image_is_refused() -> None:
    a, b = predictions(1, table=images(2, prefix="a")), predictions(1, table=images(2, prefix="b"))
    with pytest.raises(InputError, match="no image in common"):
        paired_gain("ap60", truth(1), a, b)


def test_few_images_have_scores_and_the_words_why_no_interval() -> None:
    target, found = truth(1), predictions(1, objects_seed=1)
    gain = paired_gain("coco_segm", target, found, found)
    assert (gain.low, gain.high) == (None, None)
    assert gain.on_these.words == "not estimable from 3 images"
    assert np.isnan(gain.probability)
    assert gain.before == gain.after
    assert "not estimable from 3 images" in gain.words
