"""A real tracking server that stops answering: work goes on as before, and nothing is lost."""

import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubmap_ml.tracking import open_store, stage_run
from hubmap_ml.tracking.delivery import replay
from hubmap_ml.tracking.recorder import MlflowRecorder

STEP_S = 0.02


class Server:
    """A tracking server on this machine, in a process group of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.uri = f"http://127.0.0.1:{port}"
        words = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination"]
        words += [str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError("the tracking server did not start")

    def send(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)

    def end(self) -> None:
        if self._process.poll() is None:
            self.send(signal.SIGKILL)
            self._process.wait()


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("HUBMAP_ML_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    running = Server(tmp_path, free_port())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", running.uri)
    yield running
    running.end()


def train(recorder: MlflowRecorder, steps: range) -> list[float]:
    """Fake training: some time, twenty metrics; returns the seconds of each iteration."""
    seconds = []
    for step in steps:
        begun = time.perf_counter()
        time.sleep(STEP_S)
        recorder.metrics({f"train/loss_{number}": step + number / 100 for number in range(20)}, step=step)
        seconds.append(time.perf_counter() - begun)
    return seconds


def test_a_stopped_server_slows_no_iteration_and_loses_no_point(server: Server) -> None:
    client = open_store()
    stop_s = float(os.environ.get("HUBMAP_ML_STOP_S", "8"))
    with stage_run(experiment="demo", stage="tune", name="tune") as run:
        count = round(stop_s / STEP_S)
        before = train(run.recorder, range(count // 4))
        server.send(signal.SIGSTOP)
        during = train(run.recorder, range(count // 4, count))
        server.send(signal.SIGCONT)
        ratio = statistics.median(during) / statistics.median(before)
        print(f"\niteration {statistics.median(before) * 1e3:.2f} ms; server stopped: ratio {ratio:.3f}, "
              f"longest {max(during) * 1e3:.1f} ms, before {max(before) * 1e3:.1f} ms")  # fmt: skip
        assert max(during) < 2.5  # nobody waited for the server: a request takes three seconds to give up
    deadline = time.monotonic() + 120
    while client.get_run(run.run_id).info.status != "FINISHED" and time.monotonic() < deadline:
        replay(client)  # what a server that is slow to wake did not take before the run's end
    assert client.get_run(run.run_id).info.status == "FINISHED"
    for number in (0, 19):
        points = client.get_metric_history(run.run_id, f"train/loss_{number}")
        assert sorted(point.step for point in points) == list(range(count))


def test_work_ends_well_without_its_server_and_tells_at_the_next_start(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    open_store()
    with stage_run(experiment="demo", stage="tune", name="tune") as run:
        train(run.recorder, range(10))
        server.end()
        train(run.recorder, range(10, 60))
        path = run.recorder.folder / "result.json"
        path.write_text("{}")
        run.recorder.artifact(path)
        run.tag({"late": "yes"})
        run.say("ap60 0.5", 0.5)
    assert any("is sent at the next start of any stage" in line for line in caplog.messages)

    again = Server(tmp_path, server.port)
    try:
        client = open_store()
        assert client.get_run(run.run_id).info.status == "RUNNING"
        assert replay(client) == 1
        told = client.get_run(run.run_id)
        assert told.info.status == "FINISHED"
        assert told.data.tags["late"] == "yes"
        assert told.data.tags["mlflow.note.content"].splitlines()[0] == "ap60 0.5"
        points = client.get_metric_history(run.run_id, "train/loss_0")
        assert sorted(point.step for point in points) == list(range(60))
        assert "result.json" in [item.path for item in client.list_artifacts(run.run_id)]
    finally:
        again.end()
