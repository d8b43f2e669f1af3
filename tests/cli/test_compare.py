"""`hubmap-ml compare` as it is typed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hubmap_ml.cli.main import app
from hubmap_ml.instances import write_coco, write_coco_results
from hubmap_ml.stages import compare
from tests.cli.test_main import call
from tests.random_scenes import images, predictions, truths
from tests.stages.test_compare import decided


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("typed")
    table = images(12)
    write_coco(folder / "t.json", truths(1, table=table))
    good = decided(predictions(1, table=table, objects_seed=1, count=8))
    for name, share in (("a", 3), ("b", 1), ("c", 2)):
        write_coco_results(folder / f"{name}.json", good.take(np.arange(len(good)) % share == 0))
    return folder


def test_the_words_of_the_manual(folder: Path) -> None:
    done = call(
        "compare",
        "--truth",
        "t.json",
        "--predictions",
        "a.json",
        "b.json",
        "--report",
        "out.html",
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    said = re.sub(r"\s+", " ", done.stdout)
    found = compare.run(folder / "t.json", [folder / "a.json", folder / "b.json"])
    assert found.verdict in said
    for score in found.comparison.scores:
        assert f"{score.value:.4f}" in said
    for word in ("localisation", "duplicate", "background", "missed", "worst images of a", "b − a"):
        assert word in said
    assert (folder / "out.html").read_text().startswith("<!doctype html>")


def test_one_json_line_whichever_way_files_are_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    after = ["--metric", "dsb_map", "--resamples", "200", "--json"]
    said = []
    for listed in (["a.json", "b.json", "c.json"], ["a.json", "--predictions", "b.json", "c.json"]):
        done = CliRunner().invoke(app, ["compare", "--truth", "t.json", "--predictions", *listed, *after])
        assert done.exit_code == 0, done.output
        said.append(json.loads(done.stdout))
    assert [score["name"] for score in said[0]["scores"]] == ["a", "b", "c"]
    assert [gain["after"] for gain in said[0]["gains"]] == ["b", "c"]
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--truth", "none.json", "--predictions", "a.json"), "none.json: no such file"),
        (("--truth", "t.json", "--predictions", "a.json", "nothing.json"), "nothing.json"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folder: Path, words: tuple[str, ...], said: str) -> None:
    done = call("compare", *words, cwd=folder)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_neither_torch_nor_mlflow_is_needed(folder: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from hubmap_ml.cli.main import app\n"
        "app(['compare', '--truth', 't.json', '--predictions', 'a.json', 'b.json', '--report', 'light.html', '--json'],"
        " standalone_mode=False)\n"
        "print([name for name in ('mlflow', 'torch', 'mmcv', 'plotly') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder
    )
    assert done.stdout.splitlines()[-1] == "[]"
