"""Kill the whole chain at random moments, again and again, then let it run to its end."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from tests.e2e.running import environment

WORDS = ("hubmap-ml", "main", "--experiment", "tiny", "--workers", "0")
FIGURES = ("out_of_fold", "cross_fitted", "hidden_test")


def kill_at_random(folder: Path, *, kills: int, seed: int, longest_s: float) -> list[float]:
    """Start the chain and kill it, ``kills`` times; returns after how many seconds."""
    draws = random.Random(seed)
    moments = []
    for _ in range(kills):
        moment = draws.uniform(0.5, longest_s)
        moments.append(moment)
        with (folder / "killed.log").open("a") as log:
            process = subprocess.Popen(
                WORDS, cwd=folder, env=environment(folder), stdout=log, stderr=log, start_new_session=True
            )
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    time.sleep(0.5)  # the last of the group to go
    return moments


def all_runs(folder: Path) -> list[Run]:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    return list(
        client.search_runs([item.experiment_id for item in client.search_experiments()], max_results=5000)
    )


def table_of(folder: Path) -> dict[str, float]:
    """The scores of the newest finished `main`."""
    mains = [
        run
        for run in all_runs(folder)
        if run.data.tags.get("hubmap.stage") == "main" and run.info.status == "FINISHED"
    ]
    newest = max(mains, key=lambda run: run.info.start_time)
    return {key: value for key, value in newest.data.metrics.items() if key.rpartition("/")[2] in FIGURES}


def check_sequence(folder: Path, undisturbed: dict[str, float]) -> None:
    """None is left RUNNING, each point is there once, and the table is that of an undisturbed run."""
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    runs = all_runs(folder)
    assert [run.info.run_id for run in runs if run.info.status == "RUNNING"] == []
    for run in runs:
        for key in run.data.metrics:
            steps = [point.step for point in client.get_metric_history(run.info.run_id, key)]
            assert len(set(steps)) == len(steps), (run.info.run_name, key, steps)
        if (resumed_by := run.data.tags.get("hubmap.resumed_by")) is not None:
            assert run.info.status == "KILLED"
            assert client.get_run(resumed_by).data.tags["hubmap.resumes"]
    assert table_of(folder) == undisturbed
