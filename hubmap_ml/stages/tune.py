"""`tune`: a threshold study on a member's out-of-fold candidates, with the honest gain beside the flattering one."""

import dataclasses
import json
import math
from typing import Any

from hubmap_ml.postprocess import parse_steps
from hubmap_ml.spec import InputError
from hubmap_ml.stages import inputs, upstream
from hubmap_ml.stages.candidates import out_of_fold
from hubmap_ml.stages.leaks import in_words as leak_in_words
from hubmap_ml.stages.leaks import leak_tags
from hubmap_ml.stages.progress import progress_bar
from hubmap_ml.stages.running import running
from hubmap_ml.stages.session import Outcome, Session, open_session
from hubmap_ml.tracking import FoundRun
from hubmap_ml.tuning import Study, run_study

RESULT = "study.json"


def run(
    *,
    experiment: str = "demo",
    member: str = "",
    raw: str = "",
    set: str = "",
    workers: int = -1,
    device: str = "auto",
    with_upstream: bool = False,
    fresh: bool = False,
    parent: str = "",
) -> Outcome:
    """Tune a member's thresholds (the entry point; see `work`)."""
    session = open_session(
        experiment=experiment,
        raw=raw,
        set=set,
        workers=workers,
        device=device,
        with_upstream=with_upstream,
        fresh=fresh,
        parent=parent,
    )
    return work(session, session.experiment.member_named(member))


def work(session: Session, member: str) -> Outcome:
    """Search thresholds over all folds; keep the study, the steps that won and the cross-fitted score."""
    with running(session, "tune", member=member) as at:
        recipe = session.experiment.recipe_of(member)
        if recipe != member:
            raise InputError(
                f"member {member!r} is trained on all data and has no held-out images to tune on; its thresholds are "
                f"those of its recipe: tune {recipe!r}"
            )
        prepared = upstream.prepared(session)
        wanted = inputs.tune(session, member, prepared.data)
        if done := at.reuse(wanted):
            return done
        runs = upstream.predictions_of(session, member, prepared)
        at.run.identify(wanted, upstream_runs=[run.run_id for run in runs])
        leaks = leak_tags(runs)
        at.run.tag(leaks)
        values, settings = wanted.values, wanted.values["tune"]
        candidates, folds = out_of_fold(runs, values["merge_iou"])
        truth = prepared.data.annotations_of(prepared.data.images.rows_of(list(candidates.images.ids)))
        if len(truth.labels) == 0:
            raise InputError(
                f"the {len(truth.images)} held-out images of {member!r} hold no truth to tune on"
            )
        at.recorder.params({"member": member, "trials": settings["trials"], "metric": values["metric"]})
        with progress_bar("trials") as progress:
            study = run_study(
                truth,
                candidates,
                base_steps=parse_steps(values["postprocess"]),
                space=settings["space"],
                metric=values["metric"],
                trials=settings["trials"],
                seed=settings["seed"],
                folds=folds,
                progress=lambda done, total, best: progress(done, total),
            )
        table = at.recorder.folder / "trials.parquet"
        study.trials.to_parquet(table)
        at.recorder.artifact(table)
        at.recorder.data(study_to_data(study), RESULT)
        at.recorder.params({f"best/{key}": value for key, value in study.best_setting.items()})
        at.recorder.metrics(
            {
                "score/base": study.base_value,
                "score/tuned": study.value,
                "score/cross_fitted": study.cross_fitted,
                "gain/in_sample": study.value - study.base_value,
                "gain/cross_fitted": study.cross_fitted - study.base_value,
            },
            step=0,
        )
        return at.finish(
            f"{values['metric']} {in_words(study.cross_fitted, study.value)}, {study.base_value:.3f} before tuning; "
            f"leak level {leak_in_words(leaks)}",
            headline=believable(study.cross_fitted, study.value),
            details={
                "base": study.base_value,
                "cross_fitted": study.cross_fitted,
                "steps": list(study.best_steps),
                "n_images": len(truth.images),
            },
        )


def believable(cross_fitted: float | None, refitted: float) -> float:
    """Return the score to rank by: the cross-fitted one, and where one fold allows none, the refitted one."""
    return refitted if cross_fitted is None or not math.isfinite(cross_fitted) else cross_fitted


def in_words(cross_fitted: float | None, refitted: float) -> str:
    """Say both scores of a study, the honest one first; with one fold there is only the other."""
    if believable(cross_fitted, refitted) is refitted:
        return f"{refitted:.3f} on the tiles it was tuned on (one fold: nothing to cross-fit)"
    return f"{cross_fitted:.3f} cross-fitted, {refitted:.3f} refitted on all folds"


def study_to_data(study: Study) -> dict[str, Any]:
    """Return what a study found as JSON-able data, without its table of trials."""
    found = dataclasses.asdict(dataclasses.replace(study, trials=study.trials.iloc[:0]))
    del found["trials"]
    numbers: dict[str, Any] = json.loads(json.dumps(found), parse_constant=lambda _: None)  # NaN is no JSON
    return numbers


def read_study(run: FoundRun) -> dict[str, Any]:
    """Return what a study found: steps, parameters and scores."""
    study: dict[str, Any] = json.loads(run.artifact(RESULT).read_text())
    return study
