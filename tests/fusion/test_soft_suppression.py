import numpy as np
import pytest
from ensemble_boxes import soft_nms
from ensemble_boxes.ensemble_boxes_nms import cpu_soft_nms_float
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.fusion import soft_suppression
from hubmap_ml.instances import Category, Instances, PredictionSet
from tests.random_scenes import images, predictions

SIDE = 64
LABELS = tuple(Category(k, f"class {k}") for k in range(3))
METHODS = {"linear": 1, "gaussian": 2}


def crowded(rng, n, n_labels):
    """Boxes with area around a few centres, so that most overlap several others; distinct scores."""
    centre = rng.uniform(10, SIDE - 10, (max(1, n // 6), 2))[rng.integers(0, max(1, n // 6), n)]
    centre = centre + rng.normal(0, 3, (n, 2))
    half = rng.uniform(2, 10, (n, 2))
    boxes = np.concatenate([centre - half, centre + half], 1).clip(0, SIDE).astype(np.float32)
    scores = np.float32(rng.permutation(n) + rng.uniform(0.1, 0.9)) / np.float32(n + 1)
    return Instances.build(
        boxes, scores, rng.integers(0, n_labels, n), masks=None, height=SIDE, width=SIDE, source=np.arange(n)
    )


def one_image(found):
    return PredictionSet.from_instances(images(1, height=SIDE, width=SIDE), LABELS, [found])


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60),
    n_labels=st.integers(1, 3),
    method=st.sampled_from(list(METHODS)),
    iou=st.sampled_from([0.1, 0.3, 0.5, 0.7, 1.0]),
    sigma=st.sampled_from([0.05, 0.5, 2.0]),
    min_score=st.sampled_from([0.0, 0.001, 0.2]),
)
@settings(max_examples=200, deadline=None)
def test_what_stays_is_what_ensemble_boxes_keeps(seed, n, n_labels, method, iou, sigma, min_score):
    found = crowded(np.random.default_rng(seed), n, n_labels)
    ours = soft_suppression(
        one_image(found), method=method, iou_threshold=iou, sigma=sigma, min_score=min_score, keep_scores=True
    )
    boxes, scores, labels = soft_nms(
        [found.boxes / SIDE], [found.scores.astype(np.float64)], [found.labels.astype(int)],
        method=METHODS[method], iou_thr=iou, sigma=sigma, thresh=min_score,
    )  # fmt: skip
    order = np.argsort(-scores)
    assert np.allclose(ours.scores, scores[order], atol=1e-5)
    assert np.allclose(ours.boxes, boxes[order] * SIDE, atol=1e-4)
    assert np.array_equal(ours.labels, labels[order])


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60),
    n_labels=st.integers(1, 3),
    method=st.sampled_from(list(METHODS)),
)
@settings(max_examples=100, deadline=None)
def test_new_scores_are_those_that_ensemble_boxes_works_with(seed, n, n_labels, method):
    """Its ``soft_nms`` returns the old scores; the function inside it lowers them in place."""
    found = crowded(np.random.default_rng(seed), n, n_labels)
    ours = soft_suppression(one_image(found), method=method, iou_threshold=0.3, sigma=0.4, min_score=0.01)
    for label in range(n_labels):
        rows = np.flatnonzero(found.labels == label)
        lowered = found.scores[rows].astype(np.float64)
        keep = cpu_soft_nms_float(
            found.boxes[rows].astype(np.float64), lowered, Nt=0.3, sigma=0.4, thresh=0.01, method=METHODS[method]
        )  # fmt: skip
        theirs = dict(zip(rows[keep].tolist(), lowered[lowered > 0.01], strict=True))
        mine = ours.take(np.flatnonzero(ours.labels == label))
        assert sorted(mine.source.tolist()) == sorted(theirs)
        assert np.allclose(mine.scores, [theirs[row] for row in mine.source.tolist()], atol=1e-5)


@given(seed=st.integers(0, 2**32 - 1), method=st.sampled_from(list(METHODS)))
@settings(max_examples=50, deadline=None)
def test_within_a_label_it_is_what_mmdet_tests_with(seed, method):
    """The soft_nms of a member's test_cfg (ViT-Adapter's), up to float32."""
    ops = pytest.importorskip("mmcv.ops")
    found = crowded(np.random.default_rng(seed), 40, 1)
    ours = soft_suppression(one_image(found), method=method, iou_threshold=0.5, sigma=0.5, min_score=0.05)
    theirs, _ = ops.soft_nms(
        found.boxes, found.scores, iou_threshold=0.5, sigma=0.5, min_score=0.05, method=method
    )
    assert np.allclose(ours.scores, np.sort(theirs[:, 4])[::-1], atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_images_do_not_meet_and_keep_their_order_by_new_score(method):
    found = predictions(3, count=25)
    result = soft_suppression(found, method=method, sigma=0.1)
    for row in range(len(found.images)):
        alone = soft_suppression(found.take_images([row]), method=method, sigma=0.1)
        assert np.array_equal(alone.scores, result.image(row).scores)
        assert np.array_equal(alone.boxes, result.image(row).boxes)
        assert (np.diff(alone.scores) <= 0).all()
    assert (result.scores < 0.99).all()
    assert not np.isin(result.scores, found.scores).all()


def test_a_tie_visits_the_earlier_instance_first():
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [40, 40, 50, 50]]
    found = Instances.build(boxes, [0.5, 0.5, 0.5], source=[7, 8, 9], masks=None, height=SIDE, width=SIDE)
    result = soft_suppression(one_image(found), iou_threshold=0.5, min_score=0.0)
    assert result.source.tolist() == [7, 9, 8]
    assert result.scores.tolist() == pytest.approx([0.5, 0.5, 0.5 * (1 - 9 / 11)])


def test_an_overlap_equal_to_the_threshold_lowers_nothing():
    boxes = [[0, 0, 7, 1], [3, 0, 10, 1]]  # 4 of 10 pixels
    pair = one_image(Instances.build(boxes, [0.9, 0.8], masks=None, height=SIDE, width=SIDE))
    assert soft_suppression(pair, iou_threshold=0.4).scores.tolist() == np.float32([0.9, 0.8]).tolist()
    assert soft_suppression(pair, iou_threshold=0.399).scores.tolist() == pytest.approx([0.9, 0.48])


def test_a_score_equal_to_the_lowest_is_dropped_and_boxes_without_area_lower_nothing():
    boxes = [[0, 0, 8, 8], [0, 0, 8, 8], [4, 4, 4, 4]]
    found = one_image(Instances.build(boxes, [1.0, 0.5, 0.25], masks=None, height=SIDE, width=SIDE))
    assert soft_suppression(found, min_score=0.0).scores.tolist() == [1.0, 0.25]
    assert soft_suppression(found, min_score=0.25).scores.tolist() == [1.0]


def test_images_without_instances_stay():
    none = PredictionSet.from_instances(images(2), LABELS, [Instances.empty(96, 128)] * 2)
    assert soft_suppression(none).offsets.tolist() == [0, 0, 0]
    nothing = none.take_images([])
    assert len(soft_suppression(nothing).images) == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"method": "hard"}, "method 'hard' is none of linear, gaussian"),
        ({"iou_threshold": 0.0}, "iou_threshold 0.0 in"),
        ({"sigma": 0.0}, "sigma 0.0 > 0"),
        ({"min_score": -0.1}, "min_score -0.1 >= 0"),
        ({"sigma": float("nan")}, "sigma nan > 0"),
    ],
)
def test_values_out_of_range_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        soft_suppression(predictions(0), **values)
