"""Runs whose process is gone are ended: at the start and the end of every stage, before any other conclusion.

What such a run still had to tell is sent first (its end may be among it). A run that was trained on keeps its
checkpoint in the work folder; the next start of the same stage goes on from it.
"""

import logging
import os
import time
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

import hubmap_ml
from hubmap_ml.tracking.delivery import replay
from hubmap_ml.tracking.heartbeat import HEARTBEAT, Heartbeat, describe, is_gone

log = logging.getLogger(__name__)

NOTE = "mlflow.note.content"
WITHOUT_HEARTBEAT_S = 600.0


def sweep(client: MlflowClient) -> list[str]:
    """End stale runs as KILLED; returns their ids."""
    replay(client)
    ended = []
    for run in running(client):
        if not is_stale(run):
            continue
        beat = Heartbeat.from_tag(run.data.tags.get(HEARTBEAT))
        who = f"{describe(beat)} is gone" if beat else "what was to work on it never began"
        try:
            if not run.data.tags.get(NOTE):
                client.set_tag(run.info.run_id, NOTE, f"killed: {who}; start it again to go on")
            client.set_terminated(run.info.run_id, "KILLED")
        except MlflowException:
            log.debug("run %s could not be ended", run.info.run_id, exc_info=True)
            continue
        ended.append(run.info.run_id)
        log.info("run %s (%s) is ended: %s", run.info.run_name, run.info.run_id, who)
    return ended


def running(client: MlflowClient, condition: str = "") -> list[Run]:
    """Return the runs of this project that the store believes to be running."""
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(ids, f"attributes.status = 'RUNNING'{condition}", max_results=1000)
    return [run for run in found if "hubmap.stage" in run.data.tags or _is_ours(run)]


def is_stale(run: Run) -> bool:
    """Whether nobody works on a RUNNING run any more."""
    beat = Heartbeat.from_tag(run.data.tags.get(HEARTBEAT))
    if beat is not None:
        return is_gone(beat)
    # Made by `mlflow run`, and our code has not begun, or never will.
    started = float(run.info.start_time) / 1000
    if not mlflow.get_tracking_uri().startswith("sqlite:"):
        return time.time() - started > WITHOUT_HEARTBEAT_S
    return not _is_awaited(run.info.run_id, started, _project_of(run))


def _is_ours(run: Run) -> bool:
    tags = run.data.tags
    return bool(tags.get("mlflow.project.entryPoint")) and _project_of(run) == _here()


def _project_of(run: Run) -> str:
    return run.data.tags.get("mlflow.source.name", "").removeprefix("file://").partition("#")[0].rstrip("/")


def _here() -> str:
    return str(Path(hubmap_ml.__file__).resolve().parents[1])


def _is_awaited(run_id: str, started: float, project: str) -> bool:
    """Whether a live process carries the run's id, or is a ``mlflow run`` of the folder that may have made it."""
    import psutil

    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid():
                continue
            if process.environ().get("MLFLOW_RUN_ID") == run_id:
                return True
            words = [os.path.basename(word) for word in process.cmdline()[:4]]
            if "mlflow" in words and "run" in words and process.create_time() <= started + 1:
                folders = {process.cwd(), *(word.rstrip("/") for word in process.cmdline())}
                if project in folders:
                    return True
        except (psutil.Error, OSError):
            continue
    return False
