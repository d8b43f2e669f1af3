"""`score`: submissions and what they scored, by hand, from a table, or as `submit` makes them; and their page."""

import dataclasses
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubmap_ml.ensembling import HEADLINE_TAG
from hubmap_ml.metrics import ScoreLogFindings, read_score_log
from hubmap_ml.spec import Experiment, InputError, LoggedSubmission, load_experiment
from hubmap_ml.stages.file_digests import digest_of_file
from hubmap_ml.stages.session import find_experiment
from hubmap_ml.submission import read_score_table
from hubmap_ml.tracking import (
    LogEntry,
    StageRun,
    Version,
    log_submission,
    log_submissions,
    logged_submissions,
    open_store,
)
from hubmap_ml.viz import write_score_page

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Imported:
    """What a table left in the log.

    Attributes:
        entries: one of each row, in order.
        left_out: columns that mean nothing here.
    """

    entries: tuple[LogEntry, ...]
    left_out: tuple[str, ...]

    def count(self, change: str) -> int:
        """How many rows were added, completed or known."""
        return sum(entry.change == change for entry in self.entries)


def add(
    file: Path | None, *, experiment: str = "demo", name: str = "", correct: bool = False, **facts: Any
) -> LogEntry:
    """Log a submission, or complete the entry of the same file.

    Args:
        file: what was handed in; None where it is gone, and ``name`` tells the submission.
        experiment: see `log_name`.
        name: what to call it; by default what the log calls this file, or the file's name with its digest.
        correct: let facts be replaced.
        facts: further fields of ``LoggedSubmission``.

    Raises:
        InputError: neither file nor name, no such file, a contradiction, or nothing known of it.
    """
    client, log_of = open_store(), log_name(experiment)
    if file is not None:
        if not file.is_file():
            raise InputError(
                f"{file}: no such file; give the csv that was handed in, or --name without a file"
            )
        facts["digest"] = digest_of_file(file)
        known = _of_file(client, log_of, facts["digest"])
        name = name or (known.name if known else f"{file.name} {facts['digest'][:8]}")
    return log_submission(client, log_of, LoggedSubmission(name=name, **facts), correct=correct)


def import_table(table: Path, *, experiment: str = "demo", correct: bool = False, **same: Any) -> Imported:
    """Log every row of a csv or Markdown table; rows that are in the log are completed.

    Args:
        table: see ``submission.read_score_table``.
        same: fields that all rows have where their own cell says nothing (``cv_metric``, ``folds``, …).

    Raises:
        InputError: as ``read_score_table``, with nothing logged; a row contradicts the log, with the rows before it
            logged.
    """
    found = read_score_table(table)
    defaults = LoggedSubmission("of all", **same)
    rows = [defaults.completed_by(one, correct=True) for one in found.submissions]
    client, log_of = open_store(), log_name(experiment)
    entries = log_submissions(client, log_of, rows, correct=correct)
    return Imported(tuple(entries), found.left_out)


def entries_of(experiment: str = "demo") -> list[LogEntry]:
    """Return an experiment's log, oldest first."""
    return logged_submissions(open_store(), log_name(experiment))


def page(out: Path, *, experiment: str = "demo") -> ScoreLogFindings:
    """Write the page about an experiment's log, and return what it says.

    Raises:
        InputError: the log is empty.
    """
    entries = entries_of(experiment)
    if not entries:
        raise InputError(
            f"no submission of {log_name(experiment)!r} is in the log; add one with 'hubmap-ml score add' or 'import'"
        )
    findings = read_score_log([entry.submission for entry in entries])
    write_score_page(
        out, findings, title=f"{log_name(experiment)}: submissions", generated=time.strftime("%Y-%m-%d %H:%M")
    )
    return findings


def log_name(experiment: str) -> str:
    """Return the experiment whose log is meant: a plain name as it is, a file or folder by what it says.

    Raises:
        InputError: a file or folder that is no experiment.
    """
    if "/" not in experiment and not experiment.endswith((".yaml", ".yml")):
        return experiment
    return load_experiment(find_experiment(experiment)).name


def log_own(run: StageRun, experiment: Experiment, file: Path, version: Version | None) -> None:
    """Log what `submit` has just written; a log that cannot be written fails no submission.

    Args:
        run: of the submission.
        file: the csv.
        version: what predicted it, where it was a registered version; its cross-validation is the entry's.
    """
    headline = version.tags.get(HEADLINE_TAG) if version else None
    digest = digest_of_file(file)
    known = _of_file(run.client, experiment.name, digest)
    submission = LoggedSubmission(
        name=known.name if known else f"{version.uri if version else 'stored predictions'} {digest[:8]}",
        digest=digest,
        model=version.uri if version else "",
        cv=float(headline) if headline is not None else None,
        cv_metric=experiment.metric if headline is not None else "",
        folds=fold_scheme(experiment) if headline is not None else "",
        leaderboard_metric=experiment.metric,
        date=known.date if known else time.strftime("%Y-%m-%d"),
    )
    try:
        log_submission(run.client, experiment.name, submission, upstream=run.run_id)
    except InputError as error:
        log.warning("the score log does not have it: %s", error)


def _of_file(client: Any, experiment: str, digest: str) -> LoggedSubmission | None:
    """Return what the log has of a file."""
    for entry in logged_submissions(client, experiment):
        if entry.submission.digest == digest:
            return entry.submission
    return None


def fold_scheme(experiment: Experiment) -> str:
    """Return how the experiment's folds are made, in a few words."""
    folds = experiment.data.folds
    words = [f"{folds.n} folds", folds.method.replace("_", " "), f"by {folds.by}"]
    return " ".join([*words, *([f"seed {folds.seed}"] if folds.seed is not None else [])])


def to_data(entries: Sequence[LogEntry]) -> list[dict[str, Any]]:
    """Return entries as JSON-able data."""
    return [
        {"run_id": entry.run_id, "change": entry.change, **dataclasses.asdict(entry.submission)}
        for entry in entries
    ]
