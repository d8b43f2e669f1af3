import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.metrics import average_precision, score_curve
from tests.metrics.scenes import bar, predicted, random_scene, truth_of


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_each_point_is_what_remains_above_its_threshold(seed):
    truth, found = random_scene(np.random.default_rng(seed))
    whole = average_precision(truth, found)
    curve = score_curve(whole.recall, whole.precision, whole.scores)
    assert (np.diff(curve.thresholds) < 0).all()
    for k, threshold in enumerate(curve.thresholds):
        part = average_precision(truth, found.take(found.scores >= threshold))
        assert (part.recall[-1], part.precision[-1]) == (curve.recall[k], curve.precision[k])
        total = part.recall[-1] + part.precision[-1]
        f1 = 2 * part.recall[-1] * part.precision[-1] / total if total else 0
        assert curve.f1[k] == pytest.approx(f1)
    if len(curve.f1):
        assert curve.best_f1 == curve.f1.max()


def test_the_best_threshold_is_the_score_of_the_last_good_detection():
    truth = truth_of([[bar(0, 10), bar(20, 30)]])
    found = predicted([[(bar(0, 10), 0.9), (bar(20, 30), 0.5), (bar(50, 60), 0.4)]])
    whole = average_precision(truth, found)
    curve = score_curve(whole.recall, whole.precision, whole.scores)
    assert (curve.best_threshold, curve.best_f1) == (0.5, 1.0)


def test_nothing_found_has_no_threshold():
    curve = score_curve(np.zeros(0), np.zeros(0), np.zeros(0))
    assert np.isnan(curve.best_threshold)
    assert (curve.best_f1, len(curve.thresholds)) == (0.0, 0)
