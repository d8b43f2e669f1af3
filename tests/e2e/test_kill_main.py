"""The chain, killed three times and started once more, gives what an undisturbed one gives."""

import signal
import subprocess
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.e2e.killing import WORDS, all_runs, check_sequence, kill_at_random, table_of
from tests.e2e.running import Chain, call, environment

pytestmark = pytest.mark.e2e


def test_killed_three_times_it_ends_with_the_table_of_an_undisturbed_run(
    chain: Chain, tmp_path: Path
) -> None:
    kill_at_random(tmp_path, kills=3, seed=1, longest_s=25)
    done = call(tmp_path, *WORDS)
    assert done.returncode == 0, done.stdout + done.stderr
    check_sequence(tmp_path, table_of(chain.folder))


def test_asked_to_stop_the_chain_saves_its_training_and_the_stage_goes_on(tmp_path: Path) -> None:
    """SIGTERM to the chain reaches the process that trains; a later start of the stage alone takes it up."""
    runs = tmp_path / ".hubmap_ml" / "runs"
    process = subprocess.Popen(
        WORDS,
        cwd=tmp_path,
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if any("train/loss" in path.read_text() for path in runs.glob("*/metrics.jsonl")):
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert said.splitlines()[-1].startswith("hubmap-ml: interrupted at epoch ")
    ended = {run.data.tags["hubmap.stage"]: run for run in all_runs(tmp_path)}
    assert {ended[stage].info.status for stage in ("main", "pretrain")} == {"KILLED"}
    for stage in ("main", "pretrain"):
        note = ended[stage].data.tags["mlflow.note.content"]
        assert note.startswith("interrupted at epoch ")
        assert note.endswith("; start it again to go on")
    done = call(tmp_path, "hubmap-ml", "pretrain", "--experiment", "tiny")
    assert done.returncode == 0, done.stderr
    old, new = sorted(
        (run for run in all_runs(tmp_path) if run.data.tags["hubmap.stage"] == "pretrain"),
        key=lambda run: run.info.start_time,
    )
    assert old.data.tags["hubmap.resumed_by"] == new.info.run_id
    assert (old.info.status, new.info.status) == ("KILLED", "FINISHED")
    steps = [
        point.step
        for point in MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db").get_metric_history(
            new.info.run_id, "train/loss"
        )
    ]
    assert len(set(steps)) == len(steps) >= 2
