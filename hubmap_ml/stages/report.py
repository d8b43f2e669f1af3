"""`report`: one page about an experiment, a member, the ensemble or a run, made of what the other stages kept."""

import dataclasses
from typing import Any

from hubmap_ml.spec import InputError, StageInputs, config_changes, experiment_from_data
from hubmap_ml.stages import inputs, upstream
from hubmap_ml.stages.record import document, prepared_for
from hubmap_ml.stages.report_evidence import Evidence, evidence_on, galleries_of
from hubmap_ml.stages.report_lines import Gathered, of_experiment, of_run
from hubmap_ml.stages.report_page import environment_of, notes_on
from hubmap_ml.stages.report_subject import Subject, examine, page_about
from hubmap_ml.stages.running import Running, running
from hubmap_ml.stages.session import Outcome, Session, open_session
from hubmap_ml.tracking import FoundRun, follow, open_store, run_named
from hubmap_ml.viz import Gallery, ReportBeside, write_beside, write_page

PAGE = "report.html"


def run(
    *,
    experiment: str = "demo",
    raw: str = "",
    member: str = "",
    run: str = "",
    against: str = "",
    fresh: bool = False,
    parent: str = "",
) -> Outcome:
    """Write a report (the entry point; see `work`).

    Args:
        experiment: whose.
        raw: folder of raw files in place of the experiment's own.
        member: one of its members, or ``ensemble``; by default the whole experiment.
        run: a run's id, or a unique beginning of one; the experiment is then the run's own.
        against: a second experiment to set beside the first; with ``run`` a second run.
        fresh, parent: as for every stage.

    Raises:
        InputError: both a member and a run are named, or what is named has nothing to report.
    """
    if run and member:
        raise InputError("report: name a member or a run, not both")
    if not run:
        session = open_session(experiment=experiment, raw=raw, fresh=fresh, parent=parent)
        return work(session, member, against=against)
    subject = _named(run)
    where = f"experiment.json of run {subject.run_id[:12]}"
    session = Session(
        experiment_from_data(document(subject, "experiment.json"), where), {}, 0, "auto",
        parent=parent, words={"run": subject.run_id},
    )  # fmt: skip
    return work(session, run=subject, against=against)


def work(session: Session, member: str = "", *, run: FoundRun | None = None, against: str = "") -> Outcome:
    """Gather scores of members and ensemble, and write the page as the run's artifact ``report.html``.

    Args:
        session: experiment and settings.
        member: what the page is about; by default the whole experiment.
        run: the page is about this run instead.
        against: see `run`.
    """
    about = member if run is None else run.tags.get("mlflow.runName", run.run_id[:12])
    with running(session, "report", subject=about) as at:
        if run is None:
            prepared = upstream.prepared(session)
            gathered = gather(session, prepared, member)
            subject = Subject(session.experiment, gathered, prepared.data)
            wanted = identity(session, prepared, gathered, member)
        else:
            subject = _of_run(session, run)
            keys = tuple(one.key for one in subject.gathered.chain)
            wanted = StageInputs("report", {"run": run.run_id}, keys, subject.digest)
        other = None if not against else _other(session, run, against)
        runs = [one.run_id for one in subject.gathered.chain]
        if other is not None:
            keys = tuple(one.key for one in other.gathered.chain)
            values = {**wanted.values, "against": [other.experiment.name, *keys]}
            wanted = StageInputs("report", values, wanted.upstream, wanted.data_digest)
            runs += [one.run_id for one in other.gathered.chain if one.run_id not in runs]
        at.run.identify(wanted, upstream_runs=runs)
        return _alone(at, subject) if other is None else _beside(at, subject, other)


def gather(session: Session, prepared: upstream.Prepared, member: str = "") -> Gathered:
    """Find the runs that the report shows.

    Raises:
        InputError: there is nothing to report.
    """
    return of_experiment(session, prepared, member)


def identity(
    session: Session, prepared: upstream.Prepared, gathered: Gathered, member: str = ""
) -> StageInputs:
    """Return the inputs of a report of these runs."""
    badges = {line.name: line.badge for line in gathered.lines}
    return inputs.report(session, [run.key for run in gathered.chain], prepared.data, badges, member)


def brought_up_to_date(found: FoundRun, outcome: Outcome) -> Outcome:
    """Return what an earlier report said, with its page where it lies today."""
    return dataclasses.replace(outcome, details={**outcome.details, "page": str(found.artifact(PAGE))})


def _named(name: str) -> FoundRun:
    return follow(run_named(open_store(), name))


def _of_run(session: Session, run: FoundRun) -> Subject:
    gathered = of_run(run)
    try:
        data = prepared_for(gathered.chain[-1])
    except InputError:  # what it came from is gone; what it said itself is still there
        data = None
    return Subject(session.experiment, gathered, data, run)


def _other(session: Session, run: FoundRun | None, against: str) -> Subject:
    """Return the second subject: an experiment, or beside a run another run."""
    if run is not None:
        found = _named(against)
        where = f"experiment.json of run {found.run_id[:12]}"
        experiment = experiment_from_data(document(found, "experiment.json"), where)
        return _of_run(dataclasses.replace(session, experiment=experiment), found)
    other = open_session(experiment=against)
    prepared = upstream.prepared(other)
    return Subject(other.experiment, gather(other, prepared), prepared.data)


def _alone(at: Running, subject: Subject) -> Outcome:
    findings = examine(subject)
    environment = environment_of(at.run.found(), data=subject.digest, seed=subject.experiment.seed)
    page = write_page(at.recorder.folder / PAGE, page_about(subject, findings, at.run.client, environment))
    first = subject.gathered.first
    headline = first.believable if first is not None else None
    return _kept(at, page, findings.verdict, headline, findings.rows(subject.gathered))


def _beside(at: Running, one: Subject, other: Subject) -> Outcome:
    """Write two subjects beside each other, their first lines compared on the images that both know."""
    subjects = (one, other)
    findings = [examine(subject) for subject in subjects]
    evidence, galleries = _compared(one, other)
    verdict = "; ".join(found.verdict for found in findings)
    if evidence.errors is not None and evidence.errors.comparison.gains:
        verdict = evidence.errors.comparison.gains[0].in_words()
    environment = environment_of(at.run.found(), data=one.digest, seed=one.experiment.seed)
    left, right = (
        page_about(subject, found, at.run.client, environment, pictures=False)
        for subject, found in zip(subjects, findings, strict=True)
    )
    specs = [subject.experiment.model_dump(mode="json") for subject in subjects]
    changes = [(item.path, item.before, item.after) for item in config_changes(specs[0], specs[1])]
    page = write_beside(
        at.recorder.folder / PAGE,
        ReportBeside(left, right, verdict, evidence.errors, galleries, changes, evidence.words),
    )
    rows = [
        row for subject, found in zip(subjects, findings, strict=True) for row in found.rows(subject.gathered)
    ]
    return _kept(at, page, verdict, None, rows)


def _compared(one: Subject, other: Subject) -> tuple[Evidence, list[Gallery]]:
    """Compare the first lines of two subjects, with the tiles that cost each of them most."""
    lines = [subject.gathered.first for subject in (one, other)]
    names = [
        _of(subject, line.name) for subject, line in zip((one, other), lines, strict=True) if line is not None
    ]
    known = [line for line in lines if line is not None]
    if len(known) < 2 or one.data is None or other.data is None:
        return Evidence(None, {}, ("One of the two has no score: nothing is compared.",)), []
    metric = one.experiment.metric
    if len(set(names)) == 1:
        names = [f"{name} ({k})" for k, name in enumerate(names, start=1)]
    evidence = evidence_on(known, one.data.annotations, metric, one.experiment.seed, names=names)
    words = list(evidence.words)
    if metric != other.experiment.metric:
        words.append(
            f"Their metrics are {metric} and {other.experiment.metric}: both are scored by {metric} here."
        )
    if one.digest != other.digest:
        words.append("They were made with different data: both are scored against the first one's truths.")
    galleries = []
    if evidence.errors is not None:
        for subject, line, name, worst in zip((one, other), known, names, evidence.errors.worst, strict=True):
            assert subject.data is not None
            ids = [image.id for image in worst]
            named = dataclasses.replace(line, name=name)
            galleries += galleries_of(named, subject.data, metric, ids, notes_on(worst))[:1]
    return dataclasses.replace(evidence, words=tuple(words)), galleries


def _of(subject: Subject, name: str) -> str:
    return name if name.startswith(subject.experiment.name) else f"{subject.experiment.name}: {name}"


def _kept(
    at: Running, page: Any, verdict: str, headline: float | None, rows: list[dict[str, Any]]
) -> Outcome:
    at.recorder.artifact(page)
    at.recorder.metrics({"page/megabytes": page.stat().st_size / 1e6}, step=0)
    details = {"page": str(at.run.found().artifact(PAGE)), "rows": rows}
    return at.finish(verdict, headline=headline, details=details)
