"""`ensemble`: promoted members fused into one predictor, its own thresholds tuned, registered as `EXPERIMENT.ensemble`.

Works on stored out-of-fold candidates and on registered folders; nothing here needs torch. The alias `champion` is
recomputed from version tags at every call.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubmap_ml.ensembling import VersionRecord, champion, ensemble_study, member_input, version_tags
from hubmap_ml.instances import PredictionSet, write_predictions
from hubmap_ml.postprocess import apply_steps, candidate_steps, parse_steps, steps_to_data
from hubmap_ml.predictor import write_predictor
from hubmap_ml.serving import log_predictor
from hubmap_ml.spec import InputError
from hubmap_ml.stages import inputs, upstream
from hubmap_ml.stages.candidates import out_of_fold
from hubmap_ml.stages.promote import member_tree
from hubmap_ml.stages.promote import model_name as member_model_name
from hubmap_ml.stages.running import Running, running
from hubmap_ml.stages.session import Outcome, Session, open_session
from hubmap_ml.stages.tune import believable, in_words, read_study, study_to_data
from hubmap_ml.tracking import (
    CHAMPION,
    PROMOTED,
    FoundRun,
    Version,
    by_alias,
    folder_of,
    get_run,
    point_alias,
    versions,
)

RESULT = "study.json"
OUT_OF_FOLD = "out_of_fold"


@dataclass(frozen=True)
class _Promoted:
    """A promoted member: its version, its study and the runs that hold its candidates."""

    member: str
    version: Version
    study: dict[str, Any]
    predicted: Sequence[FoundRun]


def run(*, experiment: str = "demo", raw: str = "", parent: str = "") -> Outcome:
    """Build and register the ensemble of an experiment (the entry point; see `work`)."""
    return work(open_session(experiment=experiment, raw=raw, parent=parent))


def model_name(session: Session) -> str:
    """Return the ensemble's registered name."""
    return f"{session.experiment.name}.ensemble"


def work(session: Session) -> Outcome:
    """Fuse the promoted members' out-of-fold candidates, tune, register, and recompute the champion."""
    experiment = session.experiment
    with running(session, "ensemble") as at:
        prepared = upstream.prepared(session)
        members = _promoted(session, at, prepared.digest)
        wanted = inputs.ensemble(
            session, tuple(item.version.tags["hubmap.stage_key"] for item in members), prepared.digest
        )
        at.run.identify(wanted, upstream_runs=[item.version.run_id for item in members])
        at.recorder.params({"members": ",".join(item.version.uri for item in members),
                            "method": experiment.ensemble.method, "trials": experiment.ensemble.trials})  # fmt: skip
        candidates: list[PredictionSet] = []
        for item in members:
            found, _ = out_of_fold(item.predicted, experiment.merge_iou)
            candidates.append(member_input(found, parse_steps(item.study["best_steps"])))
        together = _same_images(candidates)
        truth = prepared.data.annotations_of(prepared.data.images.rows_of(list(together[0].images.ids)))
        how = experiment.ensemble
        result = ensemble_study(
            truth,
            together,
            names=[item.member for item in members],
            method=how.method,
            iou_threshold=how.iou_threshold,
            skip_score=how.skip_score,
            base_steps=parse_steps(experiment.postprocess),
            space=experiment.tune.space.model_dump(),
            metric=experiment.metric,
            trials=how.trials,
            seed=experiment.tune.seed,
            folds=together[0].images.folds,
        )
        study = result.study
        at.recorder.data(study_to_data(study), RESULT)
        final = apply_steps(result.fused, parse_steps(study.best_steps))
        write_predictions(at.recorder.folder / OUT_OF_FOLD, final)
        at.recorder.artifact(at.recorder.folder / OUT_OF_FOLD)
        at.recorder.metrics({"score/base": study.base_value, "score/tuned": study.value,
                             "score/cross_fitted": study.cross_fitted,
                             "check/max_box_difference": result.box_difference}, step=0)  # fmt: skip
        version = _register(at, members, study, prepared)
        standing = recompute_champion(session, at, prepared.digest)
        best = max(members, key=lambda item: float(item.version.tags["hubmap.headline"]))
        at.recorder.params({f"best/{key}": value for key, value in study.best_setting.items()})
        return at.finish(
            f"{experiment.metric} {in_words(study.cross_fitted, study.value)}; best member "
            f"{best.member} {float(best.version.tags['hubmap.headline']):.3f}; version {version.number}"
            + (", champion" if standing and standing.number == version.number else ""),
            headline=believable(study.cross_fitted, study.value),
            details={"members": [item.version.uri for item in members], "cross_fitted": believable(study.cross_fitted, study.value),
                     "version": version.number, "champion": standing.number if standing else None},
        )  # fmt: skip


def recompute_champion(session: Session, at: Running, data_digest: str) -> Version | None:
    """Point `champion` where the tags of the ensemble's versions say."""
    name = model_name(session)
    known = {version.number: version for version in versions(at.run.client, name)}
    records = [VersionRecord(version.name, version.number, version.tags) for version in known.values()]
    best = champion(records, data_digest=data_digest)
    chosen = None if best is None else known[best.version]
    point_alias(at.run.client, name, CHAMPION, chosen)
    return chosen


def _promoted(session: Session, at: Running, data_digest: str) -> list[_Promoted]:
    found = []
    for member in session.experiment.members:
        try:
            version = by_alias(at.run.client, member_model_name(session, member), PROMOTED)
        except InputError:
            continue
        if version.tags.get("hubmap.data_digest") != data_digest:
            continue
        study = read_study(get_run(at.run.client, version.tags["hubmap.tune_run"]))
        runs = [get_run(at.run.client, run_id) for run_id in version.tags["hubmap.predict_runs"].split(",")]
        found.append(_Promoted(member, version, study, runs))
    if not found:
        raise InputError(
            f"experiment {session.experiment.name!r} has no promoted member for this data; run "
            f"'mlflow run . -e promote -P experiment={session.experiment.name}' first"
        )
    return found


def _same_images(candidates: Sequence[PredictionSet]) -> list[PredictionSet]:
    """Bring all members to the images that every one of them predicted, in the first one's order."""
    common = set(candidates[0].images.ids)
    for item in candidates[1:]:
        common &= set(item.images.ids)
    if not common:
        raise InputError("the promoted members have no held-out image in common; give them the same folds")
    names = [name for name in candidates[0].images.ids if name in common]
    return [item.take_images(item.images.rows_of(names)) for item in candidates]


def _register(at: Running, members: Sequence[_Promoted], study: Any, prepared: upstream.Prepared) -> Version:
    session, experiment = at.session, at.session.experiment
    leaves: dict[str, Path] = {}
    children = []
    for item in members:
        source = folder_of(item.version)
        for fold in experiment.folds_of(item.member):
            leaves[f"leaves/{item.member}_fold{fold}"] = source / "leaves" / f"{item.member}_fold{fold}"
        steps = steps_to_data(candidate_steps(parse_steps(item.study["best_steps"])))
        children.append(member_tree(session, item.member, steps, f"leaves/{item.member}"))
    how = experiment.ensemble
    fusion = {"kind": "fusion", "method": how.method, "iou_threshold": how.iou_threshold,
              "skip_score": how.skip_score, "weights": None, "children": children}  # fmt: skip
    folder = write_predictor(
        at.recorder.folder / "predictor",
        tree={"kind": "steps", "name": "ensemble", "steps": list(study.best_steps), "child": fusion},
        leaves=leaves,
        categories=prepared.data.annotations.categories,
        properties={"experiment": experiment.name, "members": ",".join(item.version.uri for item in members),
                    "run": at.run.run_id},
    )  # fmt: skip
    name = model_name(session)
    logged = log_predictor(
        folder,
        name="ensemble",
        registered_model_name=name,
        run_id=at.run.run_id,
        metadata={"members": [item.version.uri for item in members], "steps": list(study.best_steps)},
        tags={
            **version_tags(believable(study.cross_fitted, study.value), prepared.digest),
            "hubmap.refitted": repr(float(study.value)),
            "hubmap.stage_key": at.run.key,
            "hubmap.members": json.dumps([item.version.uri for item in members]),
            "hubmap.run": at.run.run_id,
        },
    )
    return next(item for item in versions(at.run.client, name) if item.number == logged.version)
