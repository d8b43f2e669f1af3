import numpy as np
import pytest

from hubmap_ml.metrics import METRICS, coco, data_science_bowl, open_images
from hubmap_ml.postprocess import apply_steps, parse_steps
from hubmap_ml.spec import InputError
from hubmap_ml.tuning import recheck
from tests.random_scenes import images, predictions, truths

STEPS = parse_steps([{"score": 0.1}, {"nms": {"iou": 0.5}}, {"mask_threshold": 0.4}])


def final(soft=False):
    table = images(4)
    found = predictions(2, table=table, objects_seed=2, count=40)
    return truths(2, table=table, empty=(3,)), found if soft else apply_steps(found, STEPS)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("soft", [False, True])
def test_a_right_score_is_confirmed(metric, soft):
    assert recheck(metric, *final(soft)) <= 1e-12


@pytest.mark.parametrize("metric", METRICS)
def test_no_score_is_confirmed_as_none(metric):
    truth, found = final()
    assert recheck(metric, truth.take(np.zeros(0, int)), found) == 0.0


@pytest.mark.parametrize(
    ("metric", "module", "kernel", "wrong"),
    [
        ("ap60", open_images, "best_truths", lambda result: (np.roll(result[0], 1), result[1])),
        ("coco_segm", coco, "coco_matches", lambda result: (result[0], result[1] & ~np.uint64(1), result[2])),
        ("dsb_map", data_science_bowl, "dsb_counts", lambda result: result + np.array([0, 1, 0])),
    ],
)
def test_a_wrong_kernel_is_found(monkeypatch, metric, module, kernel, wrong):
    right = getattr(module, kernel)
    monkeypatch.setattr(module, kernel, lambda *given: wrong(right(*given)))
    assert recheck(metric, *final()) > 1e-9


def test_a_wrong_overlap_is_found(monkeypatch):
    from hubmap_ml.instances import BitMasks

    right = BitMasks.intersections
    monkeypatch.setattr(BitMasks, "intersections", lambda *given: right(*given) * 9 // 10)
    for metric in ("ap60", "coco_segm", "dsb_map"):
        assert recheck(metric, *final()) > 1e-9


def test_an_unknown_metric_is_refused():
    with pytest.raises(InputError, match="no metric"):
        recheck("map", *final())
