import math

import pytest

from hubmap_ml.metrics import dice, evaluate
from tests.metrics.scenes import DUCT, VESSEL, bar, predicted, truth_of


def test_instances_of_a_category_are_one_region():
    truth = truth_of([[bar(0, 10), bar(10, 20)]])
    assert dice(truth, predicted([[(bar(0, 20), 0.9)]])).value == 1.0
    assert dice(truth, predicted([[(bar(0, 15), 0.1), (bar(5, 30), 0.9)]])).value == 2 * 20 / (20 + 30)


def test_nothing_found_where_nothing_is_counts_one():
    truth = truth_of([[bar(0, 10)], [], []])
    found = predicted([[(bar(0, 10), 0.9)], [], [(bar(0, 10), 0.9)]])
    score = dice(truth, found)
    assert score.per_image[:, 0].tolist() == [1.0, 1.0, 0.0]
    assert score.value == pytest.approx(2 / 3)


def test_categories_with_truths_are_averaged():
    truth = truth_of([[bar(0, 10)], [bar(0, 10)]], labels=[[0], [0]], categories=(VESSEL, DUCT))
    found = predicted([[(bar(0, 10), 0.9, 0), (bar(0, 10), 0.9, 1)], []], categories=(VESSEL, DUCT))
    score = evaluate("dice", truth, found)
    assert score.value == 0.5
    assert score.details == {"dice/vessel": 0.5}
    assert math.isnan(dice(truth, found).per_category["duct"])


def test_what_lies_in_a_crowd_counts_on_neither_side():
    truth = truth_of([[bar(0, 10), bar(40, 60)]], iscrowd=[[False, True]])
    assert dice(truth, predicted([[(bar(0, 10), 0.9), (bar(45, 55), 0.9)]])).value == 1.0
    assert dice(truth, predicted([[(bar(0, 10), 0.9), (bar(35, 45), 0.9)]])).value == 2 * 10 / (10 + 15)
