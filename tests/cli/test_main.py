import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hubmap_ml.cli.options import with_options

COMMAND = [sys.executable, "-c", "from hubmap_ml.cli.main import main; main()"]


def call(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")} | environment
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, cwd=cwd, env=env, check=False)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['hubmap-ml', '--help']\n"
        "from hubmap_ml.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('mlflow', 'torch', 'pandas', 'numba') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name in (
        "prepare",
        "pretrain",
        "finetune",
        "predict",
        "tune",
        "promote",
        "ensemble",
        "submit",
        "report",
    ):
        assert name in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("prepare", "--experiment", "nowhere"), "experiment 'nowhere'"),
        (("prepare", "--experiment", "nuclei", "--raw", "missing-folder"), "missing-folder"),
        (("finetune", "--fold", "1.5"), "--fold is '1.5'"),
        (("finetune", "--with-upstream", "maybe"), "--with-upstream is 'maybe'"),
        (("pretrain", "--set", "optimizer.lr"), "is not key=value"),
        (("evaluate", "--truth", "t.json", "--predictions", "p.json", "--metric", "ap61"), "metric 'ap61'"),
        (("evaluate", "--truth", "t.json", "--predictions", "p.json"), "t.json"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = call(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_debug_shows_where(tmp_path: Path) -> None:
    done = call("prepare", "--experiment", "nowhere", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_evaluate_ends_with_one_json_line(tmp_path: Path) -> None:
    truth = {
        "images": [{"id": 1, "file_name": "a.tif", "height": 20, "width": 30}],
        "categories": [{"id": 1, "name": "blood_vessel"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [2, 3, 10, 8], "area": 80,
             "segmentation": [[2, 3, 12, 3, 12, 11, 2, 11]]}
        ],
    }  # fmt: skip
    predictions = [
        {"image_id": 1, "category_id": 1, "score": 0.9, "bbox": [2, 3, 10, 8],
         "segmentation": {"size": [20, 30], "counts": "g18<00000000000000"}}
    ]  # fmt: skip
    from pycocotools import mask as coco

    rle = coco.frPyObjects(truth["annotations"][0]["segmentation"], 20, 30)[0]  # type: ignore[index]
    predictions[0]["segmentation"] = {"size": [20, 30], "counts": rle["counts"].decode()}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(predictions))
    done = call("evaluate", "--truth", "truth.json", "--predictions", "found.json", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert (line["metric"], line["value"], line["n_images"]) == ("ap60", 1.0, 1)


def test_a_run_that_mlflow_made_ends_failed_with_the_line_as_its_note(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(tracking_uri=uri)
    run_id = client.create_run("0").info.run_id
    done = call(
        "prepare", "--experiment", "nowhere", cwd=tmp_path, MLFLOW_TRACKING_URI=uri, MLFLOW_RUN_ID=run_id
    )
    assert done.returncode == 2
    ended = client.get_run(run_id)
    assert ended.info.status == "FAILED"
    assert "nowhere" in ended.data.tags["mlflow.note.content"]


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["plan", "-P", "experiment=x"], ["plan", "--experiment", "x"]),
        (
            ["predict", "-P", "with_upstream=true", "--fold", "1"],
            ["predict", "--with-upstream", "true", "--fold", "1"],
        ),
        (["main", "-P", "set=a=1;b=2"], ["main", "--set", "a=1;b=2"]),
        (["plan", "-P", "raw="], ["plan", "--raw", ""]),
        (["plan", "-P", "experiment"], ["plan", "-P", "experiment"]),
        (["plan", "-P"], ["plan", "-P"]),
    ],
)
def test_parameters_may_be_given_as_to_mlflow_run(typed: list[str], read: list[str]) -> None:
    assert with_options(typed) == read
