"""`report`: one page with the final table, the chain and overlays, made of what the other stages kept."""

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from hubmap_ml.data import PreparedData, read_image
from hubmap_ml.ensembling import KNOWS_TEST_TAG, LINE_TAG, PREDICTIONS_ONLY_TAG
from hubmap_ml.instances import Annotations, Instances, PredictionSet, read_predictions
from hubmap_ml.metrics import evaluate
from hubmap_ml.postprocess import apply_steps, parse_steps
from hubmap_ml.spec import InputError, StageInputs
from hubmap_ml.stages import ensemble, inputs, promote, upstream
from hubmap_ml.stages.candidates import on_test_images
from hubmap_ml.stages.champion import OUT_OF_FOLD
from hubmap_ml.stages.generations import generation_tags
from hubmap_ml.stages.generations import in_words as generation_in_words
from hubmap_ml.stages.leaks import TEST_LEAK_TAG, leak_tags
from hubmap_ml.stages.leaks import in_words as leak_in_words
from hubmap_ml.stages.running import running
from hubmap_ml.stages.session import Outcome, Session, open_session
from hubmap_ml.stages.study_record import believable, in_words
from hubmap_ml.stages.submit import PREDICTIONS
from hubmap_ml.stages.tune import read_study
from hubmap_ml.tracking import CHAMPION, PROMOTED, FoundRun, by_alias, open_store, search, versions
from hubmap_ml.viz import ReportData, ReportFigure, ReportRow, ReportStage, truth_and_prediction, write_page

PAGE = "report.html"
PICTURES = 6
_NOT_FIGURES = ("runs", "kind", "declared")
METRIC_WORDS = {
    "ap60": "average precision at mask IoU 0.6",
    "coco_segm": "COCO's mean AP of masks",
    "dice": "Dice of the union of instances, mean over images",
    "dsb_map": "the Data Science Bowl's mean of TP / (TP + FP + FN) over mask IoUs",
}


@dataclass(frozen=True)
class _Line:
    """One line of the table, with the runs behind it."""

    name: str
    kind: str
    out_of_fold: float
    cross_fitted: float | None
    hidden_test: float | None
    badge: str
    leak_level: str
    test_leak_level: str
    runs: Sequence[FoundRun]
    declared: bool = False

    @property
    def leaks(self) -> str:
        """The leak level in words, and where there is a score on the hidden test, that score's."""
        hidden = "" if self.hidden_test is None else f", {self.test_leak_level} on the hidden test"
        declared = " (declared, not measured)" if self.declared else ""
        return f"leak level {self.leak_level}{hidden}{declared}"

    @property
    def seconds(self) -> float:
        return sum(run.metrics.get("time/seconds", 0.0) for run in self.runs)

    @property
    def peak_mib(self) -> float:
        return max((run.metrics.get("system/peak_memory_mib", 0.0) for run in self.runs), default=0.0)


@dataclass(frozen=True)
class _Member:
    """A tuned member: its registered name, its study, its predictions, and all runs behind them."""

    name: str
    tuned: FoundRun
    predicted: Sequence[FoundRun]
    badge: str
    runs: Sequence[FoundRun]
    declared: bool


@dataclass(frozen=True)
class Gathered:
    """What a report shows, found before anything is computed."""

    members: Sequence[_Member]
    fused: _Line | None
    submitted: FoundRun | None
    chain: Sequence[FoundRun]


def run(*, experiment: str = "demo", raw: str = "", fresh: bool = False, parent: str = "") -> Outcome:
    """Write the report of an experiment (the entry point; see `work`)."""
    return work(open_session(experiment=experiment, raw=raw, fresh=fresh, parent=parent))


def work(session: Session) -> Outcome:
    """Gather scores of members and ensemble, and write the page as the run's artifact ``report.html``."""
    experiment = session.experiment
    with running(session, "report") as at:
        prepared = upstream.prepared(session)
        truth = upstream.hidden_truth(prepared.data)
        gathered = gather(session, prepared)
        fused, submitted, chain = gathered.fused, gathered.submitted, gathered.chain
        at.run.identify(identity(session, prepared, gathered), upstream_runs=[run.run_id for run in chain])
        lines = [_line(session, member, truth) for member in gathered.members]
        lines += [fused] if fused else []
        best = max(lines, key=lambda line: believable(line.cross_fitted, line.out_of_fold))
        verdict = (
            f"{(fused or best).name}: {experiment.metric} "
            f"{in_words((fused or best).cross_fitted, (fused or best).out_of_fold)}"
            + (
                ""
                if not fused or fused.hidden_test is None
                else f", {fused.hidden_test:.3f} on the hidden test"
            )
            + f"; {(fused or best).leaks}"
        )
        page = write_page(
            at.recorder.folder / PAGE,
            ReportData(
                title=experiment.name,
                verdict=verdict,
                metric=experiment.metric,
                rows=[
                    ReportRow(
                        line.name,
                        line.kind,
                        line.out_of_fold,
                        line.cross_fitted,
                        line.hidden_test,
                        line.seconds,
                        line.badge,
                        line.leaks,
                    )
                    for line in lines
                ],
                stages=[
                    ReportStage(
                        run.tags.get("mlflow.runName", ""),
                        run.metrics.get("time/seconds"),
                        "finished",
                        run.tags.get("mlflow.note.content", "").splitlines()[0],
                    )
                    for run in chain
                ],
                figures=_figures(prepared.data, fused, submitted, truth),
                how_scored=_how_scored(session, truth is not None),
                environment={
                    "commit": at.run.found().tags.get("mlflow.source.git.commit", "unknown")[:12],
                    "data": prepared.digest[:12],
                    "seed": str(experiment.seed),
                },
                generated=time.strftime("%Y-%m-%d %H:%M"),
            ),
        )
        at.recorder.artifact(page)
        rows = [
            {
                **{key: value for key, value in asdict(line).items() if key not in _NOT_FIGURES},
                "seconds": line.seconds,
                "peak_mib": line.peak_mib,
            }
            for line in lines
        ]
        return at.finish(
            verdict,
            headline=believable((fused or best).cross_fitted, (fused or best).out_of_fold),
            details={"page": str(at.run.found().artifact(PAGE)), "rows": rows},
        )


def gather(session: Session, prepared: upstream.Prepared) -> Gathered:
    """Find the runs that the report shows.

    Raises:
        InputError: no member is tuned yet.
    """
    members = [
        found for member in session.experiment.members if (found := _member(session, member, prepared))
    ]
    fused, submitted = _ensemble(session, prepared)
    if not members and not fused:
        raise InputError(
            f"experiment {session.experiment.name!r} has no tuned member yet: there is nothing to report"
        )
    runs = [run for member in members for run in member.runs]
    chain = _distinct([prepared.run, *runs, *(fused.runs if fused else ())])
    return Gathered(members, fused, submitted, chain)


def identity(session: Session, prepared: upstream.Prepared, gathered: Gathered) -> StageInputs:
    """Return the inputs of a report of these runs."""
    badges = {member.name: member.badge for member in gathered.members}
    if gathered.fused:
        badges[gathered.fused.name] = gathered.fused.badge
    return inputs.report(session, [run.key for run in gathered.chain], prepared.data, badges)


def brought_up_to_date(found: FoundRun, outcome: Outcome) -> Outcome:
    """Return what an earlier report said, with its page where it lies today."""
    return dataclasses.replace(outcome, details={**outcome.details, "page": str(found.artifact(PAGE))})


def _member(session: Session, member: str, prepared: upstream.Prepared) -> _Member | None:
    session = dataclasses.replace(session, with_upstream=False)
    try:
        tuned = upstream.tuned(session, member, prepared)
        predicted = upstream.predictions_of(session, member, prepared)
    except InputError:
        return None
    runs: list[FoundRun] = []
    for fold in session.experiment.folds_of(member):
        with contextlib.suppress(InputError):  # a training may be gone while what was made of it is there
            taught = upstream.pseudo_labelled(session, member, fold, prepared)
            runs += [taught] if taught else []
            start = upstream.pretrained(session, member, fold, prepared)
            runs += [start] if start else []
        with contextlib.suppress(InputError):
            runs.append(upstream.finetuned(session, member, fold, prepared))
    learnt = generation_in_words(generation_tags([run.tags for run in runs]))
    badge = ""
    try:
        alias = by_alias(open_store(), promote.model_name(session, member), PROMOTED)
        badge = f"promoted v{alias.number}"
    except InputError:
        badge = "not promoted"
    shown = _distinct([*runs, *predicted, tuned])
    recipe = session.experiment.recipe_of(member)
    if recipe != member:
        badge += f", trained on all data: out-of-fold scores by proxy of {recipe}"
    badge += f", learnt from {learnt}" if learnt else ""
    declared = session.experiment.members[member]
    if declared.kind == "external":
        badge += ", made elsewhere"
    return _Member(
        promote.model_name(session, member), tuned, predicted, badge, shown, declared.is_predictions
    )


def _line(session: Session, member: _Member, truth: Annotations | None) -> _Line:
    study = read_study(member.tuned)
    hidden = None
    if truth is not None and not any(run.tags.get(KNOWS_TEST_TAG) == "false" for run in member.predicted):
        found = apply_steps(
            on_test_images(member.predicted, session.experiment.merge_iou), parse_steps(study["best_steps"])
        )
        hidden = evaluate(session.experiment.metric, truth, found).value
    return _Line(
        member.name,
        "member",
        study["value"],
        study["cross_fitted"],
        hidden,
        member.badge,
        leak_in_words(member.tuned.tags),
        leak_in_words(leak_tags(member.predicted), tag=TEST_LEAK_TAG),
        member.runs,
        member.declared,
    )


def _ensemble(session: Session, prepared: upstream.Prepared) -> tuple[_Line | None, FoundRun | None]:
    """Return the ensemble's line and the run that submitted its predictions, where there are such.

    It is the champion; where none leads, the newest ensemble that knows the test images alone.
    """
    name, client = ensemble.model_name(session), open_store()
    line = inputs.line(session, prepared.data)
    badge = "champion"
    try:
        version = by_alias(client, name, CHAMPION)
    except InputError:
        stored = [one for one in versions(client, name) if one.tags.get(PREDICTIONS_ONLY_TAG) == "true"]
        of_line = [one for one in stored if one.tags.get(LINE_TAG) == line]
        if not of_line:
            return None, None
        version, badge = of_line[-1], "predictions-only"
    if version.tags.get(LINE_TAG) != line:
        return None, None
    submitted = search(
        f"tags.`hubmap.experiment` = '{session.experiment.name}' and tags.`hubmap.stage` = 'submit' "
        f"and tags.`hubmap.model` = '{version.uri}' and attributes.status = 'FINISHED'",
        limit=1,
    )
    made = search(f"attributes.run_id = '{version.run_id}'", limit=1)
    study = read_study(made[0])
    shown = _Line(
        name,
        "ensemble",
        study["value"],
        study["cross_fitted"],
        submitted[0].metrics.get("test/score") if submitted else None,
        f"{badge} v{version.number}",
        leak_in_words(version.tags),
        leak_in_words(version.tags, tag=TEST_LEAK_TAG),
        [*made, *submitted],
    )
    return shown, submitted[0] if submitted else None


def _figures(
    data: PreparedData, fused: _Line | None, submitted: FoundRun | None, truth: Annotations | None
) -> list[ReportFigure]:
    """Return overlays of the ensemble: on hidden-test tiles where their truth is known, else on held-out tiles."""
    if fused is None or not fused.runs:
        return []
    if truth is not None and submitted is not None:
        return _overlays(data, truth, read_predictions(submitted.artifact(PREDICTIONS)), "test tile")
    found = read_predictions(fused.runs[0].artifact(OUT_OF_FOLD))
    return _overlays(
        data, data.annotations_of(data.images.rows_of(list(found.images.ids))), found, "held-out tile"
    )


def _overlays(data: PreparedData, truth: Annotations, found: PredictionSet, what: str) -> list[ReportFigure]:
    figures = []
    chosen = np.unique(np.linspace(0, len(found.images) - 1, PICTURES).round().astype(int))
    for row in chosen:
        name = str(found.images.ids[row])
        real = truth.image(int(truth.images.rows_of([name])[0]))
        predicted: Instances = found.image(int(row))
        pixels = read_image(data.image_path(int(data.images.rows_of([name])[0])))
        figures.append(
            ReportFigure(
                title=name,
                image=truth_and_prediction(pixels, real, predicted),
                caption=f"{what}: {len(real.labels)} true, {len(predicted.labels)} predicted",
            )
        )
    return figures


def _how_scored(session: Session, hidden: bool) -> list[str]:
    experiment = session.experiment
    metric = METRIC_WORDS[experiment.metric]
    chosen = [name for name, member in experiment.members.items() if member.finetune.checkpoint == "best"]
    return [
        f"Scores are {metric}: the folds' scores averaged with their numbers of images as weights.",
        "Out of fold: every image was predicted by a network that never trained on it; the thresholds are those "
        "registered, fitted on all folds.",
        "Cross-fitted: thresholds that score a fold were chosen on the other folds, the members' own too where an "
        "ensemble is scored. This is the score to believe.",
        *(
            [f"{', '.join(chosen)}: the epoch was chosen on the very tiles that it is scored on."]
            if chosen
            else []
        ),
        "Leak level: how near the scored images come to anything that a network was trained on, stage 1 included: "
        "none, slide (a shared one), neighbour (touching tiles), duplicate (one picture under two names), trained_on. "
        "Members with one of the last two are not promoted.",
        *(["Hidden test: tiles whose truth took no part in training, tuning or choosing."] if hidden else []),
    ]


def _distinct(runs: Sequence[FoundRun]) -> list[FoundRun]:
    return list({run.run_id: run for run in runs}.values())
