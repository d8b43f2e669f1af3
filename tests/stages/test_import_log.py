"""A log of mmdet becomes a run whose metrics have the names of ours, once."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from hubmap_ml.cli.main import app
from hubmap_ml.spec import InputError
from hubmap_ml.stages import import_log
from hubmap_ml.tracking import open_store
from tests.reference_logs import R50_STAGE2, needs_logs, train, val, written


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("HUBMAP_ML_WORK", str(tmp_path / "work"))
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return open_store()


def points(store: MlflowClient, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in store.get_metric_history(run_id, key)]


def test_a_log_becomes_a_run_under_the_names_of_ours(tmp_path: Path, store: MlflowClient) -> None:
    log = written(tmp_path, train(1, 20), train(1, 30, loss="0.5"), val(1, 0.4), train(2, 20), val(2, 0.3))
    found = import_log.run(str(log), name="r50")
    made = store.get_run(found.run_id)
    assert made.info.status == "FINISHED"
    assert made.data.tags["mlflow.note.content"].splitlines()[0] == found.verdict
    assert found.verdict.startswith(
        "segm_mAP 0.4000 at epoch 1 (last 0.3000); 2 epochs of 30 iterations, 2.00 s"
    )
    assert points(store, found.run_id, "train/loss") == [(20, 1.0), (30, 0.5), (50, 1.0)]
    assert points(store, found.run_id, "train/lr")[0] == (20, 1.9e-3)
    assert points(store, found.run_id, "time/iteration_s")[0] == (20, 2.0)
    assert points(store, found.run_id, "val_coco/segm_mAP") == [(1, 0.4), (2, 0.3)]
    assert [item.path for item in store.list_artifacts(found.run_id) if item.path == "a.log"] == ["a.log"]

    again = CliRunner().invoke(app, ["import-log", str(log)])
    assert again.output == f"{found.verdict}\nrun {found.run_id}, imported before\n"


def test_no_run_is_made_of_what_is_no_log(tmp_path: Path, store: MlflowClient) -> None:
    with pytest.raises(InputError, match="no line 'Epoch"):
        import_log.run(str(written(tmp_path)))
    assert store.search_runs([item.experiment_id for item in store.search_experiments()]) == []


def test_a_json_log_lies_at_the_same_steps_as_its_text(tmp_path: Path, store: MlflowClient) -> None:
    written(tmp_path, train(1, 20), val(1, 0.4))
    lines = [
        {"mode": "train", "epoch": 2, "iter": 20, "lr": 0.001, "memory": 9000, "time": 2.0, "loss": 0.5},
        {"mode": "val", "epoch": 2, "iter": 29, "lr": 0.001, "segm_mAP": 0.3},
    ]
    log = tmp_path / "a.log.json"
    log.write_text("\n".join(map(json.dumps, lines)))
    found = import_log.run(str(log))
    assert found.verdict == (
        "segm_mAP 0.3000 at epoch 2 (last 0.3000); 2 epochs of 30 iterations, 2.00 s each, 9,000 MiB"
    )
    made = store.get_run(found.run_id)
    assert made.info.run_name == "a, imported"
    assert points(store, found.run_id, "train/loss") == [(50, 0.5)]
    assert points(store, found.run_id, "system/device_memory_mib") == [(50, 9000)]
    assert points(store, found.run_id, "val_coco/segm_mAP") == [(2, 0.3)]

    (tmp_path / "a.log").unlink()
    result = CliRunner().invoke(app, ["import-log", str(log), "--json"])
    alone = json.loads(result.output)
    assert alone["new"]
    assert "2 epochs of at least 20 iterations" in alone["verdict"]
    result = CliRunner().invoke(app, ["import-log", str(log), "--epoch-length", "30", "--json"])
    assert json.loads(result.output)["run_id"] == found.run_id


@needs_logs
def test_a_reference_log_is_told_in_one_line(store: MlflowClient) -> None:
    found = import_log.run(str(R50_STAGE2))
    assert found.verdict.startswith(
        "segm_mAP 0.4077 at epoch 21 (last 0.4066); 23 epochs of 56 iterations, 2.08 s each, 20,485 MiB, 0:5"
    )
    assert dict(points(store, found.run_id, "val_coco/segm_mAP_50"))[22] == 0.7511
    assert len(points(store, found.run_id, "train/loss")) == 46
