import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.metrics import dsb_map, evaluate
from hubmap_ml.metrics.data_science_bowl import THRESHOLDS
from hubmap_ml.spec import InputError
from tests.metrics.scenes import DUCT, VESSEL, bar, predicted, random_scene, truth_of


def by_hand(truths, found):
    """The metric on dense masks, image by image, as the reference's notebook loops over it; None for 0 / 0."""
    scores = []
    for k in range(10):
        threshold_in_20ths = 10 + k  # whole numbers: no rounding decides
        tp = fp = fn = 0
        matched = [0] * len(found)
        for true in truths:
            matches = 0
            for number, mask in enumerate(found):
                shared, union = np.sum(true & mask), np.sum(true | mask)
                if 20 * shared > threshold_in_20ths * union:
                    matches += 1
                    matched[number] += 1
            tp += matches == 1
            fn += matches == 0
            fp += matches > 1
        fp += sum(count == 0 for count in matched)
        if tp + fp + fn == 0:
            return None
        scores.append(tp / (tp + fp + fn))
    return float(np.mean(scores))


def dense(masks, row_range, height, width):
    return [masks.to_dense(row, height, width) for row in row_range]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 2))
def test_the_score_is_that_of_loops_over_dense_masks(seed, n_categories):
    truth, found = random_scene(np.random.default_rng(seed), n_categories=n_categories)
    expected = []
    for row in range(len(truth.images)):
        size = int(truth.images.heights[row]), int(truth.images.widths[row])
        true_rows = range(*truth.offsets[row : row + 2])
        found_rows = range(*found.offsets[row : row + 2])
        expected.append(
            by_hand(dense(truth.masks.bits, true_rows, *size), dense(found.masks.bits, found_rows, *size))
        )
    score = dsb_map(truth, found)
    known = [value for value in expected if value is not None]
    assert np.array_equal(np.isnan(score.per_image), [value is None for value in expected])
    assert score.per_image[~np.isnan(score.per_image)] == pytest.approx(known)
    assert score.n_images == len(known)
    if len(truth):
        assert score.value == pytest.approx(np.mean(known))
        assert score.value == pytest.approx(np.mean(list(score.per_threshold.values())))
    else:
        assert math.isnan(score.value)


def test_a_match_needs_more_than_the_threshold():
    truth = truth_of([[bar(0, 20)]])
    for pixels, thresholds_reached in ((10, 0), (11, 1), (19, 9), (20, 10)):
        score = dsb_map(truth, predicted([[(bar(0, pixels), 0.9)]]))
        assert score.value == pytest.approx(thresholds_reached / 10)
    assert THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def test_two_predictions_of_one_truth_are_one_false_positive():
    score = dsb_map(
        truth_of([[bar(0, 20), bar(40, 60)]]), predicted([[(bar(0, 20), 0.9), (bar(0, 20), 0.8)]])
    )
    assert score.value == 0  # the doubled truth is a false positive, the other is missed


def test_images_count_alike_and_wrong_finds_on_empty_ones_count():
    truth = truth_of([[bar(0, 10)], [], [], [bar(0, 10), bar(20, 30), bar(40, 50)]])
    found = predicted([[(bar(0, 10), 0.9)], [(bar(0, 10), 0.1)], [], [(bar(0, 10), 0.9), (bar(60, 70), 0.9)]])
    score = dsb_map(truth, found)
    assert score.per_image.tolist()[:2] == [1.0, 0.0]
    assert math.isnan(score.per_image[2])
    assert score.per_image[3] == pytest.approx(1 / 4)
    assert (score.n_images, score.value) == (3, pytest.approx((1 + 0 + 1 / 4) / 3))


def test_scores_and_classes_do_not_matter_but_are_reported_by_class():
    truth = truth_of(
        [[bar(0, 10), bar(20, 30), bar(40, 50)], [bar(0, 10)]],
        labels=[[1, 1, 0], 0],
        categories=(VESSEL, DUCT),
    )
    found = predicted(
        [[(bar(0, 10), 0.001, 0), (bar(20, 30), 0.9, 1), (bar(40, 50), 0.5, 1)], [(bar(50, 60), 0.9, 0)]],
        categories=(VESSEL, DUCT),
    )
    score = evaluate("dsb_map", truth, found)
    assert score.value == 0.5
    assert score.details == {"dsb_map/vessel": 0.0, "dsb_map/duct": 1.0, "dsb_50": 0.5, "dsb_75": 0.5}


def test_what_lies_in_a_crowd_is_left_out():
    truth = truth_of([[bar(0, 10), bar(40, 90)]], iscrowd=[[False, True]])
    inside, outside = bar(50, 60), bar(20, 30)
    assert dsb_map(truth, predicted([[(bar(0, 10), 0.9), (inside, 0.9)]])).value == 1.0
    assert dsb_map(truth, predicted([[(bar(0, 10), 0.9), (outside, 0.9)]])).value == pytest.approx(0.5)
    only = truth_of([[bar(40, 90)], [bar(0, 10)]], iscrowd=[True, False])
    score = dsb_map(only, predicted([[(inside, 0.9)], [(bar(0, 10), 0.9)]]))
    assert (score.value, score.n_images) == (1.0, 1)


def test_predictions_without_a_pixel_are_none():
    score = dsb_map(truth_of([[bar(0, 10)]]), predicted([[(bar(0, 10), 0.9), (bar(5, 5), 0.9)]]))
    assert score.value == 1.0


def test_overlapping_predictions_are_refused_where_the_competition_refuses_them():
    truth = truth_of([[], [bar(0, 10)]])
    apart = predicted([[], [(bar(0, 10), 0.9), (bar(10, 20), 0.8)]])
    assert dsb_map(truth, apart, refuse_overlaps=True).value == dsb_map(truth, apart).value
    over = predicted([[], [(bar(0, 10), 0.9), (bar(30, 40), 0.9), (bar(7, 20), 0.8)]])
    with pytest.raises(InputError, match="image 'tile 1': predictions 0 and 2 share 3 pixels"):
        dsb_map(truth, over, refuse_overlaps=True)
