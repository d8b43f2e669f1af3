"""`--nproc 2`: a killed rank fails the run by its name; the same call goes on, and one process finds the result."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from tests.e2e.running import call, environment

pytestmark = pytest.mark.e2e
WORDS = ("pretrain", "--experiment", "tiny", "--nproc", "2")


def kill_rank_1(parent: int, folder: Path, deadline_s: float = 400) -> None:
    """SIGKILL the process that trains as rank 1, as soon as there is a checkpoint to go on from."""
    deadline = time.monotonic() + deadline_s
    while not list(folder.glob(".hubmap_ml/runs/*/checkpoints/last/resume.pt")):
        assert time.monotonic() < deadline, "no checkpoint was seen"
        time.sleep(0.05)
    for process in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ended
            if process.environ().get("RANK") == "1" and "hubmap_ml.training.rank" in process.cmdline():
                process.kill()


def test_a_killed_rank_is_named_and_the_next_call_goes_on(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "hubmap_ml", *WORDS],
        cwd=tmp_path,
        env={**environment(tmp_path), "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        kill_rank_1(process.pid, tmp_path)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "rank 1 of 2 ended with signal 9 (SIGKILL)" in said
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    ids = [item.experiment_id for item in client.search_experiments()]
    (run,) = client.search_runs(ids, "tags.`hubmap.stage` = 'pretrain'")
    assert run.info.status == "FAILED"
    assert "rank 1 of 2" in run.data.tags["mlflow.note.content"]
    done = call(tmp_path, "python", "-m", "hubmap_ml", *WORDS)
    assert done.returncode == 0, done.stderr
    assert f"going on from run {run.info.run_id}" in done.stderr
    trained = client.search_runs(ids, "tags.`hubmap.stage` = 'pretrain'", order_by=["start_time DESC"])[0]
    assert trained.info.status == "FINISHED"
    assert trained.data.params["nproc"] == "2"
    assert trained.data.tags["hubmap.stage_key"] == run.data.tags["hubmap.stage_key"]
    old = client.get_run(run.info.run_id)
    assert (old.info.status, old.data.tags["hubmap.resumed_by"]) == ("KILLED", trained.info.run_id)
    for key in trained.data.metrics:
        steps = [point.step for point in client.get_metric_history(trained.info.run_id, key)]
        assert len(set(steps)) == len(steps), key
    points = client.get_metric_history(trained.info.run_id, "val/ap60")
    assert [point.step for point in points] == list(range(1, len(points) + 1))
    assert {item.path for item in client.list_artifacts(trained.info.run_id)} >= {"checkpoints", "ranks.json"}
    # How many processes trained is no part of the identity: a later stage finds the run by its key.
    one = call(tmp_path, "python", "-m", "hubmap_ml", "finetune", "--experiment", "tiny")
    assert one.returncode == 0, one.stderr
