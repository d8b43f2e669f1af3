"""The frame around a stage's work: its run, its wall time and what it reports back."""

import dataclasses
import errno
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hubmap_ml.spec import ALL_DATA, DoneElsewhere, InputError, StageInputs
from hubmap_ml.stages import reuse
from hubmap_ml.stages.session import Outcome, Session
from hubmap_ml.tracking import (
    REPRODUCES,
    StageRun,
    get_run,
    memory,
    open_store,
    resolved_spec,
    stage_run,
    work_folder,
)


class Running:
    """A stage at work: its run, and how it ends: with an outcome of its own, or with that of an earlier run."""

    def __init__(self, session: Session, run: StageRun, stage: str, name: str) -> None:
        self.session = session
        self.run = run
        self._stage = stage
        self._name = name
        self._started = time.monotonic()

    @property
    def recorder(self) -> Any:
        """The run's recorder."""
        return self.run.recorder

    def reuse(self, wanted: StageInputs, check: reuse.Check | None = None) -> Outcome | None:
        """Look for a finished run with these inputs, now that they are known.

        Where there is one, this run ends as its stand-in, and the stage returns what is returned here.

        Args:
            wanted: the inputs of this stage.
            check: see `reuse.Check`.
        """
        found = reuse.finished(self.session, wanted, self._name, check)
        if found is None:
            return None
        self.run.stand_in_for(found.run_id, wanted, found.verdict, found.headline)
        return dataclasses.replace(found, seconds=time.monotonic() - self._started)

    def finish(
        self, verdict: str, *, headline: float | None = None, details: Mapping[str, Any] | None = None
    ) -> Outcome:
        """Set the verdict (the first line of the run's note), build the outcome and keep it for whoever reuses it."""
        self.run.say(verdict, headline)
        outcome = Outcome(
            stage=self._stage,
            name=self._name,
            run_id=self.run.run_id,
            key=self.run.key,
            verdict=verdict,
            seconds=time.monotonic() - self._started,
            peak_mib=memory.peak_mib(),
            headline=headline,
            details=dict(details or {}),
        )
        self.recorder.data(reuse.to_data(outcome), reuse.OUTCOME)
        return outcome


def name_of(stage: str, member: str | None = None, fold: int | None = None, subject: str = "") -> str:
    """Return how a step is called: ``finetune · htc · fold 1``."""
    which = {None: "", ALL_DATA: "all data"}.get(fold, f"fold {fold}")
    words = [stage, *filter(None, (member, which, subject))]
    return " · ".join(str(word) for word in words)


@contextmanager
def running(
    session: Session, stage: str, *, member: str | None = None, fold: int | None = None, subject: str = ""
) -> Iterator[Running]:
    """Open a stage's run, named like ``finetune · htc · fold 1``, with the resolved experiment kept in it."""
    name = name_of(stage, member, fold, subject)
    tags: dict[str, object] = {}
    if member is not None:
        tags["hubmap.member"] = member
    if fold is not None:
        tags["hubmap.fold"] = fold
    if session.reproduces:
        tags[REPRODUCES] = session.reproduces
    with stage_run(
        experiment=session.experiment.name, stage=stage, name=name, parent=session.parent, tags=tags
    ) as run:
        resolved_spec(run, session.experiment.model_dump(mode="json"))
        run.recorder.params(
            {"experiment": session.experiment.name, "seed": session.experiment.seed}
            | (
                {"set": ";".join(f"{key}={value}" for key, value in session.overrides.items())}
                if session.overrides
                else {}
            )
        )
        try:
            yield Running(session, run, stage, name)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            where = error.filename or work_folder()
            raise InputError(
                f"no free disk while running {name} ({where}): free some and run it again"
            ) from error


def once(function: Callable[..., Outcome], *arguments: Any) -> Outcome:
    """Run a stage; where another process did the same meanwhile, return what that one reported."""
    started = time.monotonic()
    try:
        return function(*arguments)
    except DoneElsewhere as done:
        run = get_run(open_store(), done.run_id)
        outcome = reuse.reported(run, run.tags.get("hubmap.stage", ""), run.tags.get("mlflow.runName", ""))
        if outcome is None:
            raise
        return dataclasses.replace(outcome, verdict=str(done), seconds=time.monotonic() - started)
