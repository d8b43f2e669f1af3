"""Checkpoints of a training in progress as artifacts of its run, for a machine whose work folder has none.

Each lies in a folder of its own, ``resume/STEP``, as in a run's folder: ``checkpoints/last``, ``checkpoints/best`` and
``metrics.jsonl``. The newest two are kept: while one is written, the one before is whole. They go when the training is
finished.
"""

import contextlib
import json
import os
import shutil
from pathlib import Path

from hubmap_ml.tracking.spool import ITEM, METRICS, Spool

RESUME = "resume"
CHECKPOINTS = "checkpoints"
KEPT = 2


class KeptCheckpoints:
    """Puts checkpoints into a run's outbox.

    Args:
        spool: of the run.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._steps: list[int] = []

    @property
    def any(self) -> bool:
        """Whether any was kept."""
        return bool(self._steps)

    def add(self, folder: Path, step: int) -> None:
        """Keep a training's checkpoints; passed over while earlier ones still wait for the store.

        Args:
            folder: as for ``spec.Recorder.checkpoint``.
            step: iterations done.
        """
        if self._waiting() >= KEPT or step in self._steps:
            return
        staged = self._spool.folder / "staged"
        shutil.rmtree(staged, ignore_errors=True)
        for name in ("last", "best"):
            source = folder / name
            for file in sorted(source.iterdir()) if source.is_dir() else ():
                target = staged / CHECKPOINTS / name / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(file, target)  # a checkpoint is replaced as a whole: its files never change
        said = self._spool.folder / METRICS
        if said.exists():  # a training that stops early has said nothing yet
            shutil.copyfile(said, staged / METRICS)
        else:
            (staged / METRICS).touch()
        item = {"kind": "files", "folder": place_of(step), "checkpoint": True}
        self._spool.put(item, [staged / CHECKPOINTS, staged / METRICS])
        shutil.rmtree(staged)
        self._steps.append(step)
        if len(self._steps) > KEPT:
            self._spool.put({"kind": "remove", "folder": place_of(self._steps.pop(0))})

    def _waiting(self) -> int:
        count = 0
        for path in self._spool.items():
            with contextlib.suppress(FileNotFoundError):  # it arrived meanwhile
                count += "checkpoint" in json.loads((path / ITEM).read_text())
        return count


def place_of(step: int) -> str:
    """The artifact folder of a checkpoint."""
    return f"{RESUME}/{step:09d}"
