import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from hubmap_ml.spec import InputError
from hubmap_ml.tracking import MlflowRecorder
from hubmap_ml.tracking.delivery import replay
from hubmap_ml.tracking.spool import Spool


@pytest.fixture
def recorder(store: MlflowClient, tmp_path: Path) -> MlflowRecorder:
    run = store.create_run(store.create_experiment("demo"))
    return MlflowRecorder(store, run.info.run_id, tmp_path / "work" / "runs" / run.info.run_id)


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
    recorder.flush()
    assert recorder.drain()
    assert recorder.drain()
    assert history(recorder, "loss") == [(0, 1.0), (1, 0.5), (2, 1.0 / 3)]


def test_more_points_than_a_batch_all_arrive(recorder: MlflowRecorder) -> None:
    for step in range(1300):
        recorder.metrics({"loss": float(step)}, step=step)
    assert recorder.drain()
    assert history(recorder, "loss") == [(step, float(step)) for step in range(1300)]


def test_what_the_store_refuses_is_sent_later(
    recorder: MlflowRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(
            recorder._client, "log_batch", lambda *_, **__: (_ for _ in ()).throw(OSError("gone"))
        )
        recorder.metrics({"loss": 1.0}, step=0)
        assert not recorder.drain()
    recorder.metrics({"loss": 2.0}, step=1)
    assert recorder.drain()
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
    assert recorder.drain()
    client, run = recorder._client, recorder._run_id
    assert [item.path for item in client.list_artifacts(run, "checkpoints/checkpoint")] == [
        "checkpoints/checkpoint/config.json"
    ]
    assert [item.path for item in client.list_artifacts(run, "reports")] == ["reports/load.json"]
    assert client.list_artifacts(run, "images")


def test_an_artifact_that_is_not_there_is_said(recorder: MlflowRecorder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing there"):
        recorder.artifact(tmp_path / "missing")


def artifacts(recorder: MlflowRecorder, folder: str = "") -> list[str]:
    return sorted(item.path for item in recorder._client.list_artifacts(recorder._run_id, folder))


def test_a_picture_has_the_small_one_that_the_pages_show_and_the_run_says_so(
    recorder: MlflowRecorder,
) -> None:
    recorder.image(np.zeros((4, 4, 3), np.uint8), key="val/overlay_0", step=7)
    assert recorder.drain()
    names = artifacts(recorder, "images")
    assert len(names) == 2
    assert all(name.startswith("images/val~overlay_0+step+7+timestamp+") for name in names)
    assert {name.rpartition(".")[2] for name in names} == {"png", "webp"}
    run = recorder._client.get_run(recorder._run_id)
    assert run.data.tags["mlflow.loggedImages"] == "True"


def test_a_file_is_kept_as_it_was_when_it_was_given(recorder: MlflowRecorder, tmp_path: Path) -> None:
    outside = tmp_path / "log.txt"
    outside.write_text("first")
    failing(recorder)
    recorder.artifact(outside)
    outside.unlink()
    works(recorder)
    assert recorder.drain()
    kept = recorder._client.download_artifacts(recorder._run_id, "log.txt")
    assert Path(kept).read_text() == "first"


def failing(recorder: MlflowRecorder) -> None:
    """Let the store of a recorder not answer."""

    class Gone:
        def __getattr__(self, name: str) -> object:
            raise OSError("connection refused")

    recorder._sender._client = recorder._gone = Gone()  # type: ignore[assignment,attr-defined]
    recorder._kept_client, recorder._client = recorder._client, Gone()  # type: ignore[assignment,attr-defined]


def works(recorder: MlflowRecorder) -> None:
    recorder._client = recorder._sender._client = recorder._kept_client  # type: ignore[attr-defined]


def test_what_a_run_could_not_tell_is_told_at_the_next_start(
    recorder: MlflowRecorder, store: MlflowClient
) -> None:
    run_id = recorder._run_id
    failing(recorder)
    recorder.metrics({"loss": 0.5}, step=3)
    recorder.params({"lr": 0.1})
    recorder.tags({"verdict": "good"})
    recorder.image(np.zeros((4, 4, 3), np.uint8), key="overlay", step=1)
    recorder.data({"a": 1}, "found.json")
    assert not recorder.end("FINISHED", {"mlflow.note.content": "all well"})
    assert store.get_run(run_id).info.status == "RUNNING"

    assert replay(store) == 1
    run = store.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"lr": "0.1"}
    assert run.data.tags["verdict"] == "good"
    assert run.data.tags["mlflow.note.content"] == "all well"
    works(recorder)
    assert history(recorder, "loss") == [(3, 0.5)]
    assert artifacts(recorder) == ["found.json", "images"]
    assert replay(store) == 0
    assert sorted(path.name for path in recorder.folder.iterdir()) == [
        "metrics.jsonl",
        "metrics.sent",
        "spool.lock",
    ]


def test_a_live_runs_spool_is_left_to_it(recorder: MlflowRecorder, store: MlflowClient) -> None:
    failing(recorder)
    recorder.metrics({"loss": 0.5}, step=3)
    assert replay(store) == 0


def test_runs_of_another_store_wait_for_theirs(store: MlflowClient, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "work" / "runs" / "0123456789abcdef0123456789abcdef")
    spool.append({"loss": 1.0}, step=0)
    assert replay(store) == 0
    assert Spool(spool.folder).pending


def test_points_sent_twice_are_kept_once(recorder: MlflowRecorder, store: MlflowClient) -> None:
    recorder.metrics({"loss": 0.5}, step=3)
    assert recorder.drain()
    recorder.close()
    (recorder.folder / "metrics.sent").unlink()  # killed between sending and noting it
    assert replay(store) == 1
    assert history(recorder, "loss") == [(3, 0.5)]


def test_half_a_line_of_a_killed_process_is_no_point(recorder: MlflowRecorder, store: MlflowClient) -> None:
    recorder.close()
    spool = Spool(recorder.folder)
    spool.append({"loss": 0.5}, step=1)
    with (recorder.folder / "metrics.jsonl").open("a") as out:
        out.write('{"key": "loss", "val')
    assert replay(store) == 1
    assert history(recorder, "loss") == [(1, 0.5)]
    assert not Spool(recorder.folder).pending


def test_one_point_that_the_store_refuses_does_not_hold_up_the_others(recorder: MlflowRecorder) -> None:
    recorder.metrics({"loss": 0.5, "not/allowed?": 1.0, "lr": 0.1}, step=1)
    assert recorder.drain()
    assert history(recorder, "loss") == [(1, 0.5)]
    assert history(recorder, "lr") == [(1, 0.1)]


def test_a_parameter_that_changes_its_value_is_refused_at_once(recorder: MlflowRecorder) -> None:
    recorder.params({"lr": 0.1})
    with pytest.raises(MlflowException, match="lr"):
        recorder.params({"lr": 0.2})


def test_a_file_that_arrives_damaged_is_sent_again(
    recorder: MlflowRecorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = recorder._client.log_artifacts
    tries = []

    def damaged(run_id: str, folder: str, path: str | None) -> None:
        right(run_id, folder, path)
        tries.append(path)
        if len(tries) == 1:
            base = Path(recorder._client.get_run(run_id).info.artifact_uri.removeprefix("file://"))  # type: ignore[union-attr]
            (base / "weights.bin").write_bytes(b"wrong")

    monkeypatch.setattr(recorder._client, "log_artifacts", damaged)
    (tmp_path / "weights.bin").write_bytes(b"right")
    recorder.artifact(tmp_path / "weights.bin")
    assert len(tries) == 2
    assert Path(recorder._client.download_artifacts(recorder._run_id, "weights.bin")).read_bytes() == b"right"


def test_pictures_are_dropped_when_thousands_wait_and_it_is_said_once(
    recorder: MlflowRecorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hubmap_ml.tracking.recorder.MOST_WAITING", 2)
    failing(recorder)
    for step in range(5):
        recorder.image(np.zeros((4, 4, 3), np.uint8), key="overlay", step=step)
    assert len(recorder._spool.items()) == 2
    assert sum("no longer kept" in line for line in caplog.messages) == 1


def train(folder: Path, step: int) -> Path:
    """Checkpoint folders as a training leaves them, replaced as a whole."""
    for name in ("last", "best", ".last.old"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
        (folder / name / "weights.safetensors").write_text(f"{name} {step}")
    return folder


def test_the_two_newest_checkpoints_are_kept_whole_until_the_training_is_finished(
    recorder: MlflowRecorder, store: MlflowClient
) -> None:
    kept = Path(store.get_run(recorder._run_id).info.artifact_uri) / "resume"
    for step in (10, 20, 30):
        recorder.metrics({"loss": float(step)}, step=step)
        recorder.checkpoint(train(recorder.folder / "checkpoints", step), step=step)
        train(recorder.folder / "checkpoints", step + 1)  # the folder may change at once
        assert recorder.drain()
    assert sorted(path.name for path in kept.iterdir()) == ["000000020", "000000030"]
    for step in (20, 30):
        folder = kept / f"{step:09d}"
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(10, step + 1, 10))
        names = {
            path.name: (path / "weights.safetensors").read_text()
            for path in (folder / "checkpoints").iterdir()
        }
        assert names == {"last": f"last {step}", "best": f"best {step}"}
    recorder.forget_checkpoints()
    assert not kept.exists()


def test_a_checkpoint_may_come_before_the_first_metric(recorder: MlflowRecorder, store: MlflowClient) -> None:
    """A training that is told to stop within its first ten iterations has said nothing yet."""
    recorder.checkpoint(train(recorder.folder / "checkpoints", 1), step=1)
    assert recorder.drain()
    kept = Path(store.get_run(recorder._run_id).info.artifact_uri) / "resume" / "000000001"
    assert (kept / "metrics.jsonl").read_text() == ""
    assert (kept / "checkpoints" / "last").is_dir()


def test_checkpoints_that_the_store_does_not_take_fill_no_disk(
    recorder: MlflowRecorder, store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.metrics({"loss": 1.0}, step=1)
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_artifacts", away)
        patched.setattr(MlflowClient, "log_batch", away)
        for step in range(1, 6):
            recorder.checkpoint(train(recorder.folder / "checkpoints", step), step=step)
        assert len(Spool(recorder.folder).items()) == 2
    assert recorder.drain()
    recorder.checkpoint(train(recorder.folder / "checkpoints", 6), step=6)
    assert recorder.drain()
    kept = Path(store.get_run(recorder._run_id).info.artifact_uri) / "resume"
    assert sorted(path.name for path in kept.iterdir()) == ["000000002", "000000006"]


def away(*_: object, **__: object) -> None:
    raise OSError("no route to host")
