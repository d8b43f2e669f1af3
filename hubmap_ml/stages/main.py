"""`main`: the whole chain, from raw files to a registered ensemble and its submission, as nested runs of one parent.

Steps that need torch run in one long-lived worker; the others here. Nothing is started per step: a process costs
seconds. A step that a finished run answers, by its key, starts nothing and makes no run: it stands as a row in the
parent (`steps.json`). Here that holds for `submit` and `report` too, which always work when called by themselves.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hubmap_ml.data import PreparedData
from hubmap_ml.spec import ALL_DATA, Experiment, InputError, StageInputs
from hubmap_ml.stages import (
    ensemble,
    finetune,
    inputs,
    predict,
    prepare,
    pretrain,
    promote,
    pseudo_label,
    report,
    reuse,
    submit,
    tune,
    upstream,
)
from hubmap_ml.stages.running import name_of, once, running
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
    leak_level: str = ""
    test_leak_level: str = ""


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
    """Goes through the steps one after the other: what a finished run answers is not done again, nothing is started."""

    session: Session
    told: Callable[[Outcome], None]
    worker: TorchWorker
    done: list[Outcome] = field(default_factory=list)

    def here(
        self,
        wanted: StageInputs,
        function: Callable[..., Outcome],
        *arguments: Any,
        name: str = "",
        check: reuse.Check | None = None,
    ) -> Outcome:
        """Do a step in this process, unless a finished run with the wanted key stands (see `reuse.Check`)."""
        found = reuse.finished(self.session, wanted, name or wanted.stage, check)
        return self._keep(found or once(function, self.session, *arguments))

    def in_worker(
        self,
        wanted: StageInputs,
        function: Callable[..., Outcome],
        *arguments: Any,
        name: str = "",
        check: reuse.Check | None = None,
    ) -> Outcome:
        """Do a step in the worker, unless a finished run stands; the worker starts with the first that does not."""
        found = reuse.finished(self.session, wanted, name or wanted.stage, check)
        return self._keep(found or self.worker.call(once, function, self.session, *arguments))

    def _keep(self, outcome: Outcome) -> Outcome:
        self.done.append(outcome)
        self.told(outcome)
        log.debug("%s: %s", outcome.name, f"reused run {outcome.run_id}" if outcome.reused else "done")
        return outcome

    @property
    def reused(self) -> int:
        """How many steps an earlier run answered."""
        return sum(outcome.reused for outcome in self.done)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a step, for the parent."""
        keys = ("stage", "name", "run_id", "key", "reused", "verdict", "headline", "seconds")
        return [{key: getattr(outcome, key) for key in keys} for outcome in self.done]


def run(
    *,
    experiment: str = "demo",
    raw: str = "",
    set: str = "",
    workers: int = -1,
    device: str = "auto",
    fresh: bool = False,
    parent: str = "",
    told: Callable[[Outcome], None] | None = None,
    shown: Callable[[Chain], None] | None = None,
) -> Chain:
    """Run the whole chain of an experiment (the entry point; see `work`)."""
    session = open_session(
        experiment=experiment, raw=raw, set=set, workers=workers, device=device, fresh=fresh, parent=parent
    )
    return work(session, told or (lambda outcome: None), shown or (lambda chain: None))


def work(session: Session, told: Callable[[Outcome], None], shown: Callable[[Chain], None]) -> Chain:
    """Run every step of the chain; the last, `submit`, only where there is something to hand in.

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
        ensemble.check_fusion(session)
        client = at.run.client
        inner = session.nested_in(at.run.run_id)
        steps = _Steps(inner, told, worker)
        try:
            _, raw_digest = prepare.raw_folder(inner)
            steps.here(inputs.prepare(inner, raw_digest), prepare.work)
            prepared = upstream.prepared(inner)
            data = prepared.data
            at.run.identify(inputs.main(inner, prepared.digest))
            _check_pools(inner, data)
            for member in experiment.teachers_first():
                _train(inner, steps, member, data)
            for member in dict.fromkeys(experiment.recipe_of(member) for member in experiment.members):
                steps.here(inputs.tune(inner, member, data), tune.work, member, name=name_of("tune", member))
            standing = inputs.line(inner, data)
            steps.here(
                inputs.promote(inner, list(experiment.members), data),
                promote.work,
                check=lambda _, found: promote.brought_up_to_date(inner, client, standing, found),
            )
            fused = steps.here(
                ensemble.identity(inner, client, prepared),
                ensemble.work,
                check=lambda _, found: ensemble.brought_up_to_date(inner, client, standing, found),
            )
            submitted = None
            if submit.is_possible(inner, data):
                leads = fused.details["champion"] is not None
                model = "" if leads else f"models:/{ensemble.model_name(inner)}/{fused.details['version']}"
                version = submit.submitted_version(inner, client, model)
                submitted = steps.in_worker(
                    submit.identity(inner, version, data),
                    submit.work,
                    model,
                    "",
                    check=submit.brought_up_to_date,
                )
            shows = report.identity(inner, prepared, report.gather(inner, prepared))
            page = steps.here(shows, report.work, check=report.brought_up_to_date)
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
        at.recorder.data(steps.rows(), "steps.json")
        at.recorder.metrics({"steps/all": len(steps.done), "steps/reused": steps.reused}, step=0)
        took = f"{len(steps.done)} steps in {time.monotonic() - started:.0f} s, {steps.reused} reused"
        outcome = at.finish(f"{page.verdict}; {took}", headline=page.headline)
        handed_in = submitted.details if submitted else {}
        file = str(handed_in.get("file", ""))
        chain = Chain(outcome, rows, steps.done, str(page.details["page"]), file)
        shown(chain)
        require_floor(experiment, handed_in.get("test_score"))
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


def _check_pools(session: Session, data: PreparedData) -> None:
    """Refuse, before any training, images that must not be labelled for a student's fold."""
    for name, member in session.experiment.members.items():
        labels = None if member.pretrain is None else member.pretrain.pseudo
        if labels is not None:
            for fold in session.experiment.folds_of(name):
                pseudo_label.checked_pool(session, labels, fold, data)


def _train(session: Session, steps: _Steps, member: str, data: PreparedData) -> None:
    """Train a member on its folds, and predict; stage 1 once where its data does not depend on the fold.

    What was made elsewhere is only taken in.
    """
    made: set[str] = set()
    if session.experiment.members[member].is_predictions:
        wanted = inputs.predict(session, member, ALL_DATA, data)
        steps.here(wanted, predict.work, member, ALL_DATA, name=name_of("predict", member, ALL_DATA))
        return
    for fold in session.experiment.folds_of(member):
        stage_1 = session.experiment.members[member].pretrain
        if stage_1 is not None:
            labels = stage_1.pseudo
            if labels is not None:
                taught = inputs.pseudo_label(session, labels, fold, data)
                if taught.key not in made:
                    name = name_of("pseudo_label", None, fold, labels)
                    steps.in_worker(taught, pseudo_label.work, labels, fold, name=name)
                    made.add(taught.key)
            start = inputs.pretrain(session, member, fold, data)
            if start.key not in made:
                steps.in_worker(start, pretrain.work, member, fold, name=name_of("pretrain", member))
                made.add(start.key)
        wanted = inputs.finetune(session, member, fold, data)
        steps.in_worker(wanted, finetune.work, member, fold, name=name_of("finetune", member, fold))
        wanted = inputs.predict(session, member, fold, data)
        steps.in_worker(wanted, predict.work, member, fold, name=name_of("predict", member, fold))
