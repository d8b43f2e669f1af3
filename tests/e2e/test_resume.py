"""A training that died goes on from whatever is left whole: the work folder, the artifacts, or nothing."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from hubmap_ml.models.weights import file_digest
from hubmap_ml.stages import pretrain
from hubmap_ml.training.mmdet.runner import EpochRunner

pytestmark = pytest.mark.e2e
WORDS: dict[str, Any] = {
    "experiment": "tiny",
    "set": "runner.max_epochs=3;batch.repeat=1;+ema={momentum: 0.2}",  # with a second model to lose
    "workers": 0,
    "device": "cpu",
}
KILLED_AT = 8  # of nine iterations, three an epoch


class Killed(BaseException):
    """Stands for a process that dies."""


def start_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv("HUBMAP_ML_WORK", str(folder / "work"))
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")


def killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A store with a training that died in its last epoch."""
    client = start_in(folder, monkeypatch)
    step = EpochRunner._step

    def dying(self: EpochRunner, batch: dict[str, Any]) -> None:
        if self.iter + 1 == KILLED_AT:
            raise Killed
        step(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(EpochRunner, "_step", dying)
        with pytest.raises(Killed):
            pretrain.run(**WORDS)
    return client


def weights(client: MlflowClient, run_id: str) -> list[str]:
    folder = Path(client.get_run(run_id).info.artifact_uri) / "checkpoints"
    return [file_digest(folder / name / "weights.safetensors") for name in ("best", "last")]


def points(client: MlflowClient, run_id: str) -> dict[str, list[tuple[int, float]]]:
    """What the training said, each step once; seconds apart."""
    run = client.get_run(run_id)
    found = {}
    for key in run.data.metrics:
        if key.startswith(("train/", "val")):
            history = client.get_metric_history(run_id, key)
            found[key] = sorted((point.step, point.value) for point in history)
            assert len({step for step, _ in found[key]}) == len(history), key
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: Any) -> tuple[MlflowClient, str]:
    with pytest.MonkeyPatch.context() as patched:
        client = start_in(tmp_path_factory.mktemp("whole") / "store", patched)
        return client, pretrain.run(**WORDS).run_id


def damage(folder: Path) -> None:
    path = folder / "resume.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("left", "goes_on"),
    [
        ("no work folder", "iteration 6 (artifacts)"),
        pytest.param("a damaged checkpoint", "iteration 6 (artifacts)", marks=pytest.mark.long),
        ("damaged checkpoints and artifacts", "iteration 3 (work folder)"),
        pytest.param("nothing whole", "", marks=pytest.mark.long),
    ],
)
def test_it_goes_on_from_the_furthest_that_is_whole(
    whole: tuple[MlflowClient, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    left: str,
    goes_on: str,
) -> None:
    client = killed(tmp_path / "store", monkeypatch)
    (old,) = (path.parent for path in (tmp_path / "store" / "work" / "runs").glob("*/checkpoints"))
    kept = Path(client.get_run(old.name).info.artifact_uri) / "resume"
    assert sorted(os.listdir(kept)) == ["000000003", "000000006"]
    last = old / "checkpoints" / "last"
    passed_over = 0
    if left == "no work folder":
        shutil.rmtree(tmp_path / "store" / "work" / "runs")
    else:
        damage(last)
        passed_over += 1
    if left in ("damaged checkpoints and artifacts", "nothing whole"):
        damage(kept / "000000006" / "checkpoints" / "last")
        passed_over += 1
    if left == "nothing whole":
        damage(last.with_name(".last.old"))
        (kept / "000000003" / "checkpoints" / "last" / "resume.json").write_text("{")
        passed_over += 2
    with caplog.at_level(logging.INFO, "hubmap_ml"):
        run_id = pretrain.run(**WORDS).run_id
    said = [record.getMessage() for record in caplog.records if record.name.startswith("hubmap_ml")]
    assert sum("is passed over" in line for line in said) == passed_over
    assert [line for line in said if "going on from run" in line] == (
        [f"going on from run {old.name}, {goes_on}"] if goes_on else []
    )
    assert weights(client, run_id) == weights(*whole)
    assert points(client, run_id) == points(*whole)
    run = client.get_run(run_id)
    assert run.data.tags.get("hubmap.resumes") == (old.name if goes_on else None)
    assert not kept.exists()  # the training is finished
    assert not (Path(run.info.artifact_uri) / "resume").exists()
