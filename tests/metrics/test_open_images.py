import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.instances import (
    Instances,
    Masks,
    PredictionSet,
    SoftMasks,
    read_coco_results,
    write_coco_results,
)
from hubmap_ml.metrics import area_under, average_precision
from hubmap_ml.spec import InputError
from tests.metrics.scenes import DUCT, VESSEL, bar, images, predicted, random_scene, truth_of

seeds = st.integers(0, 2**32 - 1)


def by_brute_force(truth, predictions, iou_threshold, order=None):
    """The rule, told again with dense masks and loops."""
    per_category = []
    n = len(predictions)
    order = list(range(n)) if order is None else list(order)
    rows = predictions.image_rows()
    for label, category in enumerate(truth.categories):
        names = [c.name for c in predictions.categories]
        wanted = names.index(category.name) if category.name in names else -1
        n_truths = sum(truth.labels[t] == label and not truth.iscrowd[t] for t in range(len(truth)))
        if n_truths == 0:
            continue
        ranked = sorted(
            (k for k in range(n) if predictions.labels[k] == wanted),
            key=lambda k: (-predictions.scores[k], order[k]),
        )
        taken, hits = set(), []
        for k in ranked:
            height, width = (int(v[rows[k]]) for v in (predictions.images.heights, predictions.images.widths))
            mask = predictions.masks.bits.to_dense(k, height, width)
            best, best_iou, in_crowd = None, 0.0, False
            for t in np.flatnonzero((truth.image_rows() == rows[k]) & (truth.labels == label)):
                other = truth.masks.bits.to_dense(int(t), height, width)
                shared = int((mask & other).sum())
                if truth.iscrowd[t]:
                    in_crowd |= bool(mask.any()) and shared / int(mask.sum()) >= iou_threshold
                elif (mask | other).any() and shared / int((mask | other).sum()) > best_iou:
                    best, best_iou = t, shared / int((mask | other).sum())
            if best is not None and best_iou >= iou_threshold and best not in taken:
                taken.add(best)
                hits.append(True)
            elif not in_crowd:
                hits.append(False)
        value, reached = 0.0, 0.0
        points = [(sum(hits[: k + 1]) / n_truths, sum(hits[: k + 1]) / (k + 1)) for k in range(len(hits))]
        for recall in sorted({recall for recall, _ in points}):
            value += (recall - reached) * max(p for r, p in points if r >= recall)
            reached = recall
        per_category.append(value)
    return sum(per_category) / len(per_category) if per_category else math.nan


def ap(truth, found, **options):
    return average_precision(truth, found, **options).value


def test_everything_found():
    truth = truth_of([[bar(0, 10), bar(50, 60)], [], [bar(3, 8)]])
    found = predicted([[(bar(0, 10), 0.9), (bar(50, 60), 0.2)], [], [(bar(3, 8), 0.5)]])
    assert ap(truth, found) == 1.0


def test_nothing_found():
    truth = truth_of([[bar(0, 10)], []])
    result = average_precision(truth, predicted([[], []]))
    assert result.value == 0.0
    assert len(result.recall) == len(result.precision) == len(result.scores) == 0
    assert ap(truth, predicted([[(bar(20, 30), 0.9)], []])) == 0.0


def test_no_truth_at_all_has_no_score():
    result = average_precision(truth_of([[], []]), predicted([[(bar(0, 5), 0.9)], []]))
    assert math.isnan(result.value)
    assert math.isnan(result.per_category["vessel"])
    assert result.n_truths == 0


def test_a_second_hit_is_a_false_positive():
    truth = truth_of([[bar(0, 10), bar(50, 60)]])
    found = predicted([[(bar(0, 10), 0.9), (bar(0, 10), 0.8), (bar(50, 60), 0.7)]])
    # recall 1/2 at precision 1, recall 1 at precision 2/3
    assert ap(truth, found) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3, abs=1e-15)


def test_there_is_no_second_best_try():
    """The better detection takes the truth; the other's second-best truth would have done by COCO's rule."""
    truth = truth_of([[bar(0, 10), bar(0, 8)]])
    found = predicted([[(bar(0, 10), 0.9), (bar(0, 10), 0.8)]])
    assert ap(truth, found) == 0.5


def test_the_first_of_equally_good_truths_wins():
    truth = truth_of([[bar(0, 10), bar(0, 10)]])
    found = predicted([[(bar(0, 10), 0.9), (bar(0, 10), 0.8)]])
    assert ap(truth, found) == 0.5, "both detections belong to the first truth"


def test_an_iou_at_the_threshold_counts():
    truth = truth_of([[bar(0, 5)]])
    three_fifths = predicted([[(bar(0, 3), 0.9)]])
    assert ap(truth, three_fifths, iou_threshold=0.6) == 1.0
    assert ap(truth, three_fifths, iou_threshold=np.nextafter(0.6, 1)) == 0.0
    two_fifths = predicted([[(bar(0, 2), 0.9)]])
    assert ap(truth, two_fifths, iou_threshold=0.4) == 1.0
    assert ap(truth, two_fifths, iou_threshold=float(np.float32(0.4))) == 0.0, "float32(0.4) is more than 2/5"


def test_detections_of_all_images_are_ranked_together():
    truth = truth_of([[bar(0, 10)], [bar(0, 10)]])
    found = predicted([[(bar(0, 10), 0.5)], [(bar(30, 40), 0.9), (bar(0, 10), 0.1)]])
    # false, true, true: precision 2/3 from recall 0 on
    assert ap(truth, found) == pytest.approx(2 / 3, abs=1e-15)


@pytest.mark.parametrize(("first", "value"), [(True, 1.0), (False, 0.5)])
def test_equal_scores_keep_the_order_of_the_file(first, value):
    truth = truth_of([[bar(0, 10)]])
    pair = [(bar(0, 10), 0.7), (bar(50, 60), 0.7)]
    assert ap(truth, predicted([pair if first else pair[::-1]])) == value


def test_equal_scores_of_different_images_keep_the_order_of_the_file(tmp_path):
    truth = truth_of([[bar(0, 10)], []], original_ids=[1, 2])
    found = predicted([[(bar(0, 10), 0.7)], [(bar(0, 10), 0.7)]], original_ids=[1, 2])
    assert ap(truth, found) == 1.0
    assert ap(truth, found.take_images([1, 0])) == 0.5
    path = tmp_path / "results.json"
    write_coco_results(path, found.take_images([1, 0]))
    assert ap(truth, read_coco_results(path, truth.images, truth.categories)) == 0.5


def test_categories_with_truths_are_averaged():
    both = (VESSEL, DUCT)
    truth = truth_of([[bar(0, 10), bar(50, 60)]], labels=[[0, 1]], categories=both)
    found = predicted([[(bar(0, 10), 0.9, 0), (bar(50, 60), 0.9, 0)]], categories=both)
    result = average_precision(truth, found)
    assert result.per_category == {"vessel": 1.0, "duct": 0.0}
    assert result.value == 0.5
    only = truth_of([[bar(0, 10)]], categories=both)
    assert average_precision(only, found).value == 1.0, "no duct anywhere: it is not counted as 0"


def test_categories_are_matched_by_name():
    truth = truth_of([[bar(0, 10), bar(50, 60)]], labels=[[0, 1]], categories=(VESSEL, DUCT))
    found = predicted([[(bar(0, 10), 0.9, 1), (bar(50, 60), 0.8, 0)]], categories=(DUCT, VESSEL))
    assert ap(truth, found) == 1.0
    with pytest.raises(InputError, match="no name in common"):
        ap(truth_of([[bar(0, 10)]]), predicted([[(bar(0, 10), 0.9)]], categories=(DUCT,)))


def test_a_detection_in_a_crowd_is_left_out_unless_it_hits():
    truth = truth_of([[bar(0, 10), bar(20, 60)]], iscrowd=[[False, True]])
    found = [(bar(20, 30), 0.9), (bar(30, 40), 0.8), (bar(0, 10), 0.7)]
    result = average_precision(truth, predicted([found]))
    assert result.value == 1.0
    assert result.n_truths == 1
    assert result.scores.tolist() == [pytest.approx(0.7)]
    half_in = predicted([[(bar(55, 65), 0.9), (bar(0, 10), 0.7)]])
    assert ap(truth, half_in) == 0.5, "5 of 10 pixels are in the crowd: too few at 0.6"
    inside = truth_of([[bar(20, 30), bar(20, 60)]], iscrowd=[[False, True]])
    twice = predicted([[(bar(20, 30), 0.9), (bar(20, 30), 0.8)]])
    assert average_precision(inside, twice).value == 1.0, "the first hits, the second is the crowd's"
    assert math.isnan(ap(truth_of([[bar(0, 9)]], iscrowd=[[True]]), twice)), "a crowd is no target"


def test_empty_masks_are_no_match():
    truth = truth_of([[bar(0, 0), bar(0, 5)]])
    found = predicted([[(bar(0, 0), 0.9), (bar(0, 5), 0.5)]])
    assert ap(truth, found) == pytest.approx(0.5 * 0.5, abs=1e-15)


def test_soft_masks_are_cut_at_a_half():
    truth = truth_of([[np.pad(np.ones((2, 20), bool), ((1, 1), (0, 80)))]])
    crop = np.full((2, 40), 127, np.uint8)
    crop[:, :20] = 128
    soft = Masks.from_soft(SoftMasks.from_crops([crop], [[0, 1, 40, 3]]))
    one = Instances.build([[0, 1, 40, 3]], [0.9], masks=soft, height=4, width=100)
    found = PredictionSet.from_instances(images(1), (VESSEL,), [one])
    assert ap(truth, found, iou_threshold=1.0) == 1.0


@settings(deadline=None, max_examples=200)
@given(seeds, st.booleans(), st.integers(1, 2), st.sampled_from([0.25, 0.4, 0.5, 0.6, 0.75, 1.0]))
def test_equals_brute_force_with_ties_crowds_and_empty_images(seed, crowds, n_categories, iou_threshold):
    rng = np.random.default_rng(seed)
    truth, found = random_scene(rng, crowds=crowds, n_categories=n_categories)
    expected = by_brute_force(truth, found, iou_threshold)
    got = average_precision(truth, found, iou_threshold=iou_threshold)
    assert got.value == pytest.approx(expected, abs=1e-12, nan_ok=True)
    shuffled = rng.permutation(len(found))
    expected = by_brute_force(truth, found, iou_threshold, order=shuffled)
    assert ap(truth, found.replace(file_order=shuffled), iou_threshold=iou_threshold) == pytest.approx(
        expected, abs=1e-12, nan_ok=True
    )


@settings(deadline=None, max_examples=50)
@given(seeds)
def test_order_of_truth_images_and_small_batches_change_nothing(seed):
    rng = np.random.default_rng(seed)
    truth, found = random_scene(rng, count=6, crowds=True, n_categories=2)
    once = average_precision(truth, found)
    shuffled = average_precision(truth.take_images(rng.permutation(6)), found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hubmap_ml.metrics.overlaps._INSTANCES_AT_ONCE", 10)
        in_batches = average_precision(truth, found)
    for other in (shuffled, in_batches):
        assert (other.value == once.value) or math.isnan(once.value)
        assert np.array_equal(other.precision, once.precision)


def test_only_images_that_both_know_are_scored():
    truth = truth_of([[bar(0, 10)], [bar(0, 10)], []])
    found = predicted([[(bar(0, 10), 0.5)], [], []])
    result = average_precision(truth, found.take_images([0, 2]))
    assert (result.value, result.n_images, result.n_truths) == (1.0, 2, 1)
    assert ap(truth.take_images([0]), found) == 1.0


def test_the_curve_stands_beside_the_value():
    truth = truth_of([[bar(0, 10), bar(50, 60)]])
    found = predicted([[(bar(0, 10), 0.9), (bar(20, 30), 0.8), (bar(50, 60), 0.7)]])
    result = average_precision(truth, found)
    assert result.recall.tolist() == [0.5, 0.5, 1.0]
    assert result.precision.tolist() == [1.0, 0.5, 2 / 3]
    assert area_under(result.recall, result.precision) == result.value


@pytest.mark.parametrize("threshold", [0, -1, 1.1, math.nan])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(InputError, match="IoU threshold"):
        ap(truth_of([[]]), predicted([[]]), iou_threshold=threshold)


def test_bad_input_is_refused():
    truth, found = truth_of([[bar(0, 10)]]), predicted([[(bar(0, 10), 0.5)]])
    with pytest.raises(InputError, match="same data"):
        ap(truth, found.replace(images=found.images.replace(ids=np.array(["other"], object))))
    with pytest.raises(InputError, match="have no masks"):
        ap(truth, found.replace(masks=None))
    with pytest.raises(InputError, match="not a finite number"):
        ap(truth, found.replace(scores=np.array([np.nan], np.float32)))
    with pytest.raises(InputError, match="another size"):
        ap(truth, found.replace(images=images(1, width=101)))
