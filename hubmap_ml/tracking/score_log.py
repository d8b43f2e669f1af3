"""The score log in the store: one run a submission, of the stage ``score``, told apart by the file's digest.

Scores are metrics (``score/public``, ``score/private``, ``score/cv``: their histories keep what was corrected), texts
are tags. Whoever writes reads again afterwards, so that of two who log one submission at once one run stays.
"""

import dataclasses
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from hubmap_ml.spec import InputError, LoggedSubmission, without_credentials
from hubmap_ml.spec.logged_submission import SCORES
from hubmap_ml.tracking.lineage import UPSTREAM
from hubmap_ml.tracking.runs import EXPERIMENT, NOTE, STAGE, FoundRun, search
from hubmap_ml.tracking.store import experiment_id

SCORE_STAGE = "score"
PREFIX = "hubmap.score."
METRIC = "score/"
MOST = 5000

Change = Literal["added", "completed", "known"]


@dataclass(frozen=True)
class LogEntry:
    """A submission in the log, and the run that keeps it."""

    run_id: str
    submission: LoggedSubmission
    change: Change = "known"


def logged_submissions(client: MlflowClient, experiment: str) -> list[LogEntry]:
    """Return an experiment's submissions, oldest first."""
    condition = f"tags.`{STAGE}` = '{SCORE_STAGE}' and tags.`{EXPERIMENT}` = '{experiment}'"
    found = search(condition, client=client, limit=MOST)[::-1]
    return [LogEntry(run.run_id, _read(run)) for run in found if run.tags.get(PREFIX + "name")]


def log_submission(
    client: MlflowClient,
    experiment: str,
    submission: LoggedSubmission,
    *,
    correct: bool = False,
    upstream: str = "",
) -> LogEntry:
    """Add a submission to an experiment's log, or complete the one that is there.

    Args:
        correct: let facts be replaced.
        upstream: run that made the file.

    Raises:
        InputError: the submission contradicts the log, or the store does not answer.
    """
    return log_submissions(client, experiment, [submission], correct=correct, upstream=upstream)[0]


def log_submissions(
    client: MlflowClient,
    experiment: str,
    submissions: Sequence[LoggedSubmission],
    *,
    correct: bool = False,
    upstream: str = "",
) -> list[LogEntry]:
    """Add several submissions, or complete those that are there; see `log_submission`.

    Returns:
        An entry of each, in order.
    """
    done: list[LogEntry] = []
    name = ""
    try:
        known = {entry.run_id: entry for entry in logged_submissions(client, experiment)}
        for one in submissions:
            name = one.name
            same = _same(known.values(), one)
            if same is None:
                entry = LogEntry(_create(client, experiment, one, upstream), one, "added")
            else:
                entry = _complete(client, same, one, correct, upstream)
            known[entry.run_id] = entry
            done.append(entry)
        if not any(entry.change == "added" for entry in done):
            return done
        now = logged_submissions(client, experiment)
        return [_settled(client, now, entry, correct, upstream) for entry in done]
    except MlflowException as error:
        reason = without_credentials(str(error)).strip().partition("\n")[0]
        raise InputError(f"{name} could not be logged ({reason}); see 'hubmap-ml doctor'") from error


def _settled(
    client: MlflowClient, now: Sequence[LogEntry], entry: LogEntry, correct: bool, upstream: str
) -> LogEntry:
    """Return an entry as it stands; where another process added the same first, that one's, completed."""
    first = _same(now, entry.submission)
    if entry.change != "added" or first is None or first.run_id == entry.run_id:
        return entry
    client.delete_run(entry.run_id)
    return _complete(client, first, entry.submission, correct, upstream)


def _read(run: FoundRun) -> LoggedSubmission:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(LoggedSubmission):
        if field.name in SCORES:
            values[field.name] = run.metrics.get(METRIC + field.name)
        else:
            values[field.name] = run.tags.get(PREFIX + field.name, "")
    return LoggedSubmission(**values)


def _same(entries: Iterable[LogEntry], submission: LoggedSubmission) -> LogEntry | None:
    """Return the entry of a submission: by its digest before its name."""
    same = [entry for entry in entries if entry.submission.is_same_as(submission)]
    return min(same, key=lambda entry: entry.submission.digest != submission.digest, default=None)


def _create(client: MlflowClient, experiment: str, submission: LoggedSubmission, upstream: str) -> str:
    tags = {
        EXPERIMENT: experiment,
        STAGE: SCORE_STAGE,
        "mlflow.source.name": "hubmap-ml",
        "mlflow.source.type": "LOCAL",
        **_tags(submission, upstream),
    }
    name = f"{SCORE_STAGE} · {submission.name}"
    run_id = str(client.create_run(experiment_id(client, experiment), run_name=name, tags=tags).info.run_id)
    _log_scores(client, run_id, submission)
    client.set_terminated(run_id)
    return run_id


def _complete(
    client: MlflowClient, known: LogEntry, submission: LoggedSubmission, correct: bool, upstream: str
) -> LogEntry:
    whole = known.submission.completed_by(submission, correct=correct)
    if whole == known.submission:
        return known
    _log_scores(client, known.run_id, whole, before=known.submission)
    tags = {**_tags(whole, upstream), "mlflow.runName": f"{SCORE_STAGE} · {whole.name}"}
    for key, text in tags.items():
        client.set_tag(known.run_id, key, text)
    return LogEntry(known.run_id, whole, "completed")


def _tags(submission: LoggedSubmission, upstream: str) -> dict[str, str]:
    texts = {
        PREFIX + key: without_credentials(text)
        for key, text in dataclasses.asdict(submission).items()
        if key not in SCORES and text
    }
    note = "\n\n".join(filter(None, (submission.in_words(), submission.note)))
    return {**texts, NOTE: without_credentials(note)} | ({UPSTREAM: upstream} if upstream else {})


def _log_scores(
    client: MlflowClient, run_id: str, submission: LoggedSubmission, before: LoggedSubmission | None = None
) -> None:
    now = int(time.time() * 1000)
    for name in SCORES:
        value = getattr(submission, name)
        if value is not None and (before is None or value != getattr(before, name)):
            client.log_metric(run_id, METRIC + name, value, timestamp=now)
