import numpy as np
import pytest

from hubmap_ml.metrics import headline
from hubmap_ml.postprocess import parse_steps
from hubmap_ml.tuning import DirectScorer, assess, parse_space, run_study, with_setting
from tests.random_scenes import images, predictions, truths

STEPS = parse_steps([{"score": 0.01}, {"nms": {"iou": 0.5}}, {"mask_threshold": 0.6}, {"min_area": 0}])
SPACE = {"score": [0.01, 0.6], "mask_threshold": [0.3, 0.7], "min_area": [0, 100]}


@pytest.fixture(scope="module")
def made():
    table = images(12, n_folds=3)
    truth, found = truths(4, table=table), predictions(8, table=table, objects_seed=4, count=40)
    space = parse_space(SPACE, STEPS)
    study = run_study(truth, found, base_steps=STEPS, space=SPACE, trials=42, sampler="qmc", seed=2)
    return truth, found, study, assess(study, truth, found, base_steps=STEPS, space=space)


def test_gains_are_those_of_the_study_with_an_interval_around_them(made):
    _, _, study, result = made
    assert result.in_sample.before == pytest.approx(study.base_value)
    assert result.in_sample.after == pytest.approx(study.value)
    assert result.cross_fitted.before == pytest.approx(study.base_value)
    assert result.cross_fitted.after == pytest.approx(study.cross_fitted)
    for gain in (result.in_sample, result.cross_fitted):
        assert gain.low <= gain.gain <= gain.high


def test_the_cross_fitted_predictions_are_each_folds_by_the_others_choice(made):
    truth, found, study, result = made
    rows = [np.flatnonzero(found.images.folds == fold) for fold in range(3)]
    direct = DirectScorer(truth, found, rows, "ap60")
    own = [direct.scores(with_setting(STEPS, study.chosen[fold]))[fold] for fold in range(3)]
    assert result.cross_fitted.after == pytest.approx(headline(own))


def test_stability_is_how_far_the_folds_choices_lie_apart(made):
    _, _, study, result = made
    assert set(result.stability) == set(SPACE)
    for name, (low, high) in SPACE.items():
        values = [setting[name] for setting in study.chosen]
        assert result.stability[name].values == tuple(values)
        assert result.stability[name].share == pytest.approx((max(values) - min(values)) / (high - low))


def test_importance_is_shares_and_finds_the_value_that_matters(made):
    importance = made[3].importance
    assert sum(importance.values()) == pytest.approx(1)
    assert (
        next(iter(importance)) == "mask_threshold"
    )  # the masks of these scenes are too large or too small by far


def test_curves_are_of_the_predictions_before_and_after(made):
    curves = made[3].curves
    assert set(curves) == {"before", "after"}
    for curve in curves.values():
        assert len(curve.recall) == len(curve.precision) <= 200
        assert list(curve.recall) == sorted(curve.recall)


def test_one_fold_is_assessed_in_sample_only():
    table = images(4, n_folds=1)
    truth, found = truths(4, table=table), predictions(8, table=table, objects_seed=4, count=30)
    study = run_study(truth, found, base_steps=STEPS, space=SPACE, trials=3)
    result = assess(study, truth, found, base_steps=STEPS, space=parse_space(SPACE, STEPS))
    assert result.cross_fitted is None
    assert result.importance == {}
    assert all(spread.values == () for spread in result.stability.values())
