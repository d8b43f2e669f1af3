"""`main`: the whole chain, from raw files to a registered ensemble and its submission, as nested runs of one parent.

Steps that need torch run in one long-lived worker; the others here. Nothing is started per step: a process costs
seconds.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hubmap_ml.spec import Experiment, InputError
from hubmap_ml.stages import (
    ensemble,
    finetune,
    inputs,
    predict,
    prepare,
    pretrain,
    promote,
    report,
    submit,
    tune,
    upstream,
)
from hubmap_ml.stages.running import once, running
from hubmap_ml.stages.session import Outcome, Session, open_session
from hubmap_ml.stages.worker import TorchWorker
from hubmap_ml.tracking import end_children

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """One line of the final table."""

    name: str
    out_of_fold: float | None
    cross_fitted: float | None
    hidden_test: float | None
    seconds: float
    peak_mib: float
    badge: str = ""


@dataclass(frozen=True)
class Chain:
    """What `main` reports: the parent's outcome, the final table and every step in order."""

    outcome: Outcome
    rows: Sequence[Row]
    steps: Sequence[Outcome]
    report: str = ""
    submission: str = ""


@dataclass
class _Steps:
    """Runs steps one after the other and remembers their outcomes."""

    told: Callable[[Outcome], None]
    worker: TorchWorker
    done: list[Outcome] = field(default_factory=list)

    def here(self, function: Callable[..., Outcome], *arguments: Any) -> Outcome:
        return self._keep(once(function, *arguments))

    def in_worker(self, function: Callable[..., Outcome], *arguments: Any) -> Outcome:
        return self._keep(self.worker.call(once, function, *arguments))

    def _keep(self, outcome: Outcome) -> Outcome:
        self.done.append(outcome)
        self.told(outcome)
        return outcome


def run(
    *,
    experiment: str = "demo",
    raw: str = "",
    set: str = "",
    workers: int = -1,
    device: str = "auto",
    parent: str = "",
    told: Callable[[Outcome], None] | None = None,
    shown: Callable[[Chain], None] | None = None,
) -> Chain:
    """Run the whole chain of an experiment (the entry point; see `work`)."""
    session = open_session(
        experiment=experiment, raw=raw, set=set, workers=workers, device=device, parent=parent
    )
    return work(session, told or (lambda outcome: None), shown or (lambda chain: None))


def work(session: Session, told: Callable[[Outcome], None], shown: Callable[[Chain], None]) -> Chain:
    """Run every step of the chain.

    Args:
        session: experiment and settings.
        told: called with each step's outcome as it ends.
        shown: called with the whole at the end, before an ensemble under the floor fails it.

    Raises:
        InputError: bad input in any step, or an ensemble under ``min_ensemble_test_score``.
    """
    experiment = session.experiment
    started = time.monotonic()
    with running(session, "main", subject=experiment.name) as at, TorchWorker() as worker:
        session.check_members()
        inner = session.nested_in(at.run.run_id)
        steps = _Steps(told, worker)
        try:
            steps.here(prepare.work, inner)
            prepared = upstream.prepared(inner)
            at.run.identify(inputs.main(inner, prepared.digest))
            for member in experiment.members:
                _train(inner, steps, member, prepared)
            for member in experiment.members:
                steps.here(tune.work, inner, member)
            steps.here(promote.work, inner, worker)
            steps.here(ensemble.work, inner)
            submitted = steps.in_worker(submit.work, inner, "", "")
            page = steps.here(report.work, inner)
        except BaseException as error:
            end_children(at.run.client, at.run.run_id, f"ended with its parent: {error}")
            raise
        rows = [Row(**row) for row in page.details["rows"]]
        for row in rows:
            at.recorder.metrics(
                {
                    f"{row.name}/{key}": value
                    for key in ("out_of_fold", "cross_fitted", "hidden_test")
                    if (value := getattr(row, key)) is not None
                },
                step=0,
            )
        at.recorder.data([row.__dict__ for row in rows], "table.json")
        took = f"{len(steps.done)} steps in {time.monotonic() - started:.0f} s"
        outcome = at.finish(f"{page.verdict}; {took}", headline=page.headline)
        chain = Chain(outcome, rows, steps.done, str(page.details["page"]), str(submitted.details["file"]))
        shown(chain)
        require_floor(experiment, submitted.details.get("test_score"))
    return chain


def require_floor(experiment: Experiment, score: float | None) -> None:
    """Refuse an ensemble whose score on the hidden test is under what the experiment asks for.

    Raises:
        InputError: it is, or the experiment asks for a score and there is no hidden truth to tell.
    """
    floor = experiment.min_ensemble_test_score
    if floor is None:
        return
    if score is None or not score >= floor:
        found = "has no hidden test" if score is None else f"scores {score:.3f} on the hidden test"
        raise InputError(
            f"the ensemble {found}, and experiment {experiment.name!r} asks for {floor} (min_ensemble_test_score)"
        )


def _train(session: Session, steps: _Steps, member: str, prepared: upstream.Prepared) -> None:
    """Train a member on its folds, and predict; stage 1 once where its data does not depend on the fold."""
    made: set[int | None] = set()
    for fold in session.experiment.folds_of(member):
        if session.experiment.members[member].pretrain is not None:
            without = upstream.pretrain_fold(session, member, fold, prepared.data)
            if without not in made:
                steps.in_worker(pretrain.work, session, member, fold)
                made.add(without)
        steps.in_worker(finetune.work, session, member, fold)
        steps.in_worker(predict.work, session, member, fold)
