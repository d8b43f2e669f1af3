"""Several workers on one study: on PostgreSQL, started as anyone starts them, and one of them killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
import pytest

from hubmap_ml.instances import write_coco, write_predictions
from tests.random_scenes import images, predictions, truths
from tests.team_server import postgresql

pytestmark = pytest.mark.long

TRIALS = 60
FOLDS = 3


@pytest.fixture
def storage() -> Iterator[str]:
    with postgresql("planted-in-no-log") as database:
        yield database.uri


@pytest.fixture
def files(tmp_path: Path) -> Path:
    table = images(12, n_folds=FOLDS)
    write_coco(tmp_path / "truth.json", truths(1, table=table))
    write_predictions(tmp_path / "predictions", predictions(5, table=table, objects_seed=1, count=50))
    return tmp_path


def worker(files: Path, number: int, storage: str, sampler: str = "tpe") -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "hubmap_ml", "tune", "--truth", str(files / "truth.json"), "--predictions",
             str(files / "predictions"), "--trials", str(TRIALS), "--storage", storage, "--sampler", sampler, "--json",
             "--report", str(files / f"worker{number}.html")]  # fmt: skip
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said_by(process: subprocess.Popen[str]) -> dict[str, object]:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    found: dict[str, object] = json.loads(out.splitlines()[-1])
    return found


def trials_of(storage: str) -> list[optuna.trial.FrozenTrial]:
    [name] = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).trials


def test_three_workers_share_the_trials_of_one_study_and_find_the_same(files: Path, storage: str) -> None:
    found = [said_by(process) for process in [worker(files, number, storage) for number in range(3)]]
    trials = [trial for trial in trials_of(storage) if trial.state.name == "COMPLETE"]
    fixed, own = TRIALS // 2 - 1, TRIALS // 2
    assert [trial.number for trial in trials] == list(range(fixed + own * (FOLDS + 1)))
    assert len({tuple(trial.params.items()) for trial in trials}) == len(trials)
    done_by = {trial.user_attrs["worker"] for trial in trials}
    assert len(done_by) == 3
    for key in ("best_setting", "value", "cross_fitted", "chosen"):
        assert found[0][key] == found[1][key] == found[2][key]
    tables = [pd.read_parquet(files / f"worker{number}.parquet") for number in range(3)]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0])


def test_the_trials_of_a_killed_worker_are_done_by_another(files: Path, storage: str) -> None:
    first = worker(files, 0, storage, "qmc")
    while True:
        names = (
            optuna.get_all_study_names(storage) if first.poll() is None else pytest.fail("it ended by itself")
        )
        if names and len(trials_of(storage)) > 5:
            break
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    assert len(trials_of(storage)) < TRIALS - 1
    said_by(worker(files, 1, storage, "qmc"))
    trials = trials_of(storage)
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert len({tuple(trial.params.items()) for trial in trials}) == len(trials) == TRIALS - 1
