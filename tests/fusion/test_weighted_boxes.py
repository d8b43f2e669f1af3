import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.fusion import weighted_boxes_fusion
from hubmap_ml.instances import BitMasks, Instances, Masks, PredictionSet, SoftMasks
from hubmap_ml.spec import InputError
from tests.random_scenes import CATEGORIES, images, predictions

HEIGHT, WIDTH = 96, 128


def members_of(seed, n_members=4, **options):
    return [predictions([seed, k], objects_seed=seed % 11, **options) for k in range(n_members)]


def reference(members, row, weights, iou_threshold, skip_score):
    """ensemble-boxes on one image, sorted by (label, score, box): boxes in [0, 1], scores, labels."""
    from ensemble_boxes import weighted_boxes_fusion as theirs

    found = [member.image(row) for member in members]
    size = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        boxes, scores, labels = theirs(
            [one.boxes.astype(float) / size for one in found],
            [one.scores.astype(float) for one in found],
            [one.labels for one in found],
            weights=weights,
            iou_thr=iou_threshold,
            skip_box_thr=skip_score,
        )
    return in_order(boxes, scores, labels)


def ours(fused, row):
    one = fused.image(row)
    return in_order(one.boxes.astype(float) / [WIDTH, HEIGHT, WIDTH, HEIGHT], one.scores, one.labels)


def in_order(boxes, scores, labels):
    order = np.lexsort((boxes[:, 0].round(4), np.round(scores, 6), labels))
    return boxes[order], np.asarray(scores)[order], np.asarray(labels)[order]


@given(
    seed=st.integers(0, 2**31),
    n_members=st.integers(1, 5),
    weights=st.lists(st.floats(0.1, 5), min_size=5, max_size=5),
    iou_threshold=st.floats(0.2, 0.9),
    skip_score=st.floats(0, 0.4),
)
@settings(max_examples=80, deadline=None)
def test_boxes_and_scores_are_those_of_ensemble_boxes(seed, n_members, weights, iou_threshold, skip_score):
    members = members_of(seed, n_members, count=25, n_objects=4)
    fused = weighted_boxes_fusion(
        members, weights=weights[:n_members], iou_threshold=iou_threshold, skip_score=skip_score
    )
    for row in range(len(fused.images)):
        boxes, scores, labels = ours(fused, row)
        expected = reference(members, row, weights[:n_members], iou_threshold, skip_score)
        assert labels.tolist() == expected[2].astype(int).tolist()
        assert np.abs(scores - expected[1]).max(initial=0) < 1e-5
        assert np.abs(boxes - expected[0]).max(initial=0) < 1e-5


def test_boxes_outside_or_without_area_are_treated_as_ensemble_boxes_treats_them():
    boxes = [
        [-9, -5, 60, 50],
        [100, 20, 150, 110],
        [40, 30, 10, 5],
        [7, 7, 7, 30],
        [130, 3, 140, 9],
        [-8, -6, 61, 49],
    ]
    found = Instances.build(boxes, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], masks=None, height=HEIGHT, width=WIDTH)
    member = PredictionSet.from_instances(images(1), CATEGORIES, [found])
    expected = reference([member, member], 0, [1, 1], 0.5, 0.0)
    result = ours(weighted_boxes_fusion([member, member], iou_threshold=0.5), 0)
    assert len(result[1]) == len(expected[1]) == 3
    assert np.abs(result[0] - expected[0]).max() < 1e-5


@given(seed=st.integers(0, 2**31), bits=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=12, deadline=None)
def test_masks_are_the_weighted_mean_of_full_size_masks(seed, bits):
    members = members_of(seed, 3, table=images(2, height=HEIGHT, width=WIDTH), count=15, bits=bits)
    weights = [1.0, 2.5, 0.5]
    fused = weighted_boxes_fusion(members, weights=weights, iou_threshold=0.45, skip_score=0.05)
    stacked = PredictionSet.stack_sources(members, ["a", "b", "c"])
    pixels = fused.masks.binarize(0.45, HEIGHT, WIDTH)
    checked = 0
    for k in range(len(fused)):
        rows = fused.member_rows[fused.cluster_offsets[k] : fused.cluster_offsets[k + 1]]
        dense = [
            one.bits.to_dense(0, HEIGHT, WIDTH) if one.all_bits else one.soft.paste(0, HEIGHT, WIDTH)
            for one in (stacked.masks.take([row]) for row in rows)
        ]
        voice = stacked.scores[rows].astype(float) * np.array(weights)[stacked.source[rows]]
        naive = np.average(dense, axis=0, weights=voice)
        soft = fused.masks.take([k]).soft.paste(0, HEIGHT, WIDTH)
        assert np.abs(soft - naive).max() <= 0.5 / 255 + 1e-4
        clear = np.abs(naive - 0.45) > 0.5 / 255 + 1e-4
        assert np.array_equal(pixels.to_dense(k, HEIGHT, WIDTH)[clear], naive[clear] >= 0.45)
        checked += len(rows) > 1
    assert checked > 3


def test_a_fused_crop_lies_on_whole_pixels_and_pastes_back_as_it_is():
    fused = weighted_boxes_fusion(members_of(5, count=20), iou_threshold=0.5)
    soft = fused.masks.soft
    assert np.array_equal(soft.boxes, np.round(soft.boxes))
    for k in range(len(fused)):
        x0, y0, x1, y1 = soft.boxes[k].astype(int)
        assert soft.shapes[k].tolist() == [y1 - y0, x1 - x0]
        pasted = soft.paste(k, HEIGHT, WIDTH)
        assert np.abs(pasted[y0:y1, x0:x1] - soft.crop(k) / 255).max() < 1e-4
        pasted[y0:y1, x0:x1] = 0
        assert not pasted.any()


def test_member_rows_are_rows_of_the_stacked_members():
    members = members_of(3, 3)
    fused = weighted_boxes_fusion(members, iou_threshold=0.5, names=["a", "b", "c"])
    stacked = PredictionSet.stack_sources(members, ["a", "b", "c"])
    owner = np.repeat(np.arange(len(fused)), np.diff(fused.cluster_offsets))
    assert np.array_equal(stacked.labels[fused.member_rows], fused.labels[owner])
    assert np.array_equal(stacked.image_rows()[fused.member_rows], fused.image_rows()[owner])
    assert len(set(fused.member_rows.tolist())) == len(fused.member_rows) == len(stacked)


def test_members_may_have_their_images_in_any_order():
    members = members_of(4, 2)
    turned = members[1].take_images([2, 0, 1])
    a, b = (weighted_boxes_fusion([members[0], other], iou_threshold=0.5) for other in (members[1], turned))
    assert np.array_equal(a.boxes, b.boxes)
    assert np.array_equal(a.scores, b.scores)


def test_a_member_fused_with_itself_keeps_its_separate_objects():
    boxes = [[0, 0, 20, 20], [50, 50, 80, 90]]
    crops = np.random.default_rng(0).integers(0, 256, (2, 20, 20)).astype(np.uint8)
    found = Instances.build(
        boxes,
        [0.9, 0.4],
        masks=Masks.from_soft(SoftMasks.from_crops(crops, boxes)),
        height=HEIGHT,
        width=WIDTH,
    )
    member = PredictionSet.from_instances(images(1), CATEGORIES, [found])
    fused = weighted_boxes_fusion([member, member], iou_threshold=0.5)
    assert np.allclose(fused.boxes, boxes, atol=1e-4)  # ensemble-boxes rounds to float32 in [0, 1]
    assert np.allclose(fused.scores, [0.9, 0.4])
    assert np.allclose(fused.masks.soft.paste(0, HEIGHT, WIDTH)[:20, :20], crops[0] / 255, atol=1e-4)


def test_a_cluster_whose_masks_are_empty_has_an_empty_mask():
    found = Instances.build(
        [[0, 0, 20, 20]], [0.9], masks=Masks.from_bits(BitMasks.empty(1)), height=HEIGHT, width=WIDTH
    )
    fused = weighted_boxes_fusion([PredictionSet.from_instances(images(1), CATEGORIES, [found])] * 2)
    assert fused.masks.binarize(0.5, HEIGHT, WIDTH).areas().tolist() == [0]


def test_equal_confidences_keep_the_order_of_members():
    def member(x):
        found = Instances.build([[x, 0, x + 10, 10]], [0.5], masks=None, height=HEIGHT, width=WIDTH)
        return PredictionSet.from_instances(images(1), CATEGORIES, [found])

    fused = weighted_boxes_fusion([member(x) for x in (3, 2, 1)], iou_threshold=0.3)
    assert fused.member_rows.tolist() == [0, 1, 2]


def test_bad_requests_say_what_is_wrong():
    members = members_of(0, 2)
    for broken, words in (
        ({"weights": [1.0]}, "do not fit 2 members"),
        ({"weights": [1.0, 0.0]}, "do not fit 2 members"),
        ({"iou_threshold": 1.0}, "between 0 and 1"),
        ({"conf_type": "median"}, "allowed: avg, max, box_and_model_avg, absent_model_aware_avg"),
    ):
        with pytest.raises(InputError, match=words):
            weighted_boxes_fusion(members, **broken)
    with pytest.raises(InputError, match="no member"):
        weighted_boxes_fusion([])
    with pytest.raises(InputError, match="different images"):
        weighted_boxes_fusion([members[0], members[1].take_images([0, 1])])
