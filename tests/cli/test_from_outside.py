"""The commands that bring results of other tools in: their words."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from typer.testing import CliRunner

from hubmap_ml.cli.main import app
from hubmap_ml.spec import InputError
from hubmap_ml.stages import evaluate

WORDS = ["--experiment", "tiny", "--member", "theirs"]


def test_the_leak_level_must_be_declared() -> None:
    done = CliRunner().invoke(app, ["import-workdir", "somewhere", *WORDS])
    assert isinstance(done.exception, InputError)
    assert "--leak" in str(done.exception)
    done = CliRunner().invoke(app, ["import-predictions", "somewhere", *WORDS])
    assert isinstance(done.exception, InputError)
    assert "--leak is missing" in str(done.exception)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["import-predictions", "a.json", "--leak", "none", "--set", "b.json"], "POOL=FILE is expected"),
        (["import-predictions", "a.json", "--leak", "some"], "'some' is no leak level"),
        (["import-predictions", "a.json", "--leak", "none", "--member", "../a"], "is no member's name"),
        (["import-predictions", "a.json", "--leak", "none", "--format", "tar"], "--format is 'tar'"),
        (
            ["import-predictions", "a.json", "--images", "b.json"],
            "--experiment is said of an experiment's member",
        ),
        (["import-predictions", "a.csv", "--column", "image=a"], "needs --column image=NAME"),
        (
            ["import-predictions", "a.csv", "--column", "masks=a"],
            "columns are named for image, mask, score, class",
        ),
        (
            ["import-predictions", "a.csv", "--column", "mask=a", "--column", "mask=b"],
            "mask=… is given twice",
        ),
        (["import-predictions", "a.json", "--format", "coco", "--runs", "rows"], "are said of --format rle"),
        (["import-workdir", "a", "--leak", "none", "--checkpoint", "first"], "--checkpoint is 'first'"),
        (["import-workdir", "missing", "--leak", "none"], "missing: no such folder"),
    ],
)
def test_a_wrong_word_is_one_line(line: list[str], words: str) -> None:
    done = CliRunner().invoke(app, [*line[:2], *WORDS, *line[2:]])
    assert isinstance(done.exception, InputError)
    assert words in str(done.exception)


def test_predictions_of_listed_images_are_read_by_the_commands_that_take_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mask = np.zeros((8, 12), np.uint8, order="F")
    mask[2:5, 3:9] = 1
    encoded = coco_mask.encode(mask)
    counts = encoded["counts"].decode()
    truth = {
        "images": [{"id": 1, "file_name": "tile.png", "height": 8, "width": 12}],
        "categories": [{"id": 4, "name": "cell"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 4, "segmentation": {"size": [8, 12], "counts": counts}}
        ],
    }
    Path("truth.json").write_text(json.dumps(truth))
    Path("theirs.csv").write_text(f"ImageId,rle,conf\ntile,{counts},0.75\n")
    words = ["--column", "image=ImageId", "--column", "mask=rle", "--column", "score=conf", "--runs", "coco"]
    line = ["import-predictions", "theirs.csv", "--images", "truth.json", *words]
    assert "name the folder to write with --out" in str(CliRunner().invoke(app, line).exception)
    done = CliRunner().invoke(app, [*line, "--out", "ours"])
    assert done.exit_code == 0, done.exception
    assert "1 instances on 1 images" in done.output
    assert evaluate.run(Path("truth.json"), Path("ours"), "ap60").value == 1
    assert "exists already" in str(CliRunner().invoke(app, [*line, "--out", "ours"]).exception)
