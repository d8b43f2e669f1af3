import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.instances import read_coco, read_coco_results, write_coco, write_coco_results
from hubmap_ml.metrics import coco_evaluation, coco_segm
from hubmap_ml.spec import InputError
from tests.metrics.scenes import bar, predicted, random_scene, truth_of


def by_pycocotools(truth_path, results_path, max_detections=100):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(truth_path))
        evaluation = COCOeval(truth, truth.loadRes(str(results_path)), "segm")
        evaluation.params.maxDets = [1, 10, max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([20, 100, 300]))
def test_the_twelve_figures_are_those_of_pycocotools_on_the_written_files(
    tmp_path_factory, seed, max_detections
):
    rng = np.random.default_rng(seed)
    truth, found = random_scene(rng, count=5, crowds=True, n_categories=2, side=100)
    folder = tmp_path_factory.mktemp("coco")
    write_coco(folder / "truth.json", truth)
    write_coco_results(folder / "results.json", found)
    if len(found) == 0:
        return
    expected = by_pycocotools(folder / "truth.json", folder / "results.json", max_detections)
    got = coco_segm(truth, found, max_detections=max_detections)
    assert len(got) == 12
    skip = 1 if max_detections != 100 else 0  # summarize gives its first figure for 100 detections only
    assert list(got.values())[skip:] == expected[skip:]
    again = coco_segm(
        read_coco(folder / "truth.json"),
        read_coco_results(folder / "results.json", truth.images, truth.categories),
        max_detections=max_detections,
    )
    assert again == got


def test_the_first_figure_holds_for_any_number_of_detections():
    rng = np.random.default_rng(0)
    truth, found = random_scene(rng, count=5)
    assert coco_segm(truth, found, max_detections=300)["segm_mAP"] == coco_segm(truth, found)["segm_mAP"] > 0
    few = coco_segm(truth, found, max_detections=1)
    assert few["segm_AR_10"] == few["segm_AR_1"]


def test_results_in_another_order(tmp_path):
    truth, found = random_scene(np.random.default_rng(1), count=5, n_categories=2)
    write_coco(tmp_path / "truth.json", truth)
    write_coco_results(tmp_path / "results.json", found)
    records = json.loads((tmp_path / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps(records[::-1]))
    expected = by_pycocotools(tmp_path / "truth.json", tmp_path / "results.json")
    back = read_coco_results(tmp_path / "results.json", truth.images, truth.categories)
    assert list(coco_segm(truth, back).values()) == expected


def test_a_truth_with_the_id_zero_can_be_found():
    """COCOeval takes a match with the annotation 0 for none."""
    truth, found = truth_of([[bar(0, 10)]]), predicted([[(bar(0, 10), 0.9)]])
    assert coco_segm(truth.replace(ids=np.zeros(1, np.int64)), found)["segm_mAP"] == pytest.approx(1)


def test_no_predictions_and_no_truth():
    truth = truth_of([[bar(0, 10)]])
    assert coco_segm(truth, predicted([[]]))["segm_mAP"] == 0
    assert coco_segm(truth, predicted([[]]))["segm_mAP_l"] == -1
    assert set(coco_segm(truth_of([[]]), predicted([[(bar(0, 10), 0.9)]])).values()) == {-1}


def test_a_category_by_itself_is_what_it_would_be_alone():
    for seed in range(5):
        truth, found = random_scene(
            np.random.default_rng(seed), count=6, crowds=True, n_categories=2, side=60
        )
        whole = coco_evaluation(truth, found)
        for category in truth.categories:
            alone = coco_segm(truth.with_categories([category.name]), found)
            for area, key in ((None, "mAP"), ("small", "mAP_s")):
                assert whole.average_precision(area=area, category=category.name) == alone[f"segm_{key}"]
            assert whole.average_precision(iou=0.75, category=category.name) == alone["segm_mAP_75"]
            assert whole.average_recall(place=1, category=category.name) == alone["segm_AR_10"]


def test_nothing_is_printed(capsys):
    coco_segm(truth_of([[bar(0, 10)]]), predicted([[(bar(0, 10), 0.9)]]))
    assert capsys.readouterr().out == ""


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="max_detections 0"):
        coco_segm(truth_of([[]]), predicted([[]]), max_detections=0)
