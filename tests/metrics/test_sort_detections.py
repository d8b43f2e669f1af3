"""What a detection is does not depend on those of lower score: counting above a threshold is exact."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.metrics import error_anatomy, sort_detections
from hubmap_ml.metrics.error_anatomy import KINDS, RIGHT
from hubmap_ml.viz import best_f1, count_above
from tests.metrics.scenes import bar, predicted, random_scene, truth_of


def test_a_right_detection_names_the_truth_that_it_finds():
    truth = truth_of([[bar(0, 20), bar(40, 60)], [bar(0, 20)]])
    found = predicted([[(bar(0, 20), 0.9), (bar(0, 19), 0.8), (bar(41, 60), 0.7)], [(bar(60, 80), 0.5)]])
    sorted_ = sort_detections(truth, found, iou_threshold=0.6)
    assert sorted_.kinds == (RIGHT, "duplicate", RIGHT, "background")
    assert sorted_.finds.tolist() == [0, -1, 1, -1]


def test_what_lies_in_a_crowd_is_left_out():
    truth = truth_of([[bar(0, 20), bar(40, 80)]], iscrowd=[[False, True]])
    found = predicted([[(bar(0, 20), 0.9), (bar(45, 60), 0.8)]])
    assert sort_detections(truth, found, iou_threshold=0.6).kinds == (RIGHT, "left out")


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), threshold=st.floats(0, 1))
def test_cutting_at_a_score_changes_nothing_above_it(seed, threshold):
    truth, found = random_scene(np.random.default_rng(seed))
    whole = sort_detections(truth, found, iou_threshold=0.5)
    above = np.flatnonzero(whole.predictions.scores >= threshold)
    cut = sort_detections(truth, whole.predictions.take(above), iou_threshold=0.5)
    assert cut.kinds == tuple(whole.kinds[row] for row in above)
    assert cut.finds.tolist() == whole.finds[above].tolist()


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_counts_are_the_anatomys_and_those_of_a_set_that_is_cut(seed):
    truth, found = random_scene(np.random.default_rng(seed))
    anatomy = error_anatomy(truth, found, iou_threshold=0.5)
    sorted_ = sort_detections(truth, found, iou_threshold=0.5)
    for kind in anatomy.kinds[: KINDS.index("missed")]:
        assert sorted_.kinds.count(kind.kind) == kind.count_in_all
    n_truths = int((~sorted_.truth.iscrowd).sum())
    counts = count_above(sorted_.predictions.scores, sorted_.kinds, n_truths, len(sorted_.truth.images))
    for place in (0, 17, 50, 83, 100):
        rows = [row for row, score in enumerate(sorted_.predictions.scores) if score >= place / 100 - 1e-7]
        kinds = [sorted_.kinds[row] for row in rows]
        assert counts.right[place] == kinds.count(RIGHT)
        assert counts.wrong[place] == len(kinds) - kinds.count(RIGHT) - kinds.count("left out")
        assert counts.right[place] + counts.missed[place] == n_truths
    place = round(best_f1(counts) * 100)
    f1 = [
        2 * a / max(2 * a + b + c, 1)
        for a, b, c in zip(counts.right, counts.wrong, counts.missed, strict=True)
    ]
    assert f1[place] == max(f1)
