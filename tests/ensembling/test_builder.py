import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.ensembling import (
    Choosing,
    Forward,
    FusionMismatch,
    Limits,
    MemberSteps,
    contributions,
    cross_fitted_alone,
    diversity,
    ensemble_study,
    member_input,
    recheck_boxes,
)
from hubmap_ml.ensembling.member_scores import MemberScores
from hubmap_ml.fusion import FusionOptions, fuse, weighted_boxes_fusion
from hubmap_ml.instances import SOFT, Instances, PredictionSet
from hubmap_ml.metrics import evaluate
from hubmap_ml.postprocess import apply_steps, parse_steps
from hubmap_ml.spec import InputError
from tests.random_scenes import CATEGORIES, images, predictions, truths

STEPS = parse_steps([{"score": 0.05}, {"nms": {"iou": 0.5}}, {"mask_threshold": 0.5}, {"min_area": 0}])

OPTIONS = FusionOptions(iou_threshold=0.6, skip_score=0.0)


@given(
    seed=st.integers(0, 2**31),
    weights=st.sampled_from([None, [1, 1, 1], [2, 1, 0.5]]),
    digits=st.sampled_from([None, 1, 2]),
    iou_threshold=st.sampled_from([0.4, 0.55, 0.7]),
    way=st.sampled_from(
        [("wbf", "avg"), ("wbf", "max"), ("wbf", "box_and_model_avg"), ("nmw", "avg"), ("nms", "avg")]
    ),
)
@settings(max_examples=60, deadline=None)
def test_fused_boxes_pass_the_check_against_ensemble_boxes_also_with_many_ties(
    seed, weights, digits, iou_threshold, way
):
    method, conf_type = way
    members = [predictions([seed, k], objects_seed=seed % 5, count=30, digits=digits) for k in range(3)]
    options = FusionOptions(method=method, conf_type=conf_type, iou_threshold=iou_threshold, skip_score=0.05)
    fused = fuse(members, options, weights=weights)
    assert recheck_boxes(fused, members, options, weights=weights).difference < 1e-6


def test_a_member_twice_passes_the_check():
    member = predictions(1, count=40)
    fused = weighted_boxes_fusion([member, member], iou_threshold=0.6)
    assert recheck_boxes(fused, [member, member], OPTIONS).difference < 1e-6


@pytest.mark.parametrize("broken", ["boxes", "scores", "fewer", "labels"])
def test_other_boxes_than_ensemble_boxes_stop_the_run(broken):
    members = [predictions(k, objects_seed=1) for k in range(2)]
    fused = weighted_boxes_fusion(members, iou_threshold=0.6)
    wrong = {
        "boxes": lambda: fused.replace(boxes=fused.boxes + np.float32([0, 0, 0.01, 0])),
        "scores": lambda: fused.replace(scores=fused.scores * np.float32(0.999)),
        "fewer": lambda: fused.take(np.arange(1, len(fused))),
        "labels": lambda: fused.replace(labels=1 - fused.labels),
    }[broken]()
    with pytest.raises(FusionMismatch, match="image_"):
        recheck_boxes(wrong, members, OPTIONS)


def test_a_sample_of_the_images_is_checked_the_fullest_among_them():
    table = images(90)
    members = [predictions(k, table=table, objects_seed=1, count=5) for k in range(2)]
    counts = np.full(90, 2)
    counts[37] = 5
    kept = np.concatenate([np.arange(o, o + c) for o, c in zip(members[0].offsets, counts, strict=False)])
    members = [member.take(kept) for member in members]
    fused = fuse(members, FusionOptions(iou_threshold=0.9, skip_score=0.0))
    found = [
        recheck_boxes(fused, members, FusionOptions(iou_threshold=0.9, skip_score=0.0), sample=n)
        for n in (10, 10, 90)
    ]
    assert found[0] == found[1]
    assert len(found[0].images) == 10
    assert {"image_0", "image_37", "image_89"} <= set(found[0].images)
    assert len(found[2].images) == found[2].n_images == 90
    wrong = fused.replace(scores=fused.scores * np.float32(0.999))
    with pytest.raises(FusionMismatch, match="image_"):
        recheck_boxes(wrong, members, FusionOptions(iou_threshold=0.9, skip_score=0.0), sample=10)


def test_clusters_by_mask_are_nothing_that_ensemble_boxes_could_check():
    members = [predictions(k, objects_seed=1) for k in range(2)]
    options = FusionOptions(by="mask")
    found = recheck_boxes(fuse(members, options), members, options)
    assert np.isnan(found.difference)
    assert found.images == ()


def test_images_in_which_nobody_found_anything_pass_the_check():
    nothing = PredictionSet.from_instances(images(2), CATEGORIES, [Instances.empty(96, 128)] * 2)
    fused = weighted_boxes_fusion([nothing, nothing], iou_threshold=0.6)
    assert recheck_boxes(fused, [nothing, nothing], OPTIONS).difference == 0


def test_a_member_brings_soft_masks_after_its_score_and_suppression():
    candidates = predictions(0, count=40)
    brought = member_input(candidates, STEPS)
    assert 0 < len(brought) < len(candidates)
    assert (brought.masks.kind == SOFT).all()
    assert brought.scores.min() >= np.float32(0.05)


SPACE = {"score": [0.01, 0.5], "mask_threshold": [0.3, 0.7]}


def test_an_ensemble_is_fused_checked_and_tuned():
    table = images(6)
    candidates = [predictions([7, k], table=table, objects_seed=2, count=40) for k in range(3)]
    found = ensemble_study(
        truths(2, table=table), candidates, members=[MemberSteps(STEPS)] * 3, base_steps=STEPS, space=SPACE, trials=8,
        weights=[1, 2, 1], names=["a", "b", "c"],
    )  # fmt: skip
    assert found.check.difference < 1e-6
    assert len(found.check.images) == found.check.n_images == 6
    assert found.study.value >= found.study.base_value > 0
    assert found.study.mismatch == 0
    assert len(found.study.trials) == 8
    assert found.recipe.weights == (0.5, 1.0, 0.5)
    assert found.fused.cluster_offsets is not None
    assert np.isnan(found.study.cross_fitted)  # the members say nothing of held-out folds


def test_a_folds_score_takes_nothing_that_its_own_truths_chose():
    """Members whose registered steps are perfect and whose held-out ones keep nothing: the procedure scores nothing."""
    table = images(6)
    candidates = [predictions([7, k], table=table, objects_seed=2, count=40) for k in range(2)]
    nothing = parse_steps(
        [{"score": 0.9999}, {"nms": {"iou": 0.5}}, {"mask_threshold": 0.5}, {"min_area": 0}]
    )
    truth = truths(2, table=table)

    def study(held_out):
        return ensemble_study(
            truth,
            candidates,
            members=[MemberSteps(STEPS, held_out)] * 2,
            base_steps=STEPS,
            space=SPACE,
            trials=6,
        ).study

    honest = study({0: STEPS, 1: STEPS})
    assert 0 < honest.cross_fitted <= honest.value
    assert study({0: nothing, 1: nothing}).cross_fitted == 0
    assert 0 < study({0: STEPS, 1: nothing}).cross_fitted < honest.cross_fitted
    assert np.isnan(study({0: STEPS}).cross_fitted)


FORWARD = Choosing(select="forward", forward=Forward(rounds=4), fusion={"iou_threshold": [0.5, 0.7]})
BOTH = {0: STEPS, 1: STEPS, 2: STEPS}


def built(candidates, truth, how=FORWARD, held_out=BOTH, **options):
    return ensemble_study(
        truth, candidates, members=[MemberSteps(STEPS, held_out)] * len(candidates), base_steps=STEPS, space=SPACE,
        trials=4, choosing=how, names=[str(k) for k in range(len(candidates))], **options,
    )  # fmt: skip


def scene(n_images=6, n_folds=3, good=2, bad=1):
    """Members that found the objects, and members that found others."""
    table = images(n_images, n_folds=n_folds)
    found = [predictions([7, k], table=table, objects_seed=2, count=40) for k in range(good)]
    wrong = [predictions([9, k], table=table, objects_seed=77, count=40) for k in range(bad)]
    return truths(2, table=table), [*found, *wrong]


def test_forward_selection_leaves_out_a_member_that_knows_nothing():
    truth, candidates = scene()
    found = built(candidates, truth)
    assert found.recipe.chosen in ((0,), (1,), (0, 1))
    assert all(2 not in part.recipe.chosen for part in found.held_out.values())
    selection = found.recipe.selections[""]
    assert selection.counts in selection.path
    assert len(selection.cross_fitted) == 4


def test_the_score_is_that_of_what_the_other_folds_built():
    """Built by hand without a fold, and scored on it: nothing of the fold is looked at before."""
    truth, candidates = scene()
    found = built(candidates, truth)
    for number, part in found.held_out.items():
        others = np.flatnonzero(candidates[0].images.folds != number)
        assert list(part.rows) == list(np.flatnonzero(candidates[0].images.folds == number))
        again = built(
            [item.take_images(others) for item in candidates], truth.take_images(others), held_out={}
        )
        assert again.recipe.weights == part.recipe.weights
        assert again.recipe.options == part.recipe.options
        assert again.recipe.steps == part.recipe.steps
        fused = again.recipe.fuse([member_input(item, STEPS).take_images(part.rows) for item in candidates])
        final = apply_steps(fused, again.recipe.steps)
        assert evaluate("ap60", truth.take_images(part.rows), final).value == part.score
    scores = [found.held_out[number].score for number in found.study.folds]
    assert found.study.cross_fitted == pytest.approx(np.mean(scores))
    assert list(found.study.held_out_values) == scores
    whole = found.cross_fitted
    assert list(whole.images.ids) == list(candidates[0].images.ids)


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_other_truths_of_a_fold_change_nothing_that_scores_it(fold):
    truth, candidates = scene()
    here = truth.images.folds[truth.image_rows()] == fold
    changed = truth.take(np.flatnonzero(~here | (np.arange(len(truth)) % 2 == 0)))
    before, after = built(candidates, truth), built(candidates, changed)
    assert before.held_out[fold].recipe == after.held_out[fold].recipe
    assert before.held_out[fold].score != after.held_out[fold].score


def test_the_search_of_weights_and_the_fusion_that_is_tried_never_score_below_where_they_began():
    truth, candidates = scene(bad=0)
    plain = built(candidates, truth, Choosing())
    tuned = built(candidates, truth, Choosing(weight_trials=6, fusion={"iou_threshold": [0.4, 0.5]}))
    assert plain.recipe.weights == (1.0, 1.0)
    assert max(tuned.recipe.weights) == 1.0
    assert tuned.recipe.options.iou_threshold in (0.4, 0.5, 0.6)
    again = built(candidates, truth, Choosing(weight_trials=6, fusion={"iou_threshold": [0.4, 0.5]}))
    assert again.recipe == tuned.recipe


def test_each_class_chooses_its_own_members():
    """One member knows vessels, the other glomeruli: together they are both, and the check by ensemble-boxes holds."""
    table = images(6, n_folds=3)
    truth = truths(2, table=table)
    knows = [predictions([7, k], table=table, objects_seed=2, count=40) for k in range(2)]
    wrong = [predictions([9, k], table=table, objects_seed=77, count=40) for k in range(2)]
    members = []
    for label in range(2):
        right = knows[label].take(np.flatnonzero(knows[label].labels == label))
        other = wrong[label].take(np.flatnonzero(wrong[label].labels != label))
        both = PredictionSet.stack_sources([right, other], ["right", "other"])
        members.append(both.replace(source=np.zeros(len(both), np.int16), sources=("member",)))
    how = Choosing(select="forward", forward=Forward(rounds=3), per_class=True)
    found = built(members, truth, how)
    assert found.recipe.class_weights == {"vessel": (1.0, 0.0), "glomerulus": (0.0, 1.0)}
    assert found.recipe.chosen == (0, 1)
    assert set(found.recipe.selections) == {"vessel", "glomerulus"}
    assert found.check.difference < 1e-6
    jointly = built(members, truth, Choosing(select="forward", forward=Forward(rounds=3)))
    assert found.study.cross_fitted > jointly.study.cross_fitted


def test_a_limit_holds_in_every_fold_and_for_all_classes_together():
    truth, candidates = scene(bad=0, good=3)
    limits = Limits(costs=(1.0, 2.0, 3.0), budget_s=3.0, max_members=2)
    for per_class in (False, True):
        how = Choosing(select="forward", forward=Forward(rounds=4), limits=limits, per_class=per_class)
        found = built(candidates, truth, how)
        recipes = [found.recipe, *(part.recipe for part in found.held_out.values())]
        assert all(limits.allow(recipe.weights) for recipe in recipes)
    with pytest.raises(InputError, match="max_members 2"):
        built(candidates, truth, Choosing(limits=limits))


def test_a_fusion_value_that_there_is_not_is_named():
    truth, candidates = scene()
    with pytest.raises(InputError, match=r"ensemble\.space: fusion has no value 'iou'"):
        built(candidates, truth, Choosing(fusion={"iou": [0.5]}))


@pytest.mark.parametrize("metric", ["dsb_map", "coco_segm"])
def test_other_metrics_choose_too(metric):
    truth, candidates = scene()
    found = built(candidates, truth, metric=metric)
    assert 0 < found.study.cross_fitted <= 1
    assert 2 not in found.recipe.chosen


def test_contributions_are_paired_and_what_leaving_out_makes():
    truth, candidates = scene(n_images=24)
    study = built(candidates, truth, Choosing())
    alone = {f"m{k}": cross_fitted_alone(item, BOTH, study) for k, item in enumerate(candidates)}
    worth = contributions("ap60", truth, study, alone, resamples=200)
    assert [one.name for one in worth.contributions] == ["m0", "m1", "m2"]
    assert worth.comparison.scores[0].value == pytest.approx(study.study.cross_fitted)
    for member, one in enumerate(worth.contributions):
        parts = []
        for part in study.held_out.values():
            left = part.recipe.fuse(part.inputs, without=member)
            final = apply_steps(left, part.recipe.steps)
            parts.append(evaluate("ap60", truth.take_images(part.rows), final).value)
        assert one.added.value == pytest.approx(study.study.cross_fitted - np.mean(parts))
        assert one.folds == 3
        assert one.added.on_these.low <= one.added.value <= one.added.on_these.high
        assert one.above.value == pytest.approx(study.study.cross_fitted - one.score)
    assert worth.contributions[2].added.value < 0 < worth.contributions[0].added.value
    assert worth.contributions[2].added.probability < 0.5 < worth.contributions[0].added.probability


def test_a_lone_member_has_no_contribution_but_a_place_beside_the_ensemble():
    truth, candidates = scene(n_images=12, good=1, bad=0)
    study = built(candidates, truth)
    worth = contributions(
        "ap60", truth, study, {"m": cross_fitted_alone(candidates[0], BOTH, study)}, resamples=50
    )
    [one] = worth.contributions
    assert one.added is None
    assert one.folds == 3
    assert contributions("ap60", truth, built(candidates, truth, held_out={}), {}) is None


def test_diversity_of_a_member_with_itself_is_none():
    table = images(4)
    truth = truths(2, table=table)
    found = apply_steps(predictions(7, table=table, objects_seed=2, count=40), STEPS)
    other = apply_steps(predictions(8, table=table, objects_seed=77, count=40), STEPS)
    same, far, _ = diversity(truth, {"a": found, "b": found, "c": other})
    assert same.disagreeing == 0
    assert same.only_first == same.only_second == 0
    assert same.both + same.neither == int((~truth.iscrowd).sum())
    assert far.disagreeing > 0.2
    assert far.only_first > 0
    if same.both and same.neither:
        assert same.hit_correlation == pytest.approx(1)


def test_members_in_one_ratio_are_fused_once():
    truth, candidates = scene()
    scores = MemberScores(
        truth, candidates, folds=truth.images.folds, metric="ap60", base_steps=STEPS, space=SPACE
    )
    options = FusionOptions()
    assert scores.table((1, 1, 0), options) is scores.table((3, 3, 0), options)
    assert scores.table((1, 2, 0), options) is not scores.table((2, 1, 0), options)
    fused = fuse(candidates[:2], options)
    assert scores.value((2, 2, 0), options) == pytest.approx(scores.value_of(fused), abs=1e-12)


def test_a_metric_that_counts_false_positives_is_looked_at_with_other_score_thresholds():
    truth, candidates = scene()
    tables = {
        metric: MemberScores(
            truth, candidates, folds=truth.images.folds, metric=metric, base_steps=STEPS, space=SPACE
        ).table((1, 1, 1), FusionOptions())
        for metric in ("ap60", "dsb_map")
    }
    assert tables["ap60"].shape == (1, 3)
    assert tables["dsb_map"].shape == (6, 3)
    assert tables["dsb_map"].mean(axis=1).max() > tables["dsb_map"][0].mean()


def test_scores_are_calibrated_on_the_other_folds_and_make_loud_members_equal():
    table = images(6)
    truth = truths(2, table=table)
    candidates = [predictions([7, k], table=table, objects_seed=2, count=40) for k in range(2)]
    quiet = candidates[1].replace(scores=candidates[1].scores ** np.float32(3))
    members = [MemberSteps(STEPS[1:], {0: STEPS[1:], 1: STEPS[1:]})] * 2
    options = {"members": members, "base_steps": STEPS, "space": SPACE, "trials": 3, "score_scale": "rank"}
    even, uneven = (
        ensemble_study(truth, [candidates[0], other], **options) for other in (candidates[1], quiet)
    )
    assert len(even.score_maps) == 2
    assert np.allclose(even.fused.scores, uneven.fused.scores, atol=0.02)
    raw = ensemble_study(truth, candidates, **{**options, "score_scale": "raw"})
    assert raw.score_maps == ()
    calibrated = ensemble_study(truth, candidates, **{**options, "score_scale": "calibrated"})
    assert np.isfinite(calibrated.study.cross_fitted)
    assert calibrated.check.difference < 1e-6
