import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from hubmap_ml.data import PreparedData, SyntheticTissue, convert, generate, read_image, write_prepared
from hubmap_ml.spec import InputError, LeakLevel
from hubmap_ml.stages.leaks import (
    in_words,
    leak_tags,
    record_teachers_images,
    record_training_images,
    report_leaks,
    worst_level,
)
from hubmap_ml.stages.running import running
from hubmap_ml.stages.session import open_session
from hubmap_ml.tracking import FoundRun


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("HUBMAP_ML_WORK", str(tmp_path / "work"))


@pytest.fixture
def planted(tmp_path: Path) -> tuple[PreparedData, str, str]:
    """Data in which one tile of dataset 2 is a mirrored, recompressed tile of dataset 1; the names of both."""
    wanted = SyntheticTissue(seed=4, tile_size=64, slides=3, clean_per_slide=2, noisy_per_slide=2)
    raw = generate(tmp_path / "raw", wanted)
    rows = [line.split(",") for line in (raw / "tile_meta.csv").read_text().splitlines()]
    original = next(row[0] for row in rows if row[1:3] == ["1", "1"])
    copy = next(row[0] for row in rows if row[1:3] == ["2", "2"])
    pixels = read_image(raw / "train" / f"{original}.tif")[:, ::-1, ::-1]
    _, content = cv2.imencode(".jpg", np.ascontiguousarray(pixels), [cv2.IMWRITE_JPEG_QUALITY, 60])
    again = cv2.imdecode(content, cv2.IMREAD_COLOR)[:, :, ::-1]
    tifffile.imwrite(raw / "train" / f"{copy}.tif", np.ascontiguousarray(again), photometric="rgb")
    converted = convert(raw, types=("blood_vessel",))
    folds = np.full(len(converted.images), -1, np.int16)
    return write_prepared(tmp_path / "prepared", converted, folds, raw=raw), original, copy


def trained(stage: str, ids: list[str], start: FoundRun | None = None) -> FoundRun:
    with running(open_session(experiment="tiny"), stage, member="maskrcnn") as at:
        record_training_images(at, stage, ids, start=start)
        at.finish("trained")
    return at.run.found()


def seen(run: FoundRun) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for part in json.loads(run.artifact("training_images.json").read_text()):
        found.setdefault(part["stage"], []).extend(part["images"])
    return found


def predicted(data: PreparedData, run: FoundRun, held_out: list[str]) -> FoundRun:
    with running(open_session(experiment="tiny"), "predict", member="maskrcnn", fold=0) as at:
        report_leaks(at, data, run, held_out=held_out, test=[])
        at.finish("predicted")
    return at.run.found()


def test_a_copy_that_only_stage_1_saw_is_found_and_carried_on(planted: tuple[PreparedData, str, str]) -> None:
    data, original, copy = planted
    first = trained("pretrain", [copy])
    second = trained("finetune", list(data.images.ids[data.images.slides == "3"]), first)
    assert list(seen(second)) == ["pretrain", "finetune"]
    leaking = predicted(data, second, [original])
    report = json.loads(leaking.artifact("leaks.json").read_text())
    (pair,) = report["out_of_fold"]["pairs"]
    assert {**pair, "distance": 0} == {
        "scored": original,
        "seen": copy,
        "kind": "near_duplicate",
        "distance": 0,
        "through": "pretrain",
    }
    assert leaking.tags["hubmap.leak_level"] == "duplicate"
    assert leaking.metrics["leak/near_duplicate_pairs"] == 1
    assert leaking.metrics["leak/slide_pairs"] == leaking.metrics["leak/trained_on_pairs"] == 0
    clean = predicted(data, trained("finetune", seen(second)["finetune"]), [original])
    assert clean.tags["hubmap.leak_level"] == "none"
    assert worst_level([clean, leaking]) is LeakLevel.DUPLICATE
    tags = leak_tags([clean])
    assert (tags["hubmap.leak_level"], tags["hubmap.leak_level_test"]) == ("none", "none")
    assert in_words(tags) == "none"
    test = list(data.images.ids[data.images.splits == "test"])
    assert in_words(leak_tags([predicted(data, second, test)])) == "none (slides unknown)"
    with pytest.raises(InputError, match="has no leak level: run predict"):
        worst_level([clean, first])


def test_a_training_without_its_list_of_images_is_said(planted: tuple[PreparedData, str, str]) -> None:
    with running(open_session(experiment="tiny"), "finetune", member="maskrcnn") as at:
        at.finish("trained before lists were kept")
    with pytest.raises(InputError, match="training_images.json"):
        predicted(planted[0], at.run.found(), [])


def test_what_teachers_saw_speaks_through_their_labels(planted: tuple[PreparedData, str, str]) -> None:
    data, original, _ = planted
    other = str(data.images.ids[data.images.slides == "3"][0])
    first = trained("pretrain", [other])
    networks = [trained("finetune", [original], first), trained("finetune", [other], first)]
    with running(open_session(experiment="tiny"), "pseudo_label", fold=0) as at:
        record_teachers_images(at, networks)
        at.finish("labelled")
    labels = at.run.found()
    assert seen(labels) == {"teacher pretrain": [other], "teacher finetune": [original, other]}
    with running(open_session(experiment="tiny"), "pretrain", member="maskrcnn") as at:
        record_training_images(at, "pretrain", [other], start=None, taught=labels)
        at.finish("trained")
    student = at.run.found()
    assert list(seen(student)) == ["teacher pretrain", "teacher finetune", "pretrain"]
    assert predicted(data, student, [original]).tags["hubmap.leak_level"] == "trained_on"
    with running(open_session(experiment="tiny"), "pseudo_label", fold=0) as at:
        record_teachers_images(at, [student])
        at.finish("labelled")
    again = seen(at.run.found())
    assert list(again) == ["teacher pretrain", "teacher finetune"], "a teacher's teachers are teachers"
    assert original in again["teacher finetune"]
