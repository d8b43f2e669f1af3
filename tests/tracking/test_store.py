import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from hubmap_ml.spec import InputError
from hubmap_ml.tracking import experiment_id, local_artifact, open_store, without_credentials


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("postgresql://me:secret@host/db", "postgresql://host/db"),
        ("cannot reach http://me:p@ss@host:5000/x now", "cannot reach http://host:5000/x now"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("no address", "no address"),
    ],
)
def test_credentials_are_taken_out_of_addresses(text: str, left: str) -> None:
    assert without_credentials(text) == left


def test_a_store_that_cannot_be_used_is_said_without_its_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database, it is a text file of some length" * 10)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(InputError, match="cannot be used.*doctor"):
        open_store()


def test_an_experiment_is_made_once(store: MlflowClient) -> None:
    assert experiment_id(store, "demo") == experiment_id(store, "demo")
    store.delete_experiment(experiment_id(store, "demo"))
    with pytest.raises(InputError, match="was deleted"):
        experiment_id(store, "demo")


def test_a_missing_artifact_is_said(store: MlflowClient) -> None:
    run = store.create_run(experiment_id(store, "demo"))
    with pytest.raises(InputError, match="is missing from the store"):
        local_artifact(store, run.info.run_id, "checkpoints/best")


def test_a_store_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    def killed(*_: object, **__: object) -> None:
        (half,) = tmp_path.glob(".mlflow.db.*")
        (half / "mlflow.db").write_text("half of the tables")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "search_experiments", killed)
        with pytest.raises(KeyboardInterrupt):
            open_store()
    assert not (tmp_path / "mlflow.db").exists()
    assert open_store().get_experiment("0").name == "Default"
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


CREATES = """
import os, signal, sys
from mlflow import MlflowClient
from hubmap_ml.tracking import open_store

search = MlflowClient.search_experiments

def killed(self, *words, **more):
    search(self, *words, **more)
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print("creating", flush=True)
    sys.stdin.read()

MlflowClient.search_experiments = killed
open_store()
"""


def test_what_a_killed_process_left_of_a_store_is_swept_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    words = [sys.executable, "-c", CREATES]
    killed = subprocess.run([*words, "killed"], check=False)
    assert killed.returncode == -signal.SIGKILL
    (half,) = tmp_path.glob(".mlflow.db.*")
    with subprocess.Popen(
        [*words, "alive"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as alive:
        assert alive.stdout is not None
        assert alive.stdout.readline() == "creating\n"
        assert not half.exists()  # swept by the next to come, which is still at work
        (working,) = tmp_path.glob(".mlflow.db.*")
        open_store()
        assert working.exists()
        alive.kill()
    open_store()
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
