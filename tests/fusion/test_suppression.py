import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.fusion import box_iou_matrix, kept_rows, non_maximum_suppression, overlapping_pairs
from hubmap_ml.instances import BitMasks, Instances, Masks, PredictionSet
from hubmap_ml.spec import InputError
from tests.random_scenes import CATEGORIES, images, predictions


def grid_boxes(rng, n, size=8):
    """Boxes with whole corners: overlaps are small fractions, and hit thresholds exactly. Some have no area."""
    corner = rng.integers(0, size, (n, 2))
    return np.concatenate([corner, corner + rng.integers(0, size, (n, 2))], 1).astype(np.float32)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 40),
    threshold=st.sampled_from([0.2, 0.25, 0.4, 0.5, 0.6, 0.75]),
)
@settings(max_examples=150, deadline=None)
def test_by_box_it_is_torchvisions_nms_of_each_label(seed, n, threshold):
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision.ops")
    rng = np.random.default_rng(seed)
    boxes = grid_boxes(rng, n)
    scores = rng.permutation(n).astype(np.float32)
    labels = rng.integers(0, 3, n)
    kept = non_maximum_suppression(
        Instances.build(boxes, scores, labels, masks=None, height=16, width=16), iou_threshold=threshold
    )
    doubles = torch.from_numpy(boxes).double()
    expected = ops.boxes._batched_nms_vanilla(
        doubles, torch.from_numpy(scores).double(), torch.from_numpy(labels), threshold
    )
    assert kept.scores.tolist() == scores[expected.numpy()].tolist()
    one_label = non_maximum_suppression(
        Instances.build(boxes, scores, 0, masks=None, height=16, width=16), iou_threshold=threshold
    )
    assert (
        one_label.scores.tolist()
        == scores[ops.nms(doubles, torch.from_numpy(scores).double(), threshold).numpy()].tolist()
    )


def test_a_tie_in_score_keeps_the_earlier_instance():
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10]]
    kept = non_maximum_suppression(
        Instances.build(boxes, [0.5, 0.5], source=[4, 5], masks=None, height=20, width=20), iou_threshold=0.5
    )
    assert kept.source.tolist() == [4]


def test_an_overlap_equal_to_the_threshold_keeps_both():
    boxes = [[0, 0, 7, 1], [3, 0, 10, 1]]  # 4 of 10 pixels
    pair = Instances.build(boxes, [0.9, 0.8], masks=None, height=20, width=20)
    assert len(non_maximum_suppression(pair, iou_threshold=0.4)) == 2
    assert len(non_maximum_suppression(pair, iou_threshold=0.399)) == 1


def test_a_suppressed_instance_suppresses_nothing():
    boxes = [[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]]
    chain = Instances.build(boxes, [0.9, 0.8, 0.7], masks=None, height=20, width=20)
    assert (
        non_maximum_suppression(chain, iou_threshold=0.3).scores.tolist() == np.float32([0.9, 0.7]).tolist()
    )


@given(seed=st.integers(0, 2**32 - 1), threshold=st.sampled_from([0.1, 0.3, 0.5, 0.8]))
@settings(max_examples=25, deadline=None)
def test_by_mask_it_is_greedy_over_pycocotools_overlaps(seed, threshold):
    from pycocotools import mask as coco

    found = predictions(seed, table=images(1), count=25, objects_seed=seed % 7).image(0)
    bits = found.masks.binarize(0.5, found.height, found.width)
    decided = found.replace(masks=Masks.from_bits(bits))
    size = [found.height, found.width]
    codes = [{"size": size, "counts": text} for text in bits.to_rle(*size)]
    overlap = coco.iou(codes, codes, [False] * len(codes))
    kept = []
    for i in range(len(found)):
        if all(found.labels[i] != found.labels[k] or overlap[k, i] <= threshold for k in kept):
            kept.append(i)
    result = non_maximum_suppression(decided, iou_threshold=threshold, by="mask")
    assert np.array_equal(result.boxes, found.boxes[kept])


def test_masks_that_are_still_probabilities_are_refused():
    with pytest.raises(InputError, match="mask_threshold before"):
        non_maximum_suppression(predictions(0).image(0), iou_threshold=0.5, by="mask")
    bare = Instances.build([[0, 0, 1, 1]], [0.5], masks=None, height=4, width=4)
    with pytest.raises(InputError, match="boxes only"):
        non_maximum_suppression(bare, iou_threshold=0.5, by="mask")


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.1])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ValueError, match="iou_threshold"):
        non_maximum_suppression(predictions(0).image(0), iou_threshold=threshold)


def test_an_unknown_measure_is_refused():
    with pytest.raises(ValueError, match="measure 'iof' is none of iou, ios"):
        non_maximum_suppression(predictions(0).image(0), iou_threshold=0.5, measure="iof")


def suppressed_plainly(found, boxes_or_pixels, threshold, measure, across):
    """The rule read aloud: descending score, ties earlier, compared with every one kept."""
    kept = []
    for row in np.argsort(-found.scores, kind="stable"):
        clash = False
        for other in kept:
            shared, a, b = boxes_or_pixels(other, row)
            whole = min(a, b) if measure == "ios" else a + b - shared
            alike = across or found.labels[row] == found.labels[other]
            clash |= alike and whole > 0 and shared / whole > threshold
        if not clash:
            kept.append(row)
    return kept


@given(
    seed=st.integers(0, 2**32 - 1),
    measure=st.sampled_from(["iou", "ios"]),
    across=st.booleans(),
    by=st.sampled_from(["box", "mask"]),
    threshold=st.sampled_from([0.25, 0.5, 0.75, 1.0]),
)
@settings(max_examples=80, deadline=None)
def test_overlap_over_the_smaller_and_across_classes(seed, measure, across, by, threshold):
    rng = np.random.default_rng(seed)
    boxes = grid_boxes(rng, 25)
    dense = np.zeros((25, 16, 16), bool)
    for row, (x0, y0, x1, y1) in enumerate(boxes.astype(int)):
        dense[row, y0:y1, x0:x1] = True
    found = Instances.build(
        boxes, rng.integers(0, 20, 25) / 20, rng.integers(0, 2, 25), masks=Masks.from_bits(BitMasks.from_dense(dense)),
        height=16, width=16, source=np.arange(25),
    )  # fmt: skip
    kept = non_maximum_suppression(
        found, iou_threshold=threshold, by=by, measure=measure, across_classes=across
    )
    # A box of whole corners has as many pixels as area: one reference for both.
    expected = suppressed_plainly(
        found, lambda a, b: ((dense[a] & dense[b]).sum(), dense[a].sum(), dense[b].sum()), threshold, measure, across
    )  # fmt: skip
    assert kept.source.tolist() == expected


def test_images_do_not_meet():
    found = predictions(3, count=20)
    keep = kept_rows(found, iou_threshold=0.4)
    for row in range(len(found.images)):
        alone = non_maximum_suppression(found.image(row), iou_threshold=0.4)
        rows = slice(found.offsets[row], found.offsets[row + 1])
        assert np.array_equal(np.sort(alone.scores), np.sort(found.scores[rows][keep[rows]]))


def test_an_image_without_instances_stays_empty():
    table = images(2)
    none = PredictionSet.from_instances(table, CATEGORIES, [Instances.empty(96, 128)] * 2)
    assert kept_rows(none, iou_threshold=0.5).shape == (0,)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_box_overlaps_are_torchvisions(seed):
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision.ops")
    rng = np.random.default_rng(seed)
    a, b = (np.sort(rng.uniform(0, 9, (n, 2, 2)), axis=1).reshape(-1, 4) for n in (7, 5))
    expected = ops.box_iou(
        torch.from_numpy(a.astype(np.float32)).double(), torch.from_numpy(b.astype(np.float32)).double()
    )
    assert np.abs(box_iou_matrix(a.astype(np.float32), b.astype(np.float32)) - expected.numpy()).max() < 1e-12


def test_boxes_without_area_overlap_nothing():
    assert box_iou_matrix(np.float32([[3, 3, 3, 3], [0, 0, 9, 9]])).tolist() == [[0, 0], [0, 1]]
    assert box_iou_matrix(np.zeros((0, 4), np.float32)).shape == (0, 0)


@given(seed=st.integers(0, 2**32 - 1), floor=st.sampled_from([0.0, 0.3]))
@settings(max_examples=30, deadline=None)
def test_the_overlapping_pairs_are_those_of_the_matrix(seed, floor):
    found = predictions(seed, count=15)
    starts, columns, values = overlapping_pairs(found.boxes, found.labels, found.offsets, floor=floor)
    matrix = box_iou_matrix(found.boxes)
    image = found.image_rows()
    expected = [
        (i, j)
        for i in range(len(found))
        for j in range(i + 1, len(found))
        if matrix[i, j] > floor and found.labels[i] == found.labels[j] and image[i] == image[j]
    ]
    rows = np.repeat(np.arange(len(found)), np.diff(starts))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == expected
    assert np.array_equal(values, matrix[rows, columns])
