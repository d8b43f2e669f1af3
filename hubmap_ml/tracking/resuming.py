"""Trainings that were interrupted: finding the one that a new run can go on from, and linking the two.

Checkpoints of a training in progress lie in its run folder, so they are found on the machine (or the shared work
folder) that trained. The newest run of a key with a checkpoint is the furthest: a run that goes on copies what it
starts from before anything else.
"""

import logging
import shutil
from pathlib import Path

from mlflow import MlflowClient

from hubmap_ml.tracking.runs import EXPERIMENT, KEY, FoundRun, search
from hubmap_ml.tracking.store import work_folder

log = logging.getLogger(__name__)

RESUMED_BY = "hubmap.resumed_by"
RESUMES = "hubmap.resumes"
CHECKPOINT = "checkpoints/last"
# What a crash between two renames leaves in its place (models/checkpoints.py).
ASIDE = "checkpoints/.last.old"


def interrupted(client: MlflowClient, experiment: str, key: str, *, own: str) -> tuple[FoundRun, Path] | None:
    """Return the unfinished run to go on from, and its checkpoint's folder; None where there is none.

    Args:
        client: of the store.
        experiment, key: of the stage.
        own: the run that asks.
    """
    for run in _unfinished(client, experiment, key, own):
        checkpoint = _folder(run) / CHECKPOINT
        if checkpoint.is_dir() or (_folder(run) / ASIDE).is_dir():
            return run, checkpoint
    return None


def link(client: MlflowClient, old: FoundRun, new: str) -> None:
    """Say in both runs that the new one goes on where the old one stopped, and end the old one as KILLED."""
    client.set_tag(old.run_id, RESUMED_BY, new)
    client.set_tag(new, RESUMES, old.run_id)
    client.set_terminated(old.run_id, "KILLED", client.get_run(old.run_id).info.end_time)


def forget(client: MlflowClient, experiment: str, key: str, *, own: str) -> None:
    """Remove the checkpoints of unfinished runs of a key that is now finished; their metrics stay."""
    for run in _unfinished(client, experiment, key, own):
        shutil.rmtree(_folder(run) / "checkpoints", ignore_errors=True)


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
