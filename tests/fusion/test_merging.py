import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.fusion import FusionOptions, MaskFusion, box_iou_matrix, fuse, merge_sources
from hubmap_ml.instances import Instances, Masks, PredictionSet, SoftMasks
from hubmap_ml.spec import InputError
from tests.random_scenes import CATEGORIES, images, predictions, same_masks


def one_image(boxes, scores, source, *, labels=0, crops=None):
    n = len(scores)
    given = np.full((n, 4, 4), 255, np.uint8) if crops is None else crops
    masks = Masks.from_soft(SoftMasks.from_crops(given, boxes))
    found = Instances.build(boxes, scores, labels, masks=masks, height=64, width=64, source=source)
    return PredictionSet.from_instances(images(1, height=64, width=64), CATEGORIES, [found])


def repeated(one, times):
    return PredictionSet.stack_sources([one] * times, [f"fold_{k}" for k in range(times)])


def same_set(a, b):
    return (
        np.array_equal(a.offsets, b.offsets)
        and np.array_equal(a.boxes, b.boxes)
        and np.array_equal(a.scores, b.scores)
        and np.array_equal(a.labels, b.labels)
        and same_masks(a.masks, b.masks)
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    times=st.integers(1, 5),
    digits=st.sampled_from([None, 1, 2]),
    threshold=st.sampled_from([0.3, 0.6, 0.9]),
)
@settings(max_examples=40, deadline=None)
def test_identical_sources_are_the_one(seed, times, digits, threshold):
    one = predictions(seed, count=25, objects_seed=seed % 5, digits=digits)
    merged = merge_sources(repeated(one, times), n_sources=times, iou_threshold=threshold)
    assert same_set(merged, one)
    assert np.array_equal(np.diff(merged.cluster_offsets), np.full(len(one), times))


def test_identical_sources_are_the_one_also_where_boxes_have_no_area_or_repeat():
    boxes = [[5, 5, 5, 9], [5, 5, 5, 9], [1, 1, 9, 9], [1, 1, 9, 9]]
    one = one_image(boxes, [0.5, 0.5, 0.5, 0.25], [0] * 4)
    assert same_set(merge_sources(repeated(one, 3), n_sources=3), one)


def test_identical_sources_with_bit_masks_keep_every_pixel():
    one = predictions(1, count=12, bits=1.0)
    merged = merge_sources(repeated(one, 3), n_sources=3)
    height, width = 96, 128
    for threshold in (0.3, 0.5, 0.9):
        pixels = merged.masks.binarize(threshold, height, width)
        assert np.array_equal(pixels.words, one.masks.bits.words)
        assert np.array_equal(pixels.windows, one.masks.bits.windows)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_one_source_is_brought_into_order_and_stays_as_it_is(seed):
    given = predictions(seed, count=20, bits=0.3)
    shuffled = given.take(
        np.concatenate([np.random.default_rng(seed).permutation(20) + 20 * k for k in range(3)])
    )
    assert same_set(merge_sources(shuffled, n_sources=1), given)


def test_a_source_that_saw_nothing_counts_as_zero():
    merged = merge_sources(one_image([[0, 0, 8, 8], [0, 0, 8, 8]], [0.8, 0.4], [0, 2]), n_sources=4)
    assert merged.scores.tolist() == np.float32([0.3]).tolist()


def test_the_box_is_the_mean_weighted_by_score():
    merged = merge_sources(one_image([[0, 0, 10, 10], [0, 0, 14, 10]], [0.75, 0.25], [0, 1]), n_sources=2)
    assert merged.boxes.tolist() == [[0, 0, 11, 10]]


def test_the_mask_is_the_plain_mean_of_those_who_saw_it():
    crops = np.stack([np.full((4, 4), v, np.uint8) for v in (200, 100)])
    merged = merge_sources(one_image([[0, 0, 8, 8]] * 2, [0.9, 0.1], [0, 1], crops=crops), n_sources=5)
    assert set(merged.masks.soft.crop(0).ravel()) == {150}


def test_two_instances_of_one_source_never_meet():
    merged = merge_sources(one_image([[0, 0, 8, 8]] * 3, [0.9, 0.6, 0.3], [0, 0, 1]), n_sources=2)
    assert merged.scores.tolist() == np.float32([0.6, 0.3]).tolist()
    assert [
        merged.member_rows[merged.cluster_offsets[k] : merged.cluster_offsets[k + 1]].tolist() for k in (0, 1)
    ] == [
        [0, 2],
        [1],
    ]


def test_labels_never_meet():
    assert (
        len(merge_sources(one_image([[0, 0, 8, 8]] * 2, [0.9, 0.6], [0, 1], labels=[0, 1]), n_sources=2)) == 2
    )


@given(seed=st.integers(0, 2**32 - 1), threshold=st.sampled_from([0.3, 0.5, 0.7]))
@settings(max_examples=30, deadline=None)
def test_clusters_follow_the_rule(seed, threshold):
    """Against the rule as it is written, one instance after the other."""
    given = predictions(seed, table=images(2), count=40, n_sources=3, digits=1, objects_seed=seed % 3)
    merged = merge_sources(given, n_sources=3, iou_threshold=threshold)
    position = np.zeros(len(given), int)
    image = given.image_rows()
    for row in range(len(given)):
        earlier = (image[:row] == image[row]) & (given.source[:row] == given.source[row])
        position[row] = earlier.sum()
    expected = []
    for m in range(2):
        rows = np.flatnonzero(image == m).tolist()
        rows.sort(key=lambda r: (-given.scores[r], position[r], given.source[r]))
        clusters = []
        for row in rows:
            best, best_overlap = None, threshold
            for cluster in clusters:
                overlap = box_iou_matrix(given.boxes[cluster[:1]], given.boxes[[row]])[0, 0]
                free = given.source[row] not in given.source[cluster]
                if free and given.labels[cluster[0]] == given.labels[row] and overlap > best_overlap:
                    best, best_overlap = cluster, overlap
            if best is None:
                clusters.append([row])
            else:
                best.append(row)
        expected += sorted(clusters, key=lambda c: -np.float32(given.scores[c].astype(float).sum() / 3))
    starts = merged.cluster_offsets
    found = [merged.member_rows[starts[k] : starts[k + 1]].tolist() for k in range(len(merged))]
    assert found == expected
    for k, cluster in enumerate(expected):
        weights = given.scores[cluster].astype(float)
        assert merged.scores[k] == np.float32(weights.sum() / 3)
        assert np.allclose(
            merged.boxes[k], np.average(given.boxes[cluster], axis=0, weights=weights), atol=1e-4
        )


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_mask_cell_is_the_mean_of_the_pasted_members_at_its_centre(seed):
    """On boxes with whole corners and one cell a pixel, cell centres are pixel centres: ``paste`` is the reference."""
    rng = np.random.default_rng(seed)
    seed_box = np.array([10, 12, 34, 30])
    boxes = np.stack([seed_box, seed_box + rng.integers(-2, 3, 4), seed_box + rng.integers(-2, 3, 4)]).astype(
        np.float32
    )
    crops = [rng.integers(0, 256, shape).astype(np.uint8) for shape in ((18, 24), (7, 9), (14, 14))]
    given = one_image(boxes, [0.9, 0.0, 0.0], [0, 1, 2], crops=crops)
    merged = merge_sources(given, n_sources=3, iou_threshold=0.3)
    assert merged.boxes.tolist() == [seed_box.tolist()]  # the others weigh nothing
    pasted = np.mean([given.masks.soft.paste(k, 64, 64) for k in range(3)], axis=0)
    cells = merged.masks.soft.crop(0) / 255
    assert np.abs(cells - pasted[12:30, 10:34]).max() <= 0.5 / 255 + 1e-4


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_mixed_kinds_of_masks_meet_at_pixel_resolution(seed):
    given = predictions(seed, table=images(1), count=30, n_sources=3, bits=0.5, objects_seed=1)
    merged = merge_sources(given, n_sources=3, iou_threshold=0.4)
    height, width = 96, 128
    for k in range(len(merged)):
        rows = merged.member_rows[merged.cluster_offsets[k] : merged.cluster_offsets[k + 1]]
        kinds = set(given.masks.kind[rows])
        if kinds == {0} or len(rows) == 1:
            continue
        parts = [given.masks.take([row]) for row in rows]
        naive = np.mean(
            [
                p.bits.to_dense(0, height, width) if p.all_bits else p.soft.paste(0, height, width)
                for p in parts
            ],
            axis=0,
        )
        result = merged.masks.take([k]).soft.paste(0, height, width)
        assert np.abs(result - naive).max() < 0.5 / 255 + 1e-3


def test_predictions_without_masks_or_instances_are_merged_too():
    bare = predictions(2, n_sources=2).replace(masks=None)
    assert merge_sources(bare, n_sources=2).masks is None
    nothing = PredictionSet.from_instances(images(2), CATEGORIES, [Instances.empty(96, 128)] * 2)
    assert len(merge_sources(nothing, n_sources=3)) == 0


def test_bad_requests_say_what_is_wrong():
    given = predictions(0, n_sources=3)
    with pytest.raises(InputError, match="allowed: match_mean"):
        merge_sources(given, n_sources=3, rule="max")
    with pytest.raises(InputError, match="at least 3 sources"):
        merge_sources(given, n_sources=2)
    with pytest.raises(InputError, match="between 0 and 1"):
        merge_sources(given, n_sources=3, iou_threshold=1.5)


@pytest.mark.parametrize("rule", ["nms", "wbf"])
def test_the_other_rules_are_fusions_of_the_sources_as_equal_members(rule):
    found = predictions(5, n_sources=3, count=30)
    merged = merge_sources(found, n_sources=3, iou_threshold=0.5, rule=rule)
    rows = [np.flatnonzero(found.source == k) for k in range(3)]
    how = FusionOptions(
        method=rule, iou_threshold=0.5, skip_score=0.0, masks=MaskFusion("best" if rule == "nms" else "mean")
    )
    expected = fuse([found.take(own) for own in rows], how)
    assert np.array_equal(merged.boxes, expected.boxes)
    assert np.array_equal(merged.scores, expected.scores)
    assert same_masks(merged.masks, expected.masks)
    owner = np.repeat(np.arange(len(merged)), np.diff(merged.cluster_offsets))
    assert sorted(merged.member_rows.tolist()) == list(range(len(found)))
    assert np.array_equal(found.labels[merged.member_rows], merged.labels[owner])
    assert np.array_equal(found.image_rows()[merged.member_rows], merged.image_rows()[owner])


def test_suppression_of_views_keeps_the_full_score_of_what_one_view_sees():
    found = predictions(5, n_sources=3, count=30)
    by_nms = merge_sources(found, n_sources=3, iou_threshold=0.5, rule="nms")
    by_mean = merge_sources(found, n_sources=3, iou_threshold=0.5)
    for row in range(len(found.images)):
        best = found.image(row).scores.max()
        assert by_nms.image(row).scores.max() == best
        assert by_mean.image(row).scores.max() < best
