"""Each kind of error is told from the others, and costs what putting it right wins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.metrics import average_precision, error_anatomy
from hubmap_ml.metrics.error_anatomy import BACKGROUND_IOU, KINDS
from tests.metrics.scenes import DUCT, VESSEL, bar, predicted, random_scene, truth_of

BOTH = (VESSEL, DUCT)


def anatomy(truth, found, iou_threshold=0.6):
    return error_anatomy(truth, found, iou_threshold=iou_threshold)


def counts(result):
    return {kind.kind: kind.count_in_all for kind in result.kinds if kind.count_in_all}


def costs(result):
    return {kind.kind: kind.cost for kind in result.kinds if abs(kind.cost) > 1e-12}


def test_nothing_wrong_costs_nothing():
    result = anatomy(truth_of([[bar(0, 20)], []]), predicted([[(bar(0, 20), 0.9)], []]))
    assert (result.value, counts(result), costs(result)) == (1.0, {}, {})
    assert (result.f1, result.score_threshold) == (1.0, pytest.approx(0.9))
    assert result.per_image.tolist() == [[1, 1, 0, 0, 0, 0, 0, 0], [0] * 8]


def test_a_second_find_of_a_truth_is_a_duplicate():
    truth = truth_of([[bar(0, 20), bar(40, 60)]])
    found = predicted([[(bar(0, 20), 0.9), (bar(0, 19), 0.8), (bar(40, 60), 0.7)]])
    result = anatomy(truth, found)
    assert counts(result) == {"duplicate": 1}
    assert costs(result) == {"duplicate": pytest.approx(1 - result.value)}


def test_a_find_that_overlaps_too_little_is_a_wrong_place():
    truth = truth_of([[bar(0, 20), bar(40, 60)]])
    found = predicted([[(bar(0, 8), 0.9), (bar(12, 20), 0.8), (bar(40, 60), 0.7)]])
    result = anatomy(truth, found)
    assert counts(result) == {"localisation": 2}  # and the truth is not missed: an error stands for it
    assert costs(result) == {"localisation": pytest.approx(1 - result.value)}  # one put right, the other gone


def test_a_find_of_the_wrong_category_is_one_of_classification():
    truth = truth_of([[bar(0, 20), bar(40, 60)]], labels=[[0, 1]], categories=BOTH)
    found = predicted([[(bar(0, 20), 0.9, 1), (bar(40, 60), 0.7, 1)]], categories=BOTH)
    result = anatomy(truth, found)
    assert counts(result) == {"classification": 1}
    assert result.kinds[KINDS.index("classification")].by_class == (0, 1)
    assert costs(result) == {"classification": pytest.approx(0.75)}  # vessel 0 -> 1, duct 0.5 -> 1


def test_wrong_place_and_category_is_both():
    truth = truth_of([[bar(0, 20)]], labels=[[0]], categories=BOTH)
    found = predicted([[(bar(0, 8), 0.9, 1), (bar(0, 20), 0.8, 0)]], categories=BOTH)
    assert counts(anatomy(truth, found)) == {"both": 1}


def test_background_and_missed():
    truth = truth_of([[bar(0, 20), bar(40, 60)]])
    found = predicted([[(bar(0, 20), 0.9), (bar(70, 90), 0.95), (bar(58, 78), 0.1)]])
    result = anatomy(truth, found)
    assert counts(result) == {"background": 2, "missed": 1}  # IoU 2/38: not even a wrong place
    assert result.value == 0.25
    assert costs(result) == {"background": pytest.approx(0.25), "missed": pytest.approx(0.25)}
    assert result.score_threshold == pytest.approx(0.9)
    background = result.kinds[KINDS.index("background")]
    assert (background.count, background.by_size, background.by_class) == (1, (0, 0, 1), (1,))
    assert result.truths_by_size == (0, 0, 2)  # equal ones are no thirds
    assert result.found_by_class == (1,)


def test_detections_in_a_crowd_are_no_errors():
    truth = truth_of([[bar(0, 20), bar(40, 80)]], iscrowd=[[False, True]])
    found = predicted([[(bar(0, 20), 0.9), (bar(45, 60), 0.95)]])
    assert counts(anatomy(truth, found)) == {}


def test_nothing_found():
    result = anatomy(truth_of([[bar(0, 20)], [bar(0, 5)]]), predicted([[], []]))
    assert counts(result) == {"missed": 2}
    assert (result.value, result.f1) == (0.0, 0.0)
    assert np.isnan(result.kinds[-1].cost)
    assert result.kinds[-1].interval.words == "nothing is left to find"


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_kinds_are_those_of_loops_over_dense_masks(seed):
    truth, found = random_scene(np.random.default_rng(seed), n_categories=2, crowds=False)
    result = anatomy(truth, found)
    kinds, missed = by_loops(truth, found, 0.6)
    assert [kind.count_in_all for kind in result.kinds] == [kinds.count(kind) for kind in KINDS[:-1]] + [
        missed
    ]
    expected = average_precision(truth, found).value
    assert result.value == pytest.approx(expected, nan_ok=True)
    for kind in ("duplicate", "both", "background"):
        alone = average_precision(truth, found.take(np.array([k != kind for k in kinds], bool))).value
        cost = result.kinds[KINDS.index(kind)].cost
        assert cost == pytest.approx(alone - expected, abs=1e-12, nan_ok=True)
    for kind in result.kinds:
        assert (
            sum(kind.by_size) == sum(kind.by_class) == kind.count <= kind.count_in_all
            or kind.kind == "missed"
        )
        assert np.isnan(kind.cost) or kind.cost >= -1e-12 or kind.kind in ("missed", "classification")
    assert (result.per_image.sum(axis=0)[2:] == [kind.count for kind in result.kinds]).all()


def by_loops(truth, found, threshold):
    """The kind of each row, how many truths are missed, told again with dense masks."""

    def dense(item, rows, k):
        height, width = (int(v[rows[k]]) for v in (item.images.heights, item.images.widths))
        return item.masks.bits.to_dense(k, height, width)

    true_rows, found_rows = truth.image_rows(), found.image_rows()
    kinds, taken, stood_for = [""] * len(found), set(), set()
    for k in sorted(range(len(found)), key=lambda k: (-found.scores[k], k)):
        mask = dense(found, found_rows, k)
        own, other = (-1, 0.0), (-1, 0.0)
        for t in np.flatnonzero(true_rows == found_rows[k]):
            target = dense(truth, true_rows, int(t))
            union = int((mask | target).sum())
            iou = int((mask & target).sum()) / union if union else 0.0
            if iou < BACKGROUND_IOU:
                continue
            if truth.labels[t] == found.labels[k] and iou > own[1]:
                own = (int(t), iou)
            if truth.labels[t] != found.labels[k] and iou > other[1]:
                other = (int(t), iou)
        if own[1] >= threshold:
            kinds[k] = "right" if own[0] not in taken else "duplicate"
            taken.add(own[0])
        elif own[0] >= 0:
            kinds[k] = "localisation"
            stood_for.add(own[0])
        elif other[1] >= threshold:
            kinds[k] = "classification"
            stood_for.add(other[0])
        else:
            kinds[k] = "both" if other[0] >= 0 else "background"
    return kinds, len(truth) - len(taken | stood_for)
