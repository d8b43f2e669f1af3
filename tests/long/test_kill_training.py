"""SIGKILL at five random iterations of a real process: the same weights as undisturbed, to the last bit."""

import pickle
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tests.training.test_resume as case
from hubmap_ml.spec import NullRecorder
from tests.detectors import vessels

pytestmark = pytest.mark.long

TRAINING = """
import os, pickle, signal, sys
from pathlib import Path
import tests.training.test_resume as case
from hubmap_ml.training.mmdet.runner import EpochRunner

first, folder, tiles, last_iteration = sys.argv[1:]
step = EpochRunner._step

def dying(self, batch):
    step(self, batch)
    if self.iter + 1 == int(last_iteration):
        os.kill(os.getpid(), signal.SIGKILL)

EpochRunner._step = dying
with open(tiles, "rb") as file:
    known = pickle.load(file)
resume_from = Path(first) if first else None
case.fit(case.INPUTS, case.data(known, workers=1), case.NullRecorder(Path(folder)), resume_from=resume_from)
"""


def test_killed_at_five_random_iterations(tmp_path: Path) -> None:
    (tmp_path / "tiles").mkdir()
    tiles: Any = (tmp_path / "tiles", vessels(tmp_path / "tiles", 4))
    (tmp_path / "tiles.pickle").write_bytes(pickle.dumps(tiles))
    whole = case.fit(case.INPUTS, case.data(tiles, save_every=0), NullRecorder(tmp_path / "whole"))
    moments = sorted(random.Random(5).sample(range(2, case.ITERATIONS + 1), 5))
    first = ""
    for moment in moments:
        words = [first, str(tmp_path / str(moment)), str(tmp_path / "tiles.pickle"), str(moment)]
        done = subprocess.run(
            [sys.executable, "-c", TRAINING, *words],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        last = tmp_path / str(moment) / "checkpoints" / "last"
        first = str(last) if last.exists() else first
    result = case.fit(case.INPUTS, case.data(tiles), NullRecorder(tmp_path / "end"), resume_from=Path(first))
    assert case.same(result.last, whole.last)
    assert case.metrics(tmp_path / "end") == case.metrics(tmp_path / "whole")
