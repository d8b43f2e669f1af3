import math

import pytest

from hubmap_ml.metrics import METRICS, Score, average_precision, coco_segm, evaluate, headline
from hubmap_ml.spec import InputError
from tests.metrics.scenes import bar, predicted, truth_of


def example():
    truth = truth_of([[bar(0, 10), bar(50, 60)], [bar(0, 10)], []])
    return truth, predicted([[(bar(0, 10), 0.9), (bar(20, 30), 0.8)], [(bar(0, 9), 0.7)], []])


def test_ap60_by_name():
    truth, found = example()
    score = evaluate("ap60", truth, found)
    assert score.value == average_precision(truth, found, iou_threshold=0.6).value
    assert (score.metric, score.n_images, score.n_instances) == ("ap60", 3, 3)
    assert score.details == {
        "ap60/vessel": score.value, "n_truths": 3, "max_recall": pytest.approx(2 / 3), "best_f1": pytest.approx(2 / 3),
        "best_f1_score": pytest.approx(0.7),
    }  # fmt: skip


def test_coco_by_name():
    truth, found = example()
    score = evaluate("coco_segm", truth, found)
    figures = coco_segm(truth, found)
    assert score.value == figures["segm_mAP"]
    assert score.details == {name: value for name, value in figures.items() if value != -1}


def test_only_common_images_are_counted():
    truth, found = example()
    score = evaluate("ap60", truth.take_images([1, 2]), found)
    assert (score.n_images, score.n_instances, score.value) == (2, 1, 1.0)


@pytest.mark.parametrize("metric", METRICS)
def test_no_truth_means_no_score(metric):
    score = evaluate(metric, truth_of([[]]), predicted([[(bar(0, 5), 0.9)]]))
    assert math.isnan(score.value)
    assert all(math.isfinite(value) for value in score.details.values())


def test_an_unknown_metric_is_refused():
    with pytest.raises(InputError, match=r"no metric 'map' \(there are ap60, coco_segm, dice, dsb_map\)"):
        evaluate("map", *example())


def score(value, n_images, metric="ap60"):
    return Score(metric, value, n_images, 0, {})


def test_the_headline_weighs_folds_by_images():
    assert headline([score(0.5, 10), score(0.8, 30)]) == pytest.approx((5 + 24) / 40)


def test_folds_without_a_score_are_left_out():
    assert headline([score(0.5, 10), score(math.nan, 30)]) == 0.5
    assert math.isnan(headline([score(math.nan, 30)]))
    assert math.isnan(headline([]))


def test_scores_of_different_metrics_are_not_averaged():
    with pytest.raises(InputError, match="different metrics"):
        headline([score(0.5, 10), score(0.5, 10, "coco_segm")])
