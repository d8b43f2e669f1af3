"""Trainings that were interrupted: finding what a new run can go on from, and linking the two.

Checkpoints of a training in progress lie in its run's folder, on the machine (or in the shared work folder) that
trained; those of epochs' ends also among the run's artifacts. All runs of a key are the same training, so that the
furthest checkpoint is the best; whether it is whole is seen by whoever opens it, and the next one stands behind it.
"""

import json
import logging
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from hubmap_ml.tracking.kept_checkpoints import CHECKPOINTS, RESUME
from hubmap_ml.tracking.runs import EXPERIMENT, KEY, FoundRun, search
from hubmap_ml.tracking.store import work_folder

log = logging.getLogger(__name__)

RESUMED_BY = "hubmap.resumed_by"
RESUMES = "hubmap.resumes"
LAST = "last"
# The one that the last replaced (models/checkpoints.py); also what a crash between two renames leaves in its place.
BEFORE = ".last.old"
UNKNOWN = sys.maxsize
"""Iterations of a checkpoint that does not say them: it is looked at first, and refused by its name."""


@dataclass(frozen=True)
class Resumable:
    """A checkpoint that a training may go on from.

    Attributes:
        run: that wrote it.
        iterations: done when it was written.
        place: ``work folder`` or ``artifacts``.
        name: of the folder there.
    """

    run: FoundRun
    iterations: int
    place: Literal["work folder", "artifacts"]
    name: str

    def fetch(self) -> Path:
        """Return the checkpoint folder ``last`` on this machine, its neighbours beside it.

        Raises:
            InputError: it cannot be fetched.
        """
        if self.place == "work folder":
            return _folder(self.run) / CHECKPOINTS / self.name
        return self.run.artifact(self.name) / CHECKPOINTS / LAST


def interrupted(client: MlflowClient, experiment: str, key: str, *, own: str) -> list[Resumable]:
    """Return what the unfinished runs of a key left to go on from, the furthest first.

    Args:
        client: of the store.
        experiment, key: of the stage.
        own: the run that asks.
    """
    runs = _unfinished(client, experiment, key, own)
    found = [item for run in runs for item in (*_in_work_folder(run), *_in_artifacts(client, run))]
    return sorted(
        found, key=lambda item: -item.iterations
    )  # of equals, that of the newest run, and of this machine


def _in_work_folder(run: FoundRun) -> Iterator[Resumable]:
    for name in (LAST, BEFORE):
        folder = _folder(run) / CHECKPOINTS / name
        if folder.is_dir():
            yield Resumable(run, _iterations(folder), "work folder", name)


def _iterations(folder: Path) -> int:
    try:
        return int(json.loads((folder / "resume.json").read_text())["iterations"])
    except (OSError, ValueError, KeyError, TypeError):
        return UNKNOWN


def _in_artifacts(client: MlflowClient, run: FoundRun) -> Iterator[Resumable]:
    try:
        places = client.list_artifacts(run.run_id, RESUME)
    except (MlflowException, OSError):
        log.debug("the artifacts of run %s cannot be listed", run.run_id, exc_info=True)
        return
    for place in places:
        step = place.path.rpartition("/")[2]
        if step.isdigit():
            yield Resumable(run, int(step), "artifacts", place.path)


def link(client: MlflowClient, old: FoundRun, new: str) -> None:
    """Say in both runs that the new one goes on where the old one stopped, and end the old one as KILLED."""
    client.set_tag(old.run_id, RESUMED_BY, new)
    client.set_tag(new, RESUMES, old.run_id)
    client.set_terminated(old.run_id, "KILLED", client.get_run(old.run_id).info.end_time)


def forget(client: MlflowClient, experiment: str, key: str, *, own: str) -> None:
    """Remove the checkpoints of unfinished runs of a key that is now finished; their metrics stay."""
    for run in _unfinished(client, experiment, key, own):
        shutil.rmtree(_folder(run) / CHECKPOINTS, ignore_errors=True)
        try:
            if client.list_artifacts(run.run_id, RESUME):
                uri = str(client.get_run(run.run_id).info.artifact_uri)
                get_artifact_repository(uri).delete_artifacts(RESUME)  # type: ignore[no-untyped-call]
        except Exception:  # housekeeping; each kind of store has its own errors
            log.warning(
                "checkpoints of run %s could not be removed from the store", run.run_id, exc_info=True
            )


def _unfinished(client: MlflowClient, experiment: str, key: str, own: str) -> list[FoundRun]:
    same = f"tags.`{EXPERIMENT}` = '{experiment}' and tags.`{KEY}` = '{key}'"
    runs = [
        run
        for status in ("KILLED", "FAILED")
        for run in search(f"{same} and attributes.status = '{status}'", client=client)
        if run.run_id != own
    ]
    return sorted(runs, key=lambda run: client.get_run(run.run_id).info.start_time, reverse=True)


def _folder(run: FoundRun) -> Path:
    return work_folder() / "runs" / run.run_id
