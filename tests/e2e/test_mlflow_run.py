"""The literal `mlflow run . -e …`, from a fresh clone with its own environment and almost no variables."""

import os
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

pytestmark = pytest.mark.e2e

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone whose environment `make setup` made (from wheels that are there already)."""
    folder = tmp_path_factory.mktemp("clone") / "project"
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(folder)], check=True)
    done = subprocess.run(["make", "setup"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def literal(clone: Path, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    bare = {"HOME": str(home), "PATH": f"{clone}/.venv/bin:/usr/bin:/bin"}
    return subprocess.run(
        ["mlflow", "run", ".", *words],
        cwd=clone,
        env=bare,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_the_literal_command_trains(clone: Path, tmp_path: Path) -> None:
    done = literal(clone, tmp_path, "-e", "pretrain", "-P", "experiment=tiny")
    assert done.returncode == 0, done.stdout + done.stderr
    client = MlflowClient(tracking_uri=f"sqlite:///{clone}/mlflow.db")
    ids = [item.experiment_id for item in client.search_experiments()]
    run = client.search_runs(ids, "tags.`hubmap.stage` = 'pretrain'")[0]
    assert run.info.status == "FINISHED"
    assert run.data.metrics["train/loss"] > 0
    assert run.data.tags["mlflow.project.entryPoint"] == "pretrain"
    assert client.get_experiment(run.info.experiment_id).name == "Default"
    assert "conda" in done.stdout + done.stderr


def test_the_next_stage_finds_it_by_its_key(clone: Path, tmp_path: Path) -> None:
    done = literal(clone, tmp_path, "-e", "finetune", "-P", "experiment=tiny", "--env-manager", "local")
    assert done.returncode == 0, done.stdout + done.stderr


def test_bad_input_fails_the_run_with_its_line(clone: Path, tmp_path: Path) -> None:
    done = literal(clone, tmp_path, "-e", "prepare", "-P", "experiment=nuclei", "-P", "raw=nowhere")
    assert done.returncode == 1
    assert "the folder of raw files does not exist" in done.stderr
    assert "Traceback" not in done.stderr
    client = MlflowClient(tracking_uri=f"sqlite:///{clone}/mlflow.db")
    ids = [item.experiment_id for item in client.search_experiments()]
    run = client.search_runs(ids, "attributes.status = 'FAILED'")[0]
    assert "does not exist" in run.data.tags["mlflow.note.content"]


def test_without_the_stand_in_mlflow_finds_no_conda(clone: Path, tmp_path: Path) -> None:
    stand_in = clone / ".venv" / "bin" / "conda"
    if not stand_in.exists():
        pytest.skip("a real conda is on this machine: no stand-in was installed")
    aside = stand_in.with_name("conda.aside")
    os.rename(stand_in, aside)
    try:
        done = literal(clone, tmp_path, "-e", "prepare", "-P", "experiment=tiny")
    finally:
        os.rename(aside, stand_in)
    assert done.returncode != 0
    assert "Could not find Conda" in done.stderr
