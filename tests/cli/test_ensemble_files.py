"""`hubmap-ml ensemble --truth …` on files that anyone could have written."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hubmap_ml.cli.main import app
from hubmap_ml.instances import Masks, PredictionSet, write_coco, write_coco_results, write_predictions
from hubmap_ml.spec import InputError
from tests.random_scenes import images, predictions, truths

TABLE = images(6, n_folds=3)


def decided(seed: int) -> PredictionSet:
    found = predictions(seed, table=TABLE, objects_seed=3, count=15)
    assert found.masks is not None
    return found.replace(masks=Masks.from_bits(found.masks.binarize(0.5, 96, 128)))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_coco(tmp_path / "coco.json", truths(3, table=TABLE))
    for name, seed in (("a", 1), ("b", 2), ("c", 4)):
        write_coco_results(tmp_path / f"{name}.json", decided(seed))
    write_predictions(tmp_path / "ours", predictions(5, table=TABLE, objects_seed=3, count=15))
    return tmp_path


def test_files_are_compared_in_a_process_without_torch_or_a_store(files: Path) -> None:
    """The very line of the README, from its folder; a page that needs nothing but itself comes out."""
    line = [
        "ensemble",
        "--truth",
        "coco.json",
        "--predictions",
        "a.json",
        "b.json",
        "ours",
        "--report",
        "out.html",
    ]
    code = (
        "import sys; from hubmap_ml.cli.main import app\n"
        f"app({line!r}, standalone_mode=False)\n"
        "assert not {'torch', 'mlflow'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=files, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "weighted WBF: ap60" in done.stdout.replace("\n", " ")
    page = (files / "out.html").read_text()
    assert not re.search(r"(src|href)=.(?!data:)", page)
    assert "<script" not in page
    for name in ("best single", "plain WBF", "weighted WBF", "ours", "cross-fitted"):
        assert name in page
    data = json.loads((files / "out.json").read_text())
    assert [way["name"] for way in data["members"]] == ["a", "b", "ours"]
    assert data["best"] in {"best single", "plain WBF", "weighted WBF"}
    assert np.isfinite([way["cross_fitted"] for way in data["ways"]]).all()
    assert not list(files.glob("mlruns*"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ensemble --predictions a.json b.json", "came without a truth"),
        ("ensemble --truth coco.json --predictions a.json", "an ensemble of 1 members"),
        ("ensemble --truth coco.json --predictions a.json a.json", "given twice"),
        (
            "ensemble --truth coco.json --predictions a.json b.json --metric kappa",
            "metric 'kappa' is unknown",
        ),
        ("ensemble --truth missing.json --predictions a.json b.json", "missing.json"),
    ],
)
def test_what_is_wrong_with_the_files_is_one_line(
    files: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    monkeypatch.chdir(files)
    result = CliRunner().invoke(app, line.split())
    assert isinstance(result.exception, InputError)
    assert words in str(result.exception)
    assert "\n" not in str(result.exception)
