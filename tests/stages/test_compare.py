"""Files of anyone's predictions side by side: the figures are the metrics' own, and bad files are named in one line."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from hubmap_ml.instances import (
    Masks,
    read_coco,
    write_annotations,
    write_coco,
    write_coco_results,
    write_predictions,
)
from hubmap_ml.metrics import METRICS, evaluate, headline
from hubmap_ml.metrics.error_anatomy import KINDS
from hubmap_ml.spec import InputError
from hubmap_ml.stages import compare
from tests.random_scenes import images, predictions, truths


def decided(found):
    heights, widths = found.heights_of_instances(), found.widths_of_instances()
    return found.replace(masks=Masks.from_bits(found.masks.binarize(0.5, heights, widths)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    table = images(24)
    table = table.replace(slides=np.array([f"s{k % 3}" for k in range(24)], object))
    truth = truths(1, table=table)
    good = decided(predictions(1, table=table, objects_seed=1, count=12))
    write_coco(folder / "truth.json", truth)
    write_annotations(folder / "truth", truth)
    write_coco_results(folder / "good.json", good)
    write_coco_results(folder / "poor.json", good.take(np.arange(len(good)) % 3 == 0))
    write_predictions(folder / "stored", good)
    return folder


@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_the_headlines_of_the_metric(folder: Path, metric: str) -> None:
    found = compare.run(
        folder / "truth.json", [folder / "poor.json", folder / "good.json"], metric, resamples=200
    )
    truth = read_coco(folder / "truth.json")
    assert [score.name for score in found.comparison.scores] == ["poor", "good"]
    for score in found.comparison.scores:
        read = compare.read_any_predictions(folder / f"{score.name}.json", truth)
        folds = [np.flatnonzero(truth.images.folds == fold) for fold in (0, 1)]
        parts = [evaluate(metric, truth.take_images(rows), read.take_images(rows)) for rows in folds]
        assert score.value == pytest.approx(headline(parts), abs=1e-12)
        assert score.pooled == pytest.approx(evaluate(metric, truth, read).value, abs=1e-12)
    assert "not estimable from 3 slides" in found.verdict
    for anatomy, worst in zip(found.anatomies, found.worst, strict=True):
        assert anatomy.iou_threshold == (0.6 if metric == "ap60" else 0.5)
        assert len(anatomy.per_image) == 24
        assert len(worst) <= 50
        pulls = [image.pull for image in worst]
        assert pulls == sorted(pulls, reverse=True)
        assert all(pull > 0 for pull in pulls)


def test_any_form_of_truth_and_predictions_gives_the_same(folder: Path) -> None:
    one = compare.run(folder / "truth.json", [folder / "good.json"], resamples=100)
    other = compare.run(folder / "truth", [folder / "stored"], resamples=100)
    assert other.comparison.scores == (dataclasses.replace(one.comparison.scores[0], name="stored"),)
    assert one.verdict.startswith("good: ap60 0.")


def test_all_of_it_is_json(folder: Path) -> None:
    found = compare.run(folder / "truth.json", [folder / "poor.json", folder / "good.json"], resamples=100)
    data = json.loads(json.dumps(found.to_data(), allow_nan=False))
    assert data["gains"][0]["words"] == found.verdict == data["verdict"]
    assert [kind["kind"] for kind in data["errors"][0]["kinds"]] == list(KINDS)
    assert data["worst_images"][1][0]["id"] == found.worst[1][0].id


def test_what_is_missing_is_said(folder: Path, tmp_path: Path) -> None:
    records = json.loads((folder / "good.json").read_text())
    (tmp_path / "some.json").write_text(json.dumps(records[: len(records) // 2]))
    found = compare.run(folder / "truth.json", [tmp_path / "some.json"], resamples=100)
    assert found.notes == ("some predicts nothing on 12 of 24 images; every truth on them is missed.",)
    table = images(24)
    write_coco(tmp_path / "truth.json", truths(1, table=table))
    found = compare.run(tmp_path / "truth.json", [folder / "stored"], resamples=100)
    assert "names no slides" in found.notes[0]
    assert found.comparison.scores[0].on_new.words == "not estimable: the files name no slides"


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        (["good.json"], {"metric": "ap61"}, "metric 'ap61' is unknown"),
        (["good.json", "good.json"], {}, "good.json is given twice"),
        (["nothing.json"], {}, "nothing.json: no such file"),
        (["truth.json"], {}, "COCO results are a list"),
        (["good.txt"], {}, "predictions are a COCO results"),
        ([], {}, "no predictions are given"),
        (["good.json"], {"resamples": 5}, "at least 100"),
    ],
)
def test_bad_input_is_named(folder: Path, names: list[str], options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        compare.run(folder / "truth.json", [folder / name for name in names], **options)  # type: ignore[arg-type]
