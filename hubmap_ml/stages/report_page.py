"""The report's page as plain values: what was gathered and computed, in the words of its sections."""

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hubmap_ml.data import PreparedData
from hubmap_ml.instances import Annotations, read_predictions
from hubmap_ml.metrics import Interval, WorstImage
from hubmap_ml.metrics.error_anatomy import KINDS
from hubmap_ml.postprocess import parse_steps
from hubmap_ml.spec import Experiment, InputError
from hubmap_ml.stages import ensemble_record
from hubmap_ml.stages.record import document_or_none
from hubmap_ml.stages.report_evidence import Evidence, galleries_of, hidden_gallery
from hubmap_ml.stages.report_lines import Gathered, ReportLine
from hubmap_ml.stages.submit import PREDICTIONS
from hubmap_ml.tracking import FOLD, MEMBER, STAGE, UPSTREAM, FoundRun, Lineage
from hubmap_ml.tuning import setting_of
from hubmap_ml.viz import (
    Difference,
    Gallery,
    GraphStep,
    Line,
    ReportData,
    ReportEnsemble,
    ReportMember,
    ReportOrigin,
    ReportPair,
    ReportRow,
    ReportStage,
    ReportStudy,
    grouped,
)

METRIC_WORDS = {
    "ap60": "average precision at mask IoU 0.6",
    "coco_segm": "COCO's mean AP of masks",
    "dice": "Dice of the union of instances, mean over images",
    "dsb_map": "the Data Science Bowl's mean of TP / (TP + FP + FN) over mask IoUs",
}
MOST_BOXES = 16
"""Runs that the pipeline shows one by one; of more, those of a stage and member are one box."""


def page_of(
    gathered: Gathered,
    evidence: Evidence,
    *,
    experiment: Experiment,
    verdict: str,
    hidden: Mapping[str, float | None],
    galleries: Sequence[Gallery],
    curves: Mapping[str, Sequence[Line]],
    lineage: Lineage,
    environment: Mapping[str, str],
    hidden_test: bool,
) -> ReportData:
    """Return the page.

    Args:
        gathered: lines and runs.
        evidence: about the lines.
        experiment: whose they are.
        verdict: the first thing to know.
        hidden: by line its score on the hidden test.
        galleries, curves, lineage, environment: as the page has them.
        hidden_test: whether there is one.
    """
    rows = [_row(line, evidence.intervals.get(line.name), hidden.get(line.name)) for line in gathered.lines]
    rows += [ReportRow(name, badge="no score yet", why=why) for name, why in gathered.absent.items()]
    return ReportData(
        title=gathered.title,
        verdict=verdict,
        metric=experiment.metric,
        rows=rows,
        stages=[_stage(run) for run in gathered.chain],
        how_scored=[*_how_scored(experiment, gathered, hidden_test), *evidence.words],
        environment=environment,
        generated=time.strftime("%Y-%m-%d %H:%M"),
        graph=graph_of(gathered.chain),
        studies=[_study(line) for line in gathered.lines if line.study is not None],
        ensemble=_ensemble(gathered.fused),
        errors=evidence.errors,
        galleries=galleries,
        curves=curves,
        lineage=_lineage(lineage),
    )


def graph_of(chain: Sequence[FoundRun]) -> list[GraphStep]:
    """Return the runs as steps of a drawing, one for each stage and member where there are many."""
    steps = [
        GraphStep(
            run.run_id,
            run.tags.get(STAGE, "run"),
            run.tags.get(MEMBER, ""),
            run.metrics.get("headline"),
            run.metrics.get("time/seconds"),
            1,
            run.status.lower(),
            _name(run) + ": " + _verdict(run),
            tuple(name for name in run.tags.get(UPSTREAM, "").split(",") if name),
        )
        for run in chain
    ]
    per_place = len({(step.stage, step.lane) for step in steps})
    return grouped(steps) if len(steps) > per_place or len(steps) > MOST_BOXES else steps


def pictures_of(
    gathered: Gathered,
    evidence: Evidence,
    data: PreparedData,
    truth: Annotations | None,
    metric: str,
) -> list[Gallery]:
    """Return the galleries of the first line: worst and other held-out tiles, and the hidden test."""
    line = gathered.first
    if line is None:
        return []
    worst: Sequence[WorstImage] = ()
    if evidence.errors is not None:
        names = [score.name for score in evidence.errors.comparison.scores]
        worst = evidence.errors.worst[names.index(line.name)] if line.name in names else ()
    found = galleries_of(line, data, metric, [image.id for image in worst], notes_on(worst))
    if truth is not None and gathered.submitted is not None:
        submitted = read_predictions(gathered.submitted.artifact(PREDICTIONS))
        steps = line.study["best_steps"] if line.study else []
        threshold = next((float(s["score"]) for s in steps if isinstance(s.get("score"), int | float)), 0.0)
        test = hidden_gallery(line.name, data, truth, submitted, threshold, metric)
        found += [test] if test is not None else []
    return found


def notes_on(worst: Sequence[WorstImage]) -> dict[str, str]:
    """Return by id what to say of the images that cost most."""
    return {image.id: _why_worst(image) for image in worst}


def curves_of(run: FoundRun) -> dict[str, list[Line]]:
    """Return a training's scores and loss over its epochs; nothing for other runs."""
    if run.tags.get(STAGE) not in ("pretrain", "finetune"):
        return {}

    def line(name: str, x_name: str = "epoch") -> Line:
        points = run.client.get_metric_history(run.run_id, name)
        return Line(name, tuple((float(point.step), float(point.value)) for point in points), x_name)

    scores = sorted(
        name for name in run.metrics if name.startswith("val/") and not name.endswith(("_low", "_high"))
    )
    return {"Validation": [line(name) for name in scores[:4]], "Loss": [line("train/loss", "iteration")]}


def environment_of(run: FoundRun, *, data: str, seed: int) -> dict[str, str]:
    """Return what a run computed with: code, data, seed, versions, machine."""
    kept = document_or_none(run, "environment.json") or {}
    dirty = ", with uncommitted changes" if run.tags.get("hubmap.code_dirty") == "true" else ""
    packages = kept.get("packages", {})
    return {
        "commit": run.tags.get("mlflow.source.git.commit", "unknown")[:12] + dirty,
        "data": data[:12],
        "seed": str(seed),
        "hubmap-ml": str(kept.get("hubmap-ml", "unknown")),
        "python": str(kept.get("python", "unknown")),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
        "machine": f"{kept.get('system', 'unknown')}, {kept.get('cores', '?')} cores",
    }


def _row(line: ReportLine, interval: Interval | None, hidden: float | None) -> ReportRow:
    return ReportRow(
        line.name,
        "ensemble" if line.kind == "ensemble" else "member",
        line.out_of_fold,
        line.cross_fitted,
        hidden,
        line.seconds,
        line.badge,
        interval=interval,
        leak=line.leaks_in_words(hidden_test=hidden is not None).removeprefix("leak level "),
        cost=line.cost,
        why=line.why,
    )


def _stage(run: FoundRun) -> ReportStage:
    return ReportStage(_name(run), run.metrics.get("time/seconds"), run.status.lower(), _verdict(run))


def _name(run: FoundRun) -> str:
    words = [run.tags.get(STAGE, "run"), run.tags.get(MEMBER, "")]
    words += [f"fold {run.tags[FOLD]}"] if FOLD in run.tags else []
    return run.tags.get("mlflow.runName", "") or " · ".join(filter(None, words))


def _verdict(run: FoundRun) -> str:
    return (run.tags.get("mlflow.note.content", "").splitlines() or [""])[0]


def _why_worst(image: WorstImage) -> str:
    errors = ", ".join(f"{count} {kind}" for kind, count in zip(KINDS, image.errors, strict=True) if count)
    slide = f"slide {image.slide}; " if image.slide else ""
    return f"{slide}pulls the score by {image.pull:+.4f}; at the best F1: {errors or 'no error'}"


def _study(line: ReportLine) -> ReportStudy:
    study = line.study or {}
    assessment = study.get("assessment") or {}
    gain = assessment.get("cross_fitted") or assessment.get("in_sample")
    interval = Interval(None, None, "not assessed")
    if gain is not None:
        low_high = gain.get("on_these") or {}
        interval = Interval(low_high.get("low"), low_high.get("high"), str(low_high.get("words", "")))
    cross = line.cross_fitted
    return ReportStudy(
        line.name,
        _float(study.get("base_value")),
        line.out_of_fold,
        None if cross is None or not math.isfinite(cross) else cross,
        interval,
        _values(line),
    )


def _values(line: ReportLine) -> dict[str, tuple[str, str, str]]:
    study = line.study or {}
    chosen = study.get("best_setting") or {}
    told = (document_or_none(line.head, "stage_inputs.json") or {}).get("values", {})
    before: Mapping[str, Any] = {}
    with contextlib.suppress(InputError, KeyError, ValueError):  # values of single classes stand in no step
        before = setting_of(parse_steps(told["postprocess"]), list(chosen))
    by_fold = [setting or {} for setting in study.get("chosen") or ()]
    found = {}
    for name, best in chosen.items():
        folds = ", ".join(_told(setting[name]) for setting in by_fold if name in setting)
        found[name] = (_told(before.get(name)), _told(best), folds or "–")
    return found


def _told(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _ensemble(line: ReportLine | None) -> ReportEnsemble | None:
    found = None if line is None else document_or_none(line.head, ensemble_record.RESULT)
    if found is None:
        return None
    worth = {one["name"]: one for one in found["contributions"]}
    members = [
        ReportMember(
            name,
            found["registered"]["weights"].get(name, 0.0),
            tuple(one["weights"].get(name, 0.0) for one in found["by_fold"].values()),
            worth.get(name, {}).get("score"),
            _difference(worth.get(name, {}).get("added")),
            _difference(worth.get(name, {}).get("above")),
            found["costs_s_per_image"].get(name),
        )
        for name in found["members"]
    ]
    fusion = found["registered"]["fusion"]
    words = ", ".join(f"{key.replace('_', ' ')} {_told(value)}" for key, value in fusion.items())
    folds = [f"fold {number}" for number in found["by_fold"]]
    return ReportEnsemble(words, members, folds, [ReportPair(**pair) for pair in found["diversity"]])


def _difference(found: Mapping[str, Any] | None) -> Difference | None:
    if found is None or found["value"] is None:
        return None
    these = found["on_these"]
    return Difference(found["value"], Interval(these["low"], these["high"], these["words"]))


def _lineage(lineage: Lineage) -> list[ReportOrigin]:
    origins = []
    for node in lineage.nodes.values():
        facts = [f"data {node.facts['data_digest'][:12]}"] if "data_digest" in node.facts else []
        facts += [f"code {node.facts['commit'][:10]}"] if "commit" in node.facts else []
        came = tuple(
            f"{lineage.nodes[name].title} ({tie})" for name, tie in node.comes_from if name in lineage.nodes
        )
        shown = node.id if node.kind == "version" else node.id[:16]
        origins.append(ReportOrigin(node.title, shown, came, ", ".join(facts)))
    return origins


def _how_scored(experiment: Experiment, gathered: Gathered, hidden: bool) -> list[str]:
    if not gathered.lines:
        return []
    chosen = [name for name, member in experiment.members.items() if member.finetune.checkpoint == "best"]
    cross = any(line.cross_fitted is not None for line in gathered.lines)
    sentences = [
        f"Scores are {METRIC_WORDS[experiment.metric]}: the folds' scores averaged with their numbers of images as "
        "weights.",
        "Out of fold: every image was predicted by a network that never trained on it; the thresholds are those "
        "registered, fitted on all folds.",
    ]
    if cross:
        sentences.append(
            "Cross-fitted: thresholds that score a fold were chosen on the other folds, the members' own too where an "
            "ensemble is scored. This is the score to believe; errors, slides and intervals are of it."
        )
    if chosen:
        sentences.append(f"{', '.join(chosen)}: the epoch was chosen on the very tiles that it is scored on.")
    sentences.append(
        "Leak level: how near the scored images come to anything that a network was trained on, stage 1 included: "
        "none, slide (a shared one), neighbour (touching tiles), duplicate (one picture under two names), trained_on. "
        "Members with one of the last two are not promoted."
    )
    if hidden:
        sentences.append("Hidden test: tiles whose truth took no part in training, tuning or choosing.")
    return sentences
