"""In an environment without torch: stored predictions are evaluated, tuned, ensembled and submitted."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hubmap_ml.ensembling import MemberSteps, ensemble_study
from hubmap_ml.instances import (
    Annotations,
    PredictionSet,
    read_annotations,
    read_predictions,
    write_annotations,
    write_coco,
    write_predictions,
)
from hubmap_ml.metrics import evaluate
from hubmap_ml.postprocess import apply_steps, parse_steps
from hubmap_ml.predictor import open_predictor, write_predictor
from hubmap_ml.submission import hubmap2023
from hubmap_ml.tuning import run_study
from tests.random_scenes import images, predictions, truths

STEPS = parse_steps(
    [{"score": 0.001}, {"nms": {"iou": 0.5, "by": "box"}}, {"mask_threshold": 0.5}, {"min_area": 0}]
)
SPACE = {"score": [0.001, 0.6], "nms_iou": [0.3, 0.8], "mask_threshold": [0.3, 0.7], "min_area": [0, 40]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Truth and two members' candidates on disk, as `predict` leaves them."""
    folder = tmp_path_factory.mktemp("stored")
    table = images(8)
    truth = truths(1, table=table)
    write_annotations(folder / "truth", truth)
    write_coco(folder / "truth.json", truth)
    for member in range(2):
        write_predictions(folder / f"member{member}", predictions(10 + member, table=table, objects_seed=1))
    return folder


@pytest.fixture(scope="module")
def truth(folder: Path) -> Annotations:
    return read_annotations(folder / "truth")


@pytest.fixture(scope="module")
def members(folder: Path) -> list[PredictionSet]:
    return [read_predictions(folder / f"member{member}") for member in range(2)]


def test_there_is_no_torch_here() -> None:
    missing = [
        name
        for name in ("torch", "mmcv", "mmdet", "albumentations")
        if importlib.util.find_spec(name) is None
    ]
    assert missing == ["torch", "mmcv", "mmdet", "albumentations"]


def test_candidates_are_tuned_and_fused(truth: Annotations, members: list[PredictionSet]) -> None:
    studies = [run_study(truth, item, base_steps=STEPS, space=SPACE, trials=12) for item in members]
    for study in studies:
        assert study.value >= study.base_value
        assert np.isfinite(study.cross_fitted)
    steps = [MemberSteps(parse_steps(study.best_steps)) for study in studies]
    fused = ensemble_study(truth, members, members=steps, base_steps=STEPS, space=SPACE, trials=12)
    assert fused.box_difference < 1e-5
    assert 0 < fused.study.value <= 1


def test_the_command_scores_parquet(folder: Path, truth: Annotations, members: list[PredictionSet]) -> None:
    final = apply_steps(members[0], STEPS)
    write_predictions(folder / "final", final)
    words = [str(Path(sys.executable).parent / "hubmap-ml"), "evaluate", "--truth", str(folder / "truth.json"),
             "--predictions", str(folder / "final"), "--json"]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["value"] == evaluate("ap60", truth, final).value


def test_the_command_tunes_files_and_writes_a_page(folder: Path) -> None:
    words = [str(Path(sys.executable).parent / "hubmap-ml"), "tune", "--truth", str(folder / "truth.json"),
             "--predictions", str(folder / "member0"), "--trials", "24", "--report",
             str(folder / "r.html"), "--json"]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["value"] > found["base_value"]
    assert found["cross_fitted"] is not None
    assert "Plotly" in (folder / "r.html").read_text()


def test_the_command_compares_parquet(folder: Path, members: list[PredictionSet]) -> None:
    for number, member in enumerate(members):
        write_predictions(folder / f"final{number}", apply_steps(member, STEPS))
    words = [str(Path(sys.executable).parent / "hubmap-ml"), "compare", "--truth", str(folder / "truth"),
             "--predictions", str(folder / "final0"), str(folder / "final1"), "--report", str(folder / "out.html"),
             "--json"]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout.splitlines()[-1])["gains"]) == 1
    assert (folder / "out.html").is_file()


def test_a_predictor_of_stored_members_predicts_and_is_submitted(
    folder: Path, members: list[PredictionSet]
) -> None:
    children = [
        {"kind": "steps", "steps": [{"score": 0.05}], "child": {"kind": "stored", "path": f"leaves/{member}"}}
        for member in range(2)
    ]
    fusion = {"kind": "fusion", "method": "wbf", "iou_threshold": 0.6, "children": children}
    write_predictor(
        folder / "predictor",
        tree={"kind": "steps", "steps": [{"mask_threshold": 0.5}], "child": fusion},
        leaves={f"leaves/{member}": folder / f"member{member}" for member in range(2)},
        categories=members[0].categories,
    )
    table = members[0].images
    rows = [
        (table.take(np.array([row])), Blank(int(table.heights[row]), int(table.widths[row])))
        for row in range(8)
    ]
    found = open_predictor(folder / "predictor").predict(rows)
    assert len(found.images) == 8
    assert len(found.scores) > 0
    vessels = found.replace(
        categories=(found.categories[0].__class__(0, "blood_vessel"), found.categories[1])
    )
    path = hubmap2023.write(folder / "submission.csv", vessels)
    back = hubmap2023.read(path, images=vessels.images, categories=vessels.categories)
    assert len(back.scores) == int(np.sum(found.labels == 0))


class Blank:
    """An image that nobody looks at."""

    def __init__(self, height: int, width: int) -> None:
        self.height = height
        self.width = width

    def read(self, window: object = None) -> np.ndarray:  # type: ignore[type-arg]
        return np.zeros((self.height, self.width, 3), np.uint8)
