import json
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from hubmap_ml.spec import InputError
from hubmap_ml.tracking import MlflowRecorder


@pytest.fixture
def recorder(store: MlflowClient, tmp_path: Path) -> MlflowRecorder:
    run = store.create_run(store.create_experiment("demo"))
    return MlflowRecorder(store, run.info.run_id, tmp_path / "run")


def history(recorder: MlflowRecorder, key: str) -> list[tuple[int, float]]:
    points = recorder._client.get_metric_history(recorder._run_id, key)
    return sorted((point.step, point.value) for point in points)


def test_metrics_are_on_disk_at_once_and_in_the_store_after_a_flush(recorder: MlflowRecorder) -> None:
    for step in range(3):
        recorder.metrics({"loss": 1.0 / (step + 1), "lr": 0.1}, step=step)
    lines = [json.loads(line) for line in (recorder.folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["key"], line["step"]) for line in lines] == [
        (k, s) for s in range(3) for k in ("loss", "lr")
    ]
    assert history(recorder, "loss") == []
    recorder.flush()
    recorder.flush()
    assert history(recorder, "loss") == [(0, 1.0), (1, 0.5), (2, 1.0 / 3)]


def test_more_points_than_a_batch_all_arrive(recorder: MlflowRecorder) -> None:
    for step in range(1300):
        recorder.metrics({"loss": float(step)}, step=step)
    recorder.flush()
    assert history(recorder, "loss") == [(step, float(step)) for step in range(1300)]


def test_what_the_store_refuses_is_sent_later(
    recorder: MlflowRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(
            recorder._client, "log_batch", lambda *_, **__: (_ for _ in ()).throw(OSError("gone"))
        )
        recorder.metrics({"loss": 1.0}, step=0)
        recorder.flush()
    recorder.metrics({"loss": 2.0}, step=1)
    recorder.flush()
    assert history(recorder, "loss") == [(0, 1.0), (1, 2.0)]


def test_params_that_the_command_already_logged_stand_beside_what_they_came_to(
    recorder: MlflowRecorder,
) -> None:
    recorder._client.log_param(recorder._run_id, "member", "''")
    recorder._client.log_param(recorder._run_id, "fold", "0")
    recorder.params({"member": "htc", "fold": 0, "lr": 0.1})
    params = recorder._client.get_run(recorder._run_id).data.params
    assert params == {"member": "''", "resolved/member": "htc", "fold": "0", "lr": "0.1"}


def test_data_pictures_and_folders_become_artifacts(recorder: MlflowRecorder, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    recorder.artifact(folder, "checkpoints")
    recorder.data({"a": [1]}, "reports/load.json")
    recorder.image(np.zeros((4, 4, 3), np.uint8), key="val/overlay_0", step=1)
    client, run = recorder._client, recorder._run_id
    assert [item.path for item in client.list_artifacts(run, "checkpoints/checkpoint")] == [
        "checkpoints/checkpoint/config.json"
    ]
    assert [item.path for item in client.list_artifacts(run, "reports")] == ["reports/load.json"]
    assert client.list_artifacts(run, "images")


def test_an_artifact_that_is_not_there_is_said(recorder: MlflowRecorder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing there"):
        recorder.artifact(tmp_path / "missing")
