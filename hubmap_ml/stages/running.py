"""The frame around a stage's work: its run, its wall time and what it reports back."""

import errno
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hubmap_ml.spec import DoneElsewhere, InputError
from hubmap_ml.stages.session import Outcome, Session
from hubmap_ml.tracking import StageRun, get_run, memory, open_store, resolved_spec, stage_run, work_folder


class Running:
    """A stage at work: its run, and the outcome once `finish` was called."""

    def __init__(self, session: Session, run: StageRun, stage: str, name: str) -> None:
        self.session = session
        self.run = run
        self._stage = stage
        self._name = name
        self._started = time.monotonic()
        self._outcome: Outcome | None = None

    @property
    def recorder(self) -> Any:
        """The run's recorder."""
        return self.run.recorder

    def finish(
        self, verdict: str, *, headline: float | None = None, details: Mapping[str, Any] | None = None
    ) -> Outcome:
        """Set the verdict (the first line of the run's note) and build the outcome."""
        self.run.say(verdict, headline)
        self._outcome = Outcome(
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
        return self._outcome


@contextmanager
def running(
    session: Session, stage: str, *, member: str | None = None, fold: int | None = None, subject: str = ""
) -> Iterator[Running]:
    """Open a stage's run, named like ``finetune · htc · fold 1``, with the resolved experiment kept in it."""
    words = [stage, *filter(None, (member, None if fold is None else f"fold {fold}", subject))]
    name = " · ".join(str(word) for word in words)
    tags: dict[str, object] = {}
    if member is not None:
        tags["hubmap.member"] = member
    if fold is not None:
        tags["hubmap.fold"] = fold
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
    """Run a stage; where another process did the same meanwhile, return its outcome."""
    started = time.monotonic()
    try:
        return function(*arguments)
    except DoneElsewhere as done:
        run = get_run(open_store(), done.run_id)
        return Outcome(
            stage=run.tags.get("hubmap.stage", ""),
            name=run.tags.get("mlflow.runName", ""),
            run_id=done.run_id,
            key=run.key,
            verdict=str(done),
            seconds=time.monotonic() - started,
            peak_mib=memory.peak_mib(),
            headline=done.headline,
        )
