"""One MLflow run for one stage: opened early, identified when its inputs are known, ended with a verdict.

A run that ``mlflow run`` created (``MLFLOW_RUN_ID``) is joined; otherwise one is created in the MLflow experiment named
like ours. Runs are found by their tags over all experiments of the store, never by MLflow experiment: a literal
``mlflow run`` lands in "Default", and runs cannot be moved.
"""

import dataclasses
import logging
import os
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from hubmap_ml.spec import DoneElsewhere, InputError, StageInputs, without_credentials
from hubmap_ml.tracking import code_state, memory
from hubmap_ml.tracking.claims import CHOOSING, CLAIM, claim
from hubmap_ml.tracking.heartbeat import HEARTBEAT, own_heartbeat
from hubmap_ml.tracking.links import with_links
from hubmap_ml.tracking.recorder import MlflowRecorder
from hubmap_ml.tracking.store import experiment_id, local_artifact, open_store, work_folder
from hubmap_ml.tracking.sweeping import sweep
from hubmap_ml.tracking.system_metrics import SystemMetrics

log = logging.getLogger(__name__)

EXPERIMENT = "hubmap.experiment"
STAGE = "hubmap.stage"
KEY = "hubmap.stage_key"
REUSES = "hubmap.reuses"
UPSTREAM = "hubmap.upstream_runs"
REPEATED_KEY = "hubmap.repeated_key"
"""The stage key of a run that repeats another one: later stages go on finding the run that was repeated."""
REPRODUCES = "hubmap.reproduces"
DATA_DIGEST = "hubmap.data_digest"
MEMBER = "hubmap.member"
FOLD = "hubmap.fold"
HEADLINE = "headline"
NOTE = "mlflow.note.content"
PARENT = "mlflow.parentRunId"


@dataclasses.dataclass(frozen=True)
class FoundRun:
    """A finished run of a stage.

    Attributes:
        metrics, tags, params: as MLflow keeps them (last value of each metric).
        status: ``FINISHED``, ``RUNNING``, ``FAILED`` or ``KILLED``.
    """

    run_id: str
    key: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    params: Mapping[str, str]
    client: MlflowClient = dataclasses.field(repr=False, compare=False)
    status: str = "FINISHED"

    def artifact(self, path: str) -> Path:
        """Return an artifact as a local path."""
        return local_artifact(self.client, self.run_id, path)


class StageRun:
    """The run of a stage while it is going on."""

    def __init__(self, client: MlflowClient, run_id: str, experiment: str, stage: str) -> None:
        self.client = client
        self.run_id = run_id
        self.experiment = experiment
        self.stage = stage
        self.key = ""
        self.verdict = ""
        self.headline: float | None = None
        self.repeats = False
        self.upstream: tuple[str, ...] = ()
        self._system = SystemMetrics()
        self.recorder = MlflowRecorder(client, run_id, work_folder() / "runs" / run_id, beat=self._beat)

    def identify(self, inputs: StageInputs, *, upstream_runs: Sequence[str] = ()) -> None:
        """Say what the result depends on: the key under which later stages find this run.

        Where a live run works on the same key already, this waits for its end.

        Raises:
            DoneElsewhere: it was waited for and finished; there is nothing left to do.
        """
        self._declare(inputs, upstream_runs, {} if self.repeats else {CLAIM: CHOOSING})
        if not self.repeats and claim(self.client, self.run_id, experiment=self.experiment, key=self.key):
            done = find_run(self.experiment, self.key, client=self.client)
            if done is not None:
                note = done.tags.get(NOTE, "").partition("\n")[0]
                raise DoneElsewhere(done.run_id, note, done.metrics.get(HEADLINE))

    def _declare(self, inputs: StageInputs, upstream_runs: Sequence[str], more: Mapping[str, str]) -> None:
        """Keep the inputs and the tags that speak of them."""
        self.key = inputs.key
        tags = {REPEATED_KEY if self.repeats else KEY: self.key, DATA_DIGEST: inputs.data_digest[:64], **more}
        self.upstream = tuple(upstream_runs)
        if upstream_runs:
            tags[UPSTREAM] = ",".join(upstream_runs)
        self.tag(tags)
        self.recorder.data({**dataclasses.asdict(inputs), "key": self.key}, "stage_inputs.json")

    def stand_in_for(
        self, real: str, inputs: StageInputs, verdict: str, headline: float | None = None
    ) -> None:
        """Let this run stand for an earlier one with the same inputs: its key, links, verdict and headline.

        Args:
            real: the run that did the work; never one that stands for another itself.
            inputs: of both.
            verdict: of the earlier run.
            headline: of the earlier run.
        """
        found = get_run(self.client, real)
        upstream = list(filter(None, found.tags.get(UPSTREAM, "").split(",")))
        self._declare(inputs, upstream, {REUSES: real})
        self.recorder.params({"reuses": real})
        self.say(f"reused run {real}: {verdict}", headline)

    def tag(self, tags: Mapping[str, object]) -> None:
        """Set tags; they wait on disk where the store does not answer."""
        self.recorder.tags(tags)

    def dataset(self, name: str, digest: str, *, context: str, source: str, profile: str = "{}") -> None:
        """Log a set of images as a dataset input; ``context`` says what for (training, validation, test)."""
        kept = {"name": name, "digest": digest[:36], "source_type": "hubmap_ml", "source": source}
        self.recorder.ask({"kind": "dataset", "context": context, "dataset": {**kept, "profile": profile}})

    def say(self, verdict: str, headline: float | None = None) -> None:
        """Set the verdict, the first line of the run's note, and the headline metric."""
        self.verdict = verdict
        if headline is not None:
            self.headline = headline
            self.recorder.metrics({HEADLINE: headline}, step=0)

    def found(self) -> FoundRun:
        """Return this run as later stages will find it."""
        self.recorder.drain()
        return get_run(self.client, self.run_id)

    def _beat(self) -> None:
        # By the clock, so that a run that goes on from another one's history says nothing twice.
        self.recorder.metrics(self._system.sample(), step=int(time.time()))
        self.client.set_tag(self.run_id, HEARTBEAT, own_heartbeat().to_tag())


@contextmanager
def stage_run(
    *, experiment: str, stage: str, name: str, parent: str = "", tags: Mapping[str, object] | None = None
) -> Iterator[StageRun]:
    """Open the run of a stage and end it: FINISHED with its verdict, or FAILED with the reason as its note.

    Args:
        experiment: name of our experiment; also the MLflow experiment of runs created here.
        stage: entry point.
        name: the run's name, readable as a phrase.
        parent: run that this one is nested in; else a run waiting in ``MLFLOW_RUN_ID`` is joined.
        tags: further tags (member, fold).
    """
    client = open_store()
    _sweep(client)
    waiting = "" if parent else os.environ.pop("MLFLOW_RUN_ID", "")
    all_tags = {
        EXPERIMENT: experiment,
        STAGE: stage,
        HEARTBEAT: own_heartbeat().to_tag(),
        **{key: str(value) for key, value in (tags or {}).items()},
    }
    if waiting:
        made = client.get_run(waiting)
        run_id = made.info.run_id
        all_tags["mlflow.runName"] = name
        # `mlflow run https://TOKEN@host/project` is kept as it was typed.
        all_tags |= {
            key: value for key, value in made.data.tags.items() if without_credentials(value) != value
        }
    else:
        if parent:
            all_tags[PARENT] = parent
        all_tags |= {"mlflow.source.name": "hubmap-ml", "mlflow.source.type": "LOCAL"}
        # With its heartbeat from the first moment: a run without one looks as if nobody worked on it.
        created = client.create_run(experiment_id(client, experiment), run_name=name, tags=all_tags)
        run_id = created.info.run_id
    run = StageRun(client, run_id, experiment, stage)
    run.repeats = REPRODUCES in all_tags
    memory.reset_peak()
    started = time.monotonic()
    try:
        if waiting:
            run.tag(all_tags)
        _record_code(run)
        yield run
        run.recorder.metrics(
            {"time/seconds": time.monotonic() - started, "system/peak_memory_mib": memory.peak_mib()}, step=0
        )
        note = run.verdict or f"{name}: finished"
        if run.recorder.is_heard:
            note = with_links(client, note, run.run_id, run.upstream, UPSTREAM)
        arrived = run.recorder.end("FINISHED", {NOTE: note})
    except DoneElsewhere as done:
        if done.headline is not None:
            run.recorder.metrics({HEADLINE: done.headline}, step=0)
        note = f"reused run {done.run_id}: {done.verdict}"
        if run.recorder.end("FINISHED", {NOTE: note, REUSES: done.run_id}):
            run.recorder.clear_folder()
        raise
    except BaseException as error:
        _fail(run, error)
        raise
    if arrived:
        run.recorder.clear_folder()
        _sweep(client)


def fail_waiting_run(message: str) -> None:
    """End the run that ``mlflow run`` created for us, when the work failed before the run was opened."""
    waiting = os.environ.pop("MLFLOW_RUN_ID", "")
    if not waiting:
        return
    try:
        client = open_store()
        client.set_tag(waiting, NOTE, without_credentials(message))
        client.set_terminated(waiting, "FAILED")
    except (InputError, MlflowException):
        log.debug("the waiting run could not be ended", exc_info=True)


def find_run(experiment: str, key: str, *, client: MlflowClient | None = None) -> FoundRun | None:
    """Return the newest finished run with a stage key, over all MLflow experiments of the store.

    A run that stands for another leads to the one that did the work; where that is gone, it counts for nothing.
    """
    found = search(
        f"tags.`{EXPERIMENT}` = '{experiment}' and tags.`{KEY}` = '{key}' and attributes.status = 'FINISHED'",
        client=client,
    )
    real = [run for run in found if REUSES not in run.tags]
    return real[0] if real else None


def follow(run: FoundRun) -> FoundRun:
    """Return the run that did the work: the one that ``run`` stands for, or ``run`` itself."""
    return get_run(run.client, run.tags[REUSES]) if REUSES in run.tags else run


def search(condition: str, *, client: MlflowClient | None = None, limit: int = 1000) -> list[FoundRun]:
    """Return runs that meet an MLflow filter, newest first."""
    client = client or open_store()
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(ids, condition, order_by=["attributes.start_time DESC"], max_results=limit)
    return [_found(run, client) for run in runs]


def end_children(client: MlflowClient, parent: str, reason: str) -> None:
    """Mark runs nested in ``parent`` that are still RUNNING as FAILED: what ran them is gone."""
    running = f"tags.`{PARENT}` = '{parent}' and attributes.status = 'RUNNING'"
    for run in search(running, client=client):
        client.set_tag(run.run_id, NOTE, without_credentials(reason))
        client.set_terminated(run.run_id, "FAILED")


def get_run(client: MlflowClient, run_id: str) -> FoundRun:
    """Return a run by its id."""
    return _found(client.get_run(run_id), client)


def _found(run: Run, client: MlflowClient) -> FoundRun:
    key = run.data.tags.get(KEY, "")
    data = run.data
    return FoundRun(run.info.run_id, key, data.metrics, data.tags, data.params, client, str(run.info.status))


def _record_code(run: StageRun) -> None:
    commit, changes = code_state.commit_and_changes()
    if commit:
        run.tag({"mlflow.source.git.commit": commit, "hubmap.code_dirty": str(bool(changes)).lower()})
    run.recorder.data(code_state.environment(), "environment.json")
    if changes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "uncommitted.diff"
            path.write_text(without_credentials(changes))
            run.recorder.artifact(path)


def _fail(run: StageRun, error: BaseException) -> None:
    interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
    note = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    if interrupted:
        note = (
            str(error) if isinstance(error, KeyboardInterrupt) else ""
        ) or "interrupted; start it again to go on"
    try:
        if not isinstance(error, InputError) and not interrupted:
            run.recorder.data({"traceback": "".join(traceback.format_exception(error))}, "failure.json")
        run.recorder.end("KILLED" if interrupted else "FAILED", {NOTE: note})
    except Exception:
        log.warning("the end of run %s could not be recorded", run.run_id, exc_info=True)
        run.recorder.close()


def _sweep(client: MlflowClient) -> None:
    try:
        sweep(client)
    except Exception:  # housekeeping; the stage itself goes on
        log.warning("runs of processes that are gone could not be ended", exc_info=True)


def resolved_spec(run: StageRun, document: Any) -> None:
    """Keep the resolved experiment as an artifact of the run."""
    run.recorder.data(document, "experiment.json")
