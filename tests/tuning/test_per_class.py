import numpy as np
import pytest

from hubmap_ml.metrics import evaluate
from hubmap_ml.postprocess import apply_steps, parse_steps
from hubmap_ml.spec import InputError
from hubmap_ml.tuning import assess, parse_space, run_study, run_study_per_class
from hubmap_ml.tuning.per_class import of_class
from tests.random_scenes import images, predictions, truths

STEPS = parse_steps([{"score": 0.01}, {"nms": {"iou": 0.5}}, {"mask_threshold": 0.5}, {"min_area": 0}])
SPACE = {"score": [0.01, 0.8], "min_area": [0, 200]}


@pytest.fixture(scope="module")
def scene():
    """Of the second class, most candidates with a low score are noise; of the first, none."""
    table = images(8, n_folds=2)
    truth = truths(4, table=table)
    found = predictions(8, table=table, objects_seed=4, count=40)
    return truth, found


def per_class(scene, **options):
    return run_study_per_class(
        *scene, **{"base_steps": STEPS, "space": SPACE, "trials": 12, "seed": 1, **options}
    )


def test_each_class_gets_the_values_of_a_study_on_it_alone(scene):
    truth, found = scene
    result = per_class(scene)
    for name in ("vessel", "glomerulus"):
        alone = run_study(
            of_class(truth, name), of_class(found, name), base_steps=STEPS, space=SPACE, trials=12, seed=1
        )
        assert {key: result.best_setting[f"{key}.{name}"] for key in SPACE} == alone.best_setting
        for fold in (0, 1):
            assert {key: result.chosen[fold][f"{key}.{name}"] for key in SPACE} == alone.chosen[fold]
    assert set(result.trials["class"]) == {"vessel", "glomerulus"}
    assert result.value >= result.base_value


def test_the_score_is_the_classes_mean_weighted_by_the_images_that_hold_them(scene):
    truth, found = scene
    result = per_class(scene, trials=4)
    final = apply_steps(found, parse_steps(result.best_steps))
    total = 0.0
    for fold in (0, 1):
        rows = np.flatnonzero(found.images.folds == fold)
        part, kept = truth.take_images(rows), final.take_images(rows)
        values, weights = [], []
        for name in ("vessel", "glomerulus"):
            values.append(evaluate("ap60", of_class(part, name), of_class(kept, name)).value)
            weights.append(len(np.unique(of_class(part, name).image_rows())))
        assert result.fold_values[fold] == pytest.approx(np.average(values, weights=weights))
        total += len(rows) * result.fold_values[fold] / len(found.images)
    assert result.value == pytest.approx(total)


def test_a_class_without_truths_keeps_the_base_values(scene):
    truth, found = scene
    result = per_class((of_class(truth, "vessel"), found), trials=3)
    assert set(result.best_setting) == {"score.vessel", "min_area.vessel"}


def test_a_value_that_cannot_differ_by_class_is_one_line(scene):
    with pytest.raises(InputError, match=r"nms_iou cannot differ by class; fix it in postprocess"):
        per_class(scene, space={**SPACE, "nms_iou": [0.3, 0.8]})


def test_it_is_assessed_like_any_study(scene):
    truth, found = scene
    study = per_class(scene, trials=4)
    result = assess(study, truth, found, base_steps=STEPS, space=parse_space(SPACE, STEPS))
    assert set(result.stability) == set(study.best_setting)
    assert result.cross_fitted is not None
