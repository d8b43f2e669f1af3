"""What is kept of a threshold study: its table of trials, its findings as JSON, and its page."""

import dataclasses
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hubmap_ml.spec import Recorder
from hubmap_ml.tuning import Assessment, Space, Study
from hubmap_ml.viz import StudyGain, StudyPage, StudyValue, write_study_page

RESULT = "study.json"
TRIALS = "trials.parquet"
PAGE = "study.html"
BEST_ROWS = 10
TOLD_EVERY_S = 1.0


def believable(cross_fitted: float | None, refitted: float) -> float:
    """Return the score to rank by: the cross-fitted one, and where one fold allows none, the refitted one."""
    return refitted if cross_fitted is None or not math.isfinite(cross_fitted) else cross_fitted


def in_words(cross_fitted: float | None, refitted: float) -> str:
    """Say both scores of a study, the honest one first; with one fold there is only the other."""
    if believable(cross_fitted, refitted) is refitted:
        return f"{refitted:.3f} on the tiles it was tuned on (one fold: nothing to cross-fit)"
    return f"{cross_fitted:.3f} cross-fitted, {refitted:.3f} refitted on all folds"


def study_to_data(study: Study, assessment: Assessment | None = None) -> dict[str, Any]:
    """Return what a study found as JSON-able data, without its table of trials."""
    found = dataclasses.asdict(dataclasses.replace(study, trials=study.trials.iloc[:0]))
    del found["trials"]
    if assessment is not None:
        found["assessment"] = dataclasses.asdict(assessment)
        del found["assessment"]["curves"]
        for gain in filter(None, (found["assessment"][name] for name in ("in_sample", "cross_fitted"))):
            del gain["after_on_these"]  # a metric of the run
    numbers: dict[str, Any] = json.loads(json.dumps(found), parse_constant=lambda _: None)  # NaN is no JSON
    return numbers


def metrics_of(study: Study, assessment: Assessment) -> dict[str, float]:
    """Return a study's figures by name, the finite ones."""
    gains = {"in_sample": assessment.in_sample, "cross_fitted": assessment.cross_fitted}
    found = {
        "score/base": study.base_value,
        "score/tuned": study.value,
        "score/cross_fitted": study.cross_fitted,
        "gain/in_sample": study.value - study.base_value,
        "gain/cross_fitted": study.cross_fitted - study.base_value,
        "check/mismatch": study.mismatch,
        "check/interpolation_error": study.interpolation_error,
    }
    for name, gain in gains.items():
        if gain is not None and gain.low is not None and gain.high is not None:
            found |= {f"gain/{name}_low": gain.low, f"gain/{name}_high": gain.high}
    if assessment.cross_fitted is not None:
        found |= assessment.cross_fitted.after_on_these.to_metrics("score/cross_fitted")
    return {name: value for name, value in found.items() if math.isfinite(value)}


def best_rows(study: Study) -> list[tuple[dict[str, Any], dict[str, float]]]:
    """Return values and scores of the best exactly scored trials of those that the choice on all folds is made of."""
    names = list(study.best_setting) if "class" not in study.trials else []
    if not names:
        return []
    own = study.trials[study.trials["exact"] & study.trials["part"].isin(["fixed", "all"])]
    best = own.sort_values("value", ascending=False, kind="stable")
    best = best.drop_duplicates(names).head(BEST_ROWS)
    folds = [f"fold_{number}" for number in study.folds]
    return [
        (
            {"trial": row["number"], "part": row["part"], **{plain_name(name): row[name] for name in names}},
            {"score": row["value"], **{f"score/{fold}": row[fold] for fold in folds if math.isfinite(row[fold])}},
        )
        for row in best.to_dict("records")
    ]  # fmt: skip


def plain_name(name: str) -> str:
    """Return a value's name as MLflow takes it: ``nms[1].iou`` becomes ``nms.1.iou``."""
    return re.sub(r"\[(\d+)\]", r".\1", name)


def write_page(
    path: Path,
    study: Study,
    assessment: Assessment,
    space: Space,
    *,
    title: str,
    verdict: str,
    base_setting: Mapping[str, Any],
) -> Path:
    """Write a study's page."""
    gains = [
        StudyGain(name, gain.before, gain.after, gain.low, gain.high, gain.on_these.words)
        for name, gain in (
            ("cross-fitted", assessment.cross_fitted),
            ("on the images it was tuned on", assessment.in_sample),
        )
        if gain is not None
    ]
    parameters = {parameter.name: parameter for parameter in space.parameters}
    values = []
    for name, best in study.best_setting.items():
        spread = assessment.stability.get(name)
        parameter = parameters.get(name) or next(
            (own for of, own in parameters.items() if name.startswith(f"{of}.")), None
        )
        values.append(
            StudyValue(
                name=name,
                before=base_setting.get(name),
                best=best,
                by_fold=() if spread is None else spread.values,
                spread=None if spread is None else spread.share,
                importance=assessment.importance.get(name),
                low=None if parameter is None or parameter.choices or parameter.fixed else parameter.low,
                high=None if parameter is None or parameter.choices or parameter.fixed else parameter.high,
                log=parameter is not None and parameter.log,
            )
        )
    return write_study_page(
        path,
        StudyPage(
            title=title,
            verdict=verdict,
            metric=study.metric,
            sampler=study.sampler,
            gains=gains,
            values=values,
            folds=study.folds,
            fold_base=study.base_fold_values,
            fold_tuned=study.fold_values,
            fold_held_out=study.held_out_values,
            trials=study.trials,
            curves={name: (curve.recall, curve.precision) for name, curve in assessment.curves.items()},
            steps=study.best_steps,
            mismatch=study.mismatch,
            interpolation_error=study.interpolation_error,
        ),
    )


class LiveSearch:
    """Tells a recorder, at most once a second, how far a search is and the best score so far."""

    def __init__(self, recorder: Recorder, shown: Callable[[int, int, str], None]) -> None:
        self._recorder, self._shown = recorder, shown
        self._last, self._best = 0.0, -math.inf

    def __call__(self, done: int, total: int, best: float) -> None:
        self._shown(done, total, f"· best {best:.4f}")
        now = time.monotonic()
        if done == total or (best > self._best and now - self._last >= TOLD_EVERY_S):
            self._last, self._best = now, best
            self._recorder.metrics({"search/best": best}, step=done)
