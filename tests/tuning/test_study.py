import dataclasses

import numpy as np
import pandas as pd
import pytest

from hubmap_ml.instances import Annotations
from hubmap_ml.metrics import data_science_bowl, evaluate, headline
from hubmap_ml.postprocess import Nms, apply_steps, parse_steps, steps_to_data
from hubmap_ml.spec import InputError
from hubmap_ml.tuning import SAMPLERS, CachedScorer, ScoreMismatch, run_study
from tests.random_scenes import images, predictions, truths

BASE = parse_steps(
    [
        {"score": 0.001},
        {"nms": {"iou": 0.5}},
        {"mask_threshold": 0.5},
        {"min_area": 0},
        {"max_per_image": 100},
    ]
)
SPACE = {"score": [0.001, 0.6], "nms_iou": [0.3, 0.8], "mask_threshold": [0.3, 0.7], "min_area": [0, 120]}


def scene(count=6, n_folds=2, **options):
    table = images(count, n_folds=n_folds)
    return truths(4, table=table), predictions(8, table=table, objects_seed=4, count=40, **options)


def study(truth=None, found=None, **options):
    if found is None:
        truth, found = scene()
    given = {"base_steps": BASE, "space": SPACE, "trials": 12, "seed": 3}
    return run_study(truth, found, **{**given, **options})


def test_the_best_steps_give_the_studys_value_on_the_direct_path():
    truth, found = scene()
    result = study(truth, found, trials=25)
    scores = []
    for fold in (0, 1):
        rows = np.flatnonzero(found.images.folds == fold)
        kept = apply_steps(found.take_images(rows), parse_steps(result.best_steps))
        scores.append(evaluate("ap60", truth.take_images(rows), kept))
    assert result.value == headline(scores)
    assert result.fold_values == tuple(score.value for score in scores)
    assert result.mismatch == 0


def test_the_base_steps_are_the_first_trial_and_the_floor():
    result = study()
    assert result.value >= result.base_value > 0
    first = result.trials.iloc[0]
    assert first["value"] == result.base_value
    assert [first[name] for name in SPACE] == [0.001, 0.5, 0.5, 0]
    alone = study(trials=1)
    assert alone.best_steps == steps_to_data(BASE)
    assert alone.value == alone.base_value == result.base_value


def test_the_base_steps_may_lie_outside_of_the_space():
    base = parse_steps([{"score": 0.9}, {"nms": {"iou": 0.25}}, {"mask_threshold": 0.55}, {"min_area": 500}])
    result = study(base_steps=base)
    assert result.trials.loc[0, "mask_threshold"] == 0.55
    assert result.value > result.base_value
    assert result.mismatch == 0


def test_the_same_seed_is_the_same_study():
    a, b, other = study(), study(), study(seed=4)
    pd.testing.assert_frame_equal(a.trials, b.trials)
    assert (a.value, a.cross_fitted, a.best_steps, a.chosen) == (
        b.value,
        b.cross_fitted,
        b.best_steps,
        b.chosen,
    )
    assert not a.trials["score"].equals(other.trials["score"])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_sampler_makes_the_same_study_of_the_same_seed_and_is_cross_fitted(sampler):
    a, b = (study(sampler=sampler, trials=16) for _ in range(2))
    pd.testing.assert_frame_equal(a.trials, b.trials)
    assert a.value >= a.base_value
    assert np.isfinite(a.cross_fitted)
    own = a.trials.loc[a.trials["part"] != "fixed", "part"]
    assert set(own) == ({"all", "without_0", "without_1"} if sampler in ("tpe", "cmaes") else set())
    assert a.trials["part"].isin(["fixed", "all"]).sum() == (13 if sampler == "grid" else 16)


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "qmc"])
def test_a_held_out_folds_truth_steers_nothing_that_is_chosen_for_it(sampler):
    """The other fold's truths replaced by others: what fold 0 is scored with stays."""
    truth, found = scene()
    table = truth.images
    other = truths(99, table=table)
    mixed = [truth.image(k) if k % 2 else other.image(k) for k in range(len(table))]
    changed = Annotations.from_dense(
        table,
        truth.categories,
        [
            [one.masks.bits.to_dense(i, one.height, one.width) for i in range(len(one.labels))]
            for one in mixed
        ],
        [one.labels for one in mixed],
    )
    first, second = (study(item, found, sampler=sampler, trials=20) for item in (truth, changed))
    assert first.chosen[0] == second.chosen[0]
    assert first.chosen[1] != second.chosen[1]
    parts = [item.trials[item.trials["part"] == "without_0"][list(SPACE)] for item in (first, second)]
    pd.testing.assert_frame_equal(*(part.reset_index(drop=True) for part in parts))


def test_every_trial_lies_in_the_space():
    trials = study(trials=40).trials
    for name, (low, high) in SPACE.items():
        assert trials[name].between(low, high).all()
    assert trials["mask_threshold"].nunique() > 30
    assert (trials["min_area"] % 1 == 0).all()


def test_the_value_of_a_trial_is_its_folds_mean_weighted_by_images():
    truth, found = scene(5)
    result = study(truth, found)
    assert result.fold_images == (3, 2)
    expected = (3 * result.trials["fold_0"] + 2 * result.trials["fold_1"]) / 5
    assert np.allclose(result.trials["value"], expected, rtol=0, atol=1e-15)


def test_the_cross_fitted_value_scores_each_fold_by_the_choice_of_the_others():
    truth, found = scene(9, n_folds=3)
    result = study(truth, found, trials=30)
    trials = result.trials
    total = 0.0
    for k in range(3):
        own = trials[trials["part"].isin(["fixed", f"without_{k}"]) & trials["exact"]]
        chosen = int(own[[f"fold_{j}" for j in range(3) if j != k]].mean(axis=1).idxmax())
        assert result.chosen[k] == {name: trials.loc[chosen, name] for name in SPACE}
        total += trials.loc[chosen, f"fold_{k}"] / 3
    assert result.cross_fitted == pytest.approx(total)


def test_one_fold_has_no_cross_fitted_value():
    result = study(folds=np.full(6, -1))
    assert np.isnan(result.cross_fitted)
    assert result.chosen == (None,)
    assert result.folds == (-1,)


def test_a_fold_without_truths_is_left_out():
    table = images(6, n_folds=3)
    truth = truths(4, table=table, empty=(2, 5))
    result = study(truth, predictions(8, table=table, objects_seed=4, count=40))
    assert np.isnan(result.fold_values[2])
    assert result.chosen[2] is None
    assert np.isfinite([result.value, result.cross_fitted]).all()


def test_fixed_values_and_unnamed_ones_are_not_searched():
    result = study(space={"score": [0.1, 0.1], "mask_threshold": 0.4, "nms_iou": [0.3, 0.8]})
    searched = result.trials.iloc[1:]
    assert set(searched["score"]) == {0.1}
    assert set(searched["mask_threshold"]) == {0.4}
    assert searched["nms_iou"].nunique() > 3
    assert "min_area" not in result.trials


def test_other_metrics_and_steps_go_the_direct_way():
    truth, found = scene(2)
    steps = parse_steps([{"score": 0.1}, {"mask_threshold": 0.5}, {"nms": {"iou": 0.5, "by": "mask"}}])
    by_mask = study(truth, found, base_steps=steps, space={"score": [0.1, 0.5]}, trials=4)
    coco = study(truth, found, metric="coco_segm", trials=4)
    assert by_mask.mismatch == coco.mismatch == 0
    assert 0 < coco.value < by_mask.value


def test_a_bug_in_the_cache_stops_the_study(monkeypatch):
    right = CachedScorer.scores

    def wrong(self, steps):  # suppresses at another overlap than it is asked for
        return right(
            self, [dataclasses.replace(s, iou=0.8 * s.iou) if isinstance(s, Nms) else s for s in steps]
        )

    monkeypatch.setattr(CachedScorer, "scores", wrong)
    with pytest.raises(ScoreMismatch, match="direct path"):
        study()


def test_a_bug_in_the_metric_itself_stops_the_study(monkeypatch):
    right = data_science_bowl.scores_of_counts

    def wrong(counts):  # false negatives do not count
        counts = counts.copy()
        counts[..., 2] = 0
        return right(counts)

    monkeypatch.setattr(data_science_bowl, "scores_of_counts", wrong)
    with pytest.raises(ScoreMismatch, match="reference|direct path"):
        study(metric="dsb_map", trials=3)


def test_progress_is_told_after_each_trial():
    heard = []
    result = study(trials=4, progress=lambda *news: heard.append(news))
    assert [(done, total) for done, total, _ in heard] == [(done, 8) for done in range(1, 9)]
    best = [best for _, _, best in heard]
    assert best == sorted(best)
    assert best[0] == result.base_value


def test_truth_may_hold_more_images_in_another_order():
    truth, found = scene()
    some = found.take_images([4, 1, 2])
    assert study(truth, some).value == study(truth.take_images([4, 1, 2]), some).value


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"space": {"nms_iou": [0.3, 0.95]}}, "end the range at 0.9"),
        (
            {"space": {"soft": [0, 1]}},
            "unknown name 'soft'; allowed: nms_iou, score, nms, ",
        ),
        ({"space": {"score": [0.5, 0.1]}}, "runs backwards"),
        ({"space": {"score": [0.5, 1.5]}}, "from 0 to 1"),
        ({"space": {"mask_threshold": [0.0, 0.5]}}, "above 0 to 1"),
        ({"space": {"score": [0.1, 0.2, 0.3]}}, r"a range \[low, high\]"),
        ({"space": {"score": [0.1, float("nan")]}}, r"a range \[low, high\]"),
        ({"space": {"min_area": [0.2, 0.8]}}, "no whole number"),
        ({"base_steps": BASE[:1]}, "has no 'nms' step"),
        ({"base_steps": (*BASE, BASE[0])}, "has 2 'score' steps"),
        ({"metric": "map"}, "no metric 'map'"),
        ({"trials": 0}, "at least 1"),
        ({"folds": [0, 0, 1, 1, -1, 0]}, "1 of 6 images are in no fold"),
        ({"folds": [0, 1]}, "2 fold numbers for 6 images"),
    ],
)
def test_bad_requests_are_one_line(options, words):
    with pytest.raises(InputError, match=words) as error:
        study(**options)
    assert "\n" not in str(error.value)


def test_images_without_truths_or_unknown_to_the_truth_are_refused():
    truth, found = scene()
    with pytest.raises(InputError, match="nothing to tune by"):
        study(truth.take(np.zeros(0, int)), found)
    with pytest.raises(InputError, match="image_5"):
        study(truth.take_images([0, 1, 2, 3, 4]), found)
