"""`tune`: a threshold study on a member's out-of-fold candidates, with the honest gain beside the flattering one."""

import json
from typing import Any

from hubmap_ml.postprocess import parse_steps
from hubmap_ml.spec import InputError
from hubmap_ml.stages import inputs, study_record, upstream
from hubmap_ml.stages.candidates import out_of_fold
from hubmap_ml.stages.leaks import in_words as leak_in_words
from hubmap_ml.stages.leaks import leak_tags
from hubmap_ml.stages.progress import progress_bar
from hubmap_ml.stages.running import Running, running
from hubmap_ml.stages.session import Outcome, Session, open_session
from hubmap_ml.stages.study_record import RESULT, believable, in_words
from hubmap_ml.tracking import FoundRun, child_rows
from hubmap_ml.tuning import assess, parse_space, run_study, run_study_per_class, setting_of


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
    """Search thresholds over all folds; keep the study, the steps that won and the cross-fitted score.

    With ``tune.storage`` every process that is started with the same experiment and member works on the same trials;
    one of them records the study, the others end as its stand-ins.
    """
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
        storage = session.experiment.tune.storage

        def identify() -> None:
            at.run.identify(wanted, upstream_runs=[run.run_id for run in runs])

        if storage is None:
            identify()
        leaks = leak_tags(runs)
        at.run.tag(leaks)
        values, settings = wanted.values, wanted.values["tune"]
        candidates, folds = out_of_fold(runs, values["merge_iou"])
        truth = prepared.data.annotations_of(prepared.data.images.rows_of(list(candidates.images.ids)))
        if len(truth.labels) == 0:
            raise InputError(
                f"the {len(truth.images)} held-out images of {member!r} hold no truth to tune on"
            )
        at.recorder.params(
            {
                "member": member,
                "metric": values["metric"],
                **{key: settings[key] for key in ("trials", "sampler")},
            }
        )
        steps = parse_steps(values["postprocess"])
        with progress_bar("trials") as shown:
            study = (run_study_per_class if settings["per_class"] else run_study)(
                truth,
                candidates,
                base_steps=steps,
                space=settings["space"],
                metric=values["metric"],
                trials=settings["trials"],
                seed=settings["seed"],
                sampler=settings["sampler"],
                storage=storage,
                name=f"{session.experiment.name}.{member}.{wanted.key[:16]}",
                folds=folds,
                progress=study_record.LiveSearch(at.recorder, shown),
            )
        if storage is not None:
            identify()  # only now: who works on the same trials must not be kept waiting
        space = parse_space(settings["space"], steps)
        assessment = assess(study, truth, candidates, base_steps=steps, space=space, folds=folds)
        verdict = (
            f"{values['metric']} {in_words(study.cross_fitted, study.value)}, {study.base_value:.3f} before tuning; "
            f"leak level {leak_in_words(leaks)}"
        )
        _keep(at, study, assessment, space, steps, f"{session.experiment.name} · {member}", verdict)
        return at.finish(
            verdict,
            headline=believable(study.cross_fitted, study.value),
            details={
                "base": study.base_value,
                "cross_fitted": study.cross_fitted,
                "steps": list(study.best_steps),
                "n_images": len(truth.images),
            },
        )


def read_study(run: FoundRun) -> dict[str, Any]:
    """Return what a study found: steps, parameters and scores."""
    study: dict[str, Any] = json.loads(run.artifact(RESULT).read_text())
    return study


def _keep(at: Running, study: Any, assessment: Any, space: Any, steps: Any, title: str, verdict: str) -> None:
    """Keep a study in its run: table, findings, page, figures, and the best trials as runs of their own."""
    folder = at.recorder.folder
    study.trials.to_parquet(folder / study_record.TRIALS)
    study_record.write_page(
        folder / study_record.PAGE, study, assessment, space, title=title, verdict=verdict,
        base_setting=setting_of(steps, list(study.best_setting)),
    )  # fmt: skip
    for name in (study_record.TRIALS, study_record.PAGE):
        at.recorder.artifact(folder / name)
    at.recorder.data(study_record.study_to_data(study, assessment), RESULT)
    at.recorder.params(
        {f"best/{study_record.plain_name(key)}": value for key, value in study.best_setting.items()}
    )
    at.recorder.metrics(study_record.metrics_of(study, assessment), step=0)
    at.recorder.ask(child_rows("trial", study_record.best_rows(study)))
