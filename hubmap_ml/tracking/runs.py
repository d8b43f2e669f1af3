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
from mlflow.entities import Dataset, DatasetInput, InputTag, Run, RunTag
from mlflow.exceptions import MlflowException

from hubmap_ml.spec import InputError, StageInputs, without_credentials
from hubmap_ml.tracking import code_state, memory
from hubmap_ml.tracking.recorder import MlflowRecorder
from hubmap_ml.tracking.store import experiment_id, local_artifact, open_store, work_folder

log = logging.getLogger(__name__)

EXPERIMENT = "hubmap.experiment"
STAGE = "hubmap.stage"
KEY = "hubmap.stage_key"
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
    """

    run_id: str
    key: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    params: Mapping[str, str]
    client: MlflowClient = dataclasses.field(repr=False, compare=False)

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
        self.recorder = MlflowRecorder(client, run_id, work_folder() / "runs" / run_id)

    def identify(self, inputs: StageInputs, *, upstream_runs: Sequence[str] = ()) -> None:
        """Say what the result depends on: the key under which later stages find this run."""
        self.key = inputs.key
        self.tag({KEY: self.key, "hubmap.data_digest": inputs.data_digest[:64]})
        if upstream_runs:
            self.tag({"hubmap.upstream_runs": ",".join(upstream_runs)})
        self.recorder.data({**dataclasses.asdict(inputs), "key": self.key}, "stage_inputs.json")

    def tag(self, tags: Mapping[str, object]) -> None:
        """Set tags."""
        self.client.log_batch(
            self.run_id,
            tags=[RunTag(key, without_credentials(str(value))) for key, value in tags.items()],
            synchronous=True,
        )

    def dataset(self, name: str, digest: str, *, context: str, source: str, profile: str = "{}") -> None:
        """Log a set of images as a dataset input; ``context`` says what for (training, validation, test)."""
        entity = Dataset(
            name=name, digest=digest[:36], source_type="hubmap_ml", source=source, profile=profile
        )
        self.client.log_inputs(
            self.run_id, datasets=[DatasetInput(entity, [InputTag("mlflow.data.context", context)])]
        )

    def say(self, verdict: str, headline: float | None = None) -> None:
        """Set the verdict, the first line of the run's note, and the headline metric."""
        self.verdict = verdict
        if headline is not None:
            self.headline = headline
            self.recorder.metrics({HEADLINE: headline}, step=0)

    def found(self) -> FoundRun:
        """Return this run as later stages will find it."""
        return get_run(self.client, self.run_id)


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
    waiting = "" if parent else os.environ.pop("MLFLOW_RUN_ID", "")
    all_tags = {
        EXPERIMENT: experiment,
        STAGE: stage,
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
        created = client.create_run(experiment_id(client, experiment), run_name=name)
        run_id = created.info.run_id
        all_tags |= {"mlflow.source.name": "hubmap-ml", "mlflow.source.type": "LOCAL"}
    run = StageRun(client, run_id, experiment, stage)
    memory.reset_peak()
    started = time.monotonic()
    try:
        run.tag(all_tags)
        _record_code(run)
        yield run
        run.recorder.metrics(
            {"time/seconds": time.monotonic() - started, "system/peak_memory_mib": memory.peak_mib()}, step=0
        )
        run.recorder.flush()
        run.tag({NOTE: run.verdict or f"{name}: finished"})
        client.set_terminated(run_id, "FINISHED")
    except BaseException as error:
        _fail(run, error)
        raise
    run.recorder.clear_folder()


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
    """Return the newest finished run with a stage key, over all MLflow experiments of the store."""
    found = search(
        f"tags.`{EXPERIMENT}` = '{experiment}' and tags.`{KEY}` = '{key}' and attributes.status = 'FINISHED'",
        client=client,
        limit=1,
    )
    return found[0] if found else None


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
    return FoundRun(run.info.run_id, key, run.data.metrics, run.data.tags, run.data.params, client)


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
    try:
        run.recorder.flush()
        if not isinstance(error, InputError) and not interrupted:
            run.recorder.data({"traceback": "".join(traceback.format_exception(error))}, "failure.json")
        run.tag({NOTE: "interrupted" if interrupted else note})
        run.client.set_terminated(run.run_id, "KILLED" if interrupted else "FAILED")
    except Exception:
        log.warning("the end of run %s could not be recorded", run.run_id, exc_info=True)


def resolved_spec(run: StageRun, document: Any) -> None:
    """Keep the resolved experiment as an artifact of the run."""
    run.recorder.data(document, "experiment.json")
