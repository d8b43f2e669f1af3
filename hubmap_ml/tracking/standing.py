"""What the store says of all that runs, of what failed, and of who leads; read from runs, tags and aliases alone."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from hubmap_ml.tracking.heartbeat import HEARTBEAT, Heartbeat, describe
from hubmap_ml.tracking.registry import CHAMPION, PROMOTED, Version, by_alias
from hubmap_ml.tracking.resuming import RESUMED_BY
from hubmap_ml.tracking.runs import EXPERIMENT, NOTE, STAGE, FoundRun, search
from hubmap_ml.tracking.sweeping import is_stale, running

ENDED_BADLY = ("FAILED", "KILLED")
MOST = 5000


@dataclass(frozen=True)
class LiveRun:
    """A run that the store believes to be running.

    Attributes:
        seconds: since it began.
        worker: who works on it, in words; "" where that is not known.
        silent_s: seconds since its last sign of life; None where it never gave one.
        gone: nobody works on it any more; the next start of any stage ends it.
        told: its newest figure, and at which step.
    """

    run_id: str
    experiment: str
    name: str
    seconds: float
    worker: str
    silent_s: float | None
    gone: bool
    told: str


@dataclass(frozen=True)
class FailedRun:
    """The newest run of its name, which did not finish.

    Attributes:
        status: FAILED or KILLED.
        why: the last line of its error.
        ago_s: seconds since it ended.
    """

    run_id: str
    experiment: str
    name: str
    status: str
    why: str
    ago_s: float


def live_runs(client: MlflowClient, experiment: str = "") -> list[LiveRun]:
    """Return what runs, of one experiment or of all; the longest running first."""
    now = time.time()
    found = []
    for run in running(client):
        tags = run.data.tags
        if experiment and tags.get(EXPERIMENT) != experiment:
            continue
        beat = Heartbeat.from_tag(tags.get(HEARTBEAT))
        found.append(
            LiveRun(
                run.info.run_id,
                tags.get(EXPERIMENT, ""),
                tags.get("mlflow.runName", ""),
                now - run.info.start_time / 1000,
                describe(beat) if beat else "",
                max(0.0, now - beat.time) if beat else None,
                is_stale(run),
                _newest_figure(client, run),
            )
        )
    return sorted(found, key=lambda run: -run.seconds)


def failed_runs(client: MlflowClient, experiment: str = "") -> list[FailedRun]:
    """Return runs of stages that failed or were killed and no later run of their name replaced; newest first."""
    now = time.time()
    seen: set[tuple[str, str]] = set()
    found = []
    for run in _runs_of_stages(client, experiment):
        tags = run.data.tags
        who = tags.get(EXPERIMENT, ""), tags.get("mlflow.runName", "")
        if who in seen:
            continue
        seen.add(who)
        if run.info.status in ENDED_BADLY and RESUMED_BY not in tags:
            lines = tags.get(NOTE, "").strip().splitlines() or ["it left no word"]
            ended = (run.info.end_time or run.info.start_time) / 1000
            found.append(FailedRun(run.info.run_id, *who, run.info.status, lines[-1], max(0.0, now - ended)))
    return found


def leading_versions(client: MlflowClient) -> list[tuple[str, str, Version]]:
    """Return (experiment, alias, version) of every champion and promoted member, by name; the champions first."""
    found = []
    for model in client.search_registered_models(max_results=1000):
        experiment, point, _ = str(model.name).rpartition(".")
        for alias in (CHAMPION, PROMOTED):
            if point and alias in dict(model.aliases):
                found.append((experiment, alias, by_alias(client, str(model.name), alias)))
    return sorted(found, key=lambda item: (item[0], item[1] != CHAMPION, item[2].name))


def newest_of_each_member(client: MlflowClient, stage: str, experiment: str = "") -> list[FoundRun]:
    """Return the newest finished run of a stage of each experiment and member."""
    condition = f"tags.`{STAGE}` = '{stage}' and attributes.status = 'FINISHED'"
    if experiment:
        condition += f" and tags.`{EXPERIMENT}` = '{experiment}'"
    newest: dict[tuple[str, str], FoundRun] = {}
    for run in search(condition, client=client, limit=MOST):
        newest.setdefault((run.tags.get(EXPERIMENT, ""), run.tags.get("hubmap.member", "")), run)
    return [newest[key] for key in sorted(newest)]


def _runs_of_stages(client: MlflowClient, experiment: str) -> Iterable[Run]:
    ids = [item.experiment_id for item in client.search_experiments()]
    condition = f"tags.`{STAGE}` LIKE '%'" + (
        f" and tags.`{EXPERIMENT}` = '{experiment}'" if experiment else ""
    )
    newest = ["attributes.start_time DESC"]
    found: list[Run] = list(client.search_runs(ids, condition, order_by=newest, max_results=MOST))
    return found


def _newest_figure(client: MlflowClient, run: Any) -> str:
    """Return the metric with the highest step, and which step that is."""
    newest = None
    for key in run.data.metrics:
        if key.startswith(("train/loss", "val/", "search/")) and key.count("/") == 1:
            point = client.get_metric_history(run.info.run_id, key)[-1]
            if newest is None or point.timestamp > newest[1].timestamp:
                newest = key, point
    return "" if newest is None else f"{newest[0]} {newest[1].value:.4g} at {newest[1].step}"
