"""Processes under torchrun: a killed one ends all, none outlives the parent, what goes on ends with equal weights."""

import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import tests.training.test_distributed as case
from hubmap_ml.instances import Annotations
from hubmap_ml.spec import NullRecorder
from hubmap_ml.training.distributed import RankError, fit_on_ranks
from tests.detectors import vessels

pytestmark = pytest.mark.long

EPOCHS = 6


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: Any) -> tuple[Path, Annotations]:
    folder = tmp_path_factory.mktemp("tiles")
    return folder, vessels(folder, 6)


def ranks_of(pid: int) -> list[psutil.Process]:
    found = psutil.Process(pid).children(recursive=True)
    return [
        item for item in found if "hubmap_ml.training.rank" in item.cmdline() and "RANK" in item.environ()
    ]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [item for item in processes if item.is_running() and item.status() != psutil.STATUS_ZOMBIE]


def test_killed_ranks_end_all_and_the_training_goes_on_to_the_same_weights(
    tiles: tuple[Path, Annotations], tmp_path: Path
) -> None:
    words = "mmdet", case.TWO, case.inputs(EPOCHS), case.data(tiles, save_every=1)
    whole = fit_on_ranks(*words, NullRecorder(tmp_path / "whole"))
    draws = random.Random(4)
    resume_from = None
    for start in range(3):
        folder = tmp_path / str(start)
        rank, after_s = draws.choice("01"), draws.uniform(0, 2)
        seen: list[psutil.Process] = []

        def kill(
            folder: Path = folder, rank: str = rank, after_s: float = after_s, seen: list[Any] = seen
        ) -> None:
            while not (folder / "checkpoints" / "last" / "resume.pt").exists():
                time.sleep(0.02)
            time.sleep(after_s)
            seen.extend(ranks_of(os.getpid()))
            for process in seen:
                if process.environ()["RANK"] == rank:
                    process.send_signal(signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            result = fit_on_ranks(*words, NullRecorder(folder), resume_from)
            break  # it came before the signal
        except RankError as error:
            said = str(error)
        finally:
            thread.join()
        assert said.startswith(f"rank {rank} of 2 ended with signal 9 (SIGKILL)")
        assert not alive(seen)
        resume_from = folder / "checkpoints" / "last"
    else:
        folder = tmp_path / "end"
        result = fit_on_ranks(*words, NullRecorder(folder), resume_from)
    assert case.same(result.last, whole.last)
    assert case.metrics(folder) == case.metrics(tmp_path / "whole")


PARENT = """
import pickle, sys
from pathlib import Path
import tests.training.test_distributed as case
from hubmap_ml.spec import NullRecorder
from hubmap_ml.training.distributed import fit_on_ranks

with open(sys.argv[2], "rb") as file:
    tiles = pickle.load(file)
fit_on_ranks("mmdet", case.TWO, case.inputs(500), case.data(tiles), NullRecorder(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_ranks_end_with_the_process_that_started_them(
    tiles: tuple[Path, Annotations], tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "tiles.pickle").write_bytes(pickle.dumps(tiles))
    words = [str(tmp_path / "run"), str(tmp_path / "tiles.pickle")]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *words],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "run" / "checkpoints" / "last").exists():
        assert parent.poll() is None
        time.sleep(0.1)
    ranks = ranks_of(parent.pid)
    assert len(ranks) == 2
    parent.send_signal(number)
    _, said = parent.communicate(timeout=60)
    _, left = psutil.wait_procs(ranks, timeout=20)
    assert not alive(left)
    if number == signal.SIGTERM:
        assert "start it again to go on" in said
