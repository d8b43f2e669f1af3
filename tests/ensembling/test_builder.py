import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.ensembling import FusionMismatch, MemberSteps, ensemble_study, member_input, recheck_boxes
from hubmap_ml.fusion import FusionOptions, fuse, weighted_boxes_fusion
from hubmap_ml.instances import SOFT, Instances, PredictionSet
from hubmap_ml.postprocess import parse_steps
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
    assert len(found.study.trials) == 16  # the fixed list, and that of each held-out fold
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
