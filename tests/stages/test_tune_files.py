import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hubmap_ml.cli.main import app
from hubmap_ml.instances import (
    Images,
    PredictionSet,
    read_coco,
    write_coco,
    write_coco_results,
    write_predictions,
)
from hubmap_ml.metrics import evaluate
from hubmap_ml.postprocess import apply_steps, parse_steps
from hubmap_ml.spec import InputError
from hubmap_ml.stages import tune_files
from hubmap_ml.stages.evaluate import read_any_predictions
from tests.random_scenes import images, predictions, truths


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO files as anyone has them (masks are bits, no folds), and the same as our Parquet, masks soft."""
    folder = tmp_path_factory.mktemp("files")
    table = images(12)
    found = predictions(7, table=table, objects_seed=1, count=40)
    plain = unfolded(table)
    write_coco(folder / "truth.json", truths(1, table=plain))
    write_coco_results(folder / "results.json", solid(found))
    write_predictions(folder / "soft", found)
    return folder


def unfolded(table: Images, **columns: Any) -> Images:
    return table.replace(folds=np.full(len(table), -1, np.int16), **columns)


def solid(found: PredictionSet) -> PredictionSet:
    return apply_steps(found, parse_steps([{"mask_threshold": 0.5}]))


def test_files_are_tuned_and_the_report_written(files: Path, tmp_path: Path) -> None:
    report = tmp_path / "new" / "report.html"
    words = ["tune", "--truth", str(files / "truth.json"), "--predictions", str(files / "results.json"), "--trials",
             "12", "--sampler", "qmc", "--report", str(report), "--json"]  # fmt: skip
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])
    truth = read_coco(files / "truth.json")
    given = read_any_predictions(files / "results.json", truth)
    assert found["folds"] == [0, 1, 2, 3, 4]
    assert sum(found["fold_images"]) == 12
    assert found["value"] >= found["base_value"] > 0
    assert set(found["best_setting"]) == {"score", "nms_iou", "min_area"}  # masks of bits have no threshold
    assert found["assessment"]["in_sample"]["after"] == pytest.approx(found["value"])
    assert json.loads(report.with_suffix(".json").read_text())["best_steps"] == found["best_steps"]
    assert len(pd.read_parquet(report.with_suffix(".parquet"))) == 12
    page = report.read_text()
    assert "cross-fitted" in page
    assert "src=" not in page.split("<script", 1)[0]
    nothing_changed = apply_steps(given, parse_steps(tune_files.POSTPROCESS))
    assert evaluate("ap60", truth, nothing_changed) == evaluate("ap60", truth, given)


def test_what_is_searched_may_be_declared(files: Path, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        "postprocess: [{score: 0.05}, {mask_threshold: 0.5}, {opening: {kernel: 3, iterations: 1}}]\n"
        "space: {score: [0.05, 0.5], opening.iterations: [1, 2]}\n"
    )
    found = tune_files.run(
        files / "truth.json", files / "soft", space=space, trials=4, sampler="qmc", folds=2
    )
    assert set(found.study.best_setting) == {"score", "opening.iterations"}
    assert found.study.folds == (0, 1)
    space.write_text("{mask_threshold: [0.3, 0.6]}")
    alone = tune_files.run(
        files / "truth.json", files / "soft", space=space, trials=4, sampler="grid", folds=1
    )
    assert set(alone.study.best_setting) == {"mask_threshold"}
    assert alone.assessment.cross_fitted is None


def test_groups_stay_together_and_folds_of_the_truth_are_kept() -> None:
    found = predictions(3, table=images(8), count=5)
    grouped = truths(1, table=unfolded(images(8), groups=np.array([f"g{k // 2}" for k in range(8)], object)))
    folds = tune_files._folds(grouped, found, 3, seed=0)
    assert (folds[::2] == folds[1::2]).all()
    assert set(folds.tolist()) == {0, 1, 2}
    own = truths(1, table=images(8, n_folds=4))
    assert tune_files._folds(own, found, 3, seed=0).tolist() == [0, 1, 2, 3] * 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a list: [", "not valid YAML"),
        ("- 1", "a mapping is expected"),
        ("{space: {score: [0, 1]}, postproces: []}", "unknown key 'postproces'"),
        ("{soft: [0, 1]}", "unknown name 'soft'"),
        ("{opening.kernel: [3, 5]}", "no 'opening' step; add one to postprocess"),
    ],
)
def test_a_bad_space_file_is_one_line(files: Path, tmp_path: Path, text: str, words: str) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(text)
    with pytest.raises(InputError, match=words) as error:
        tune_files.run(files / "truth.json", files / "results.json", space=space, trials=2)
    assert "\n" not in str(error.value)


def test_truth_and_predictions_belong_together(files: Path) -> None:
    result = CliRunner().invoke(app, ["tune", "--truth", str(files / "truth.json")])
    assert isinstance(result.exception, InputError)
    assert "belong together" in str(result.exception)


def test_neither_store_nor_torch_is_needed(files: Path) -> None:
    import subprocess

    code = (
        "import sys; from pathlib import Path; from hubmap_ml.stages import tune_files\n"
        f"tune_files.run(Path({str(files / 'truth.json')!r}), Path({str(files / 'soft')!r}), trials=3)\n"
        "print([name for name in ('mlflow', 'torch') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
