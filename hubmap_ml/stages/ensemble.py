"""`ensemble`: promoted members fused into one predictor, its own thresholds tuned, registered as `EXPERIMENT.ensemble`.

Works on stored out-of-fold candidates and on registered folders; nothing here needs torch. The alias `champion` is
recomputed from version tags at every call.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubmap_ml.ensembling import LINE_TAG, MemberSteps, VersionRecord, champion, ensemble_study, version_tags
from hubmap_ml.instances import PredictionSet, write_predictions
from hubmap_ml.metrics import paired_gain
from hubmap_ml.postprocess import apply_steps, candidate_steps, parse_steps
from hubmap_ml.predictor import (
    Merge,
    Steps,
    leaves_of,
    node_to_data,
    nodes_of,
    read_manifest,
    write_predictor,
)
from hubmap_ml.serving import log_predictor
from hubmap_ml.spec import InputError, StageInputs
from hubmap_ml.stages import inputs, promote, upstream
from hubmap_ml.stages.candidates import out_of_fold
from hubmap_ml.stages.leaks import in_words as leak_in_words
from hubmap_ml.stages.leaks import leak_tags
from hubmap_ml.stages.running import Running, running
from hubmap_ml.stages.session import Outcome, Session, open_session
from hubmap_ml.stages.study_record import believable, in_words, study_to_data
from hubmap_ml.stages.tune import read_study
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
from hubmap_ml.tuning import with_setting

RESULT = "study.json"
OUT_OF_FOLD = "out_of_fold"
LEADS = ", champion"


@dataclass(frozen=True)
class _Promoted:
    """A promoted member: its version, its study and the runs that hold its candidates.

    A refit member stands in with its recipe's out-of-fold candidates, by proxy, and predicts with its own network.

    Attributes:
        predicted: runs with out-of-fold candidates.
        refit: runs of a refit member's own predictions.
    """

    member: str
    version: Version
    study: dict[str, Any]
    predicted: Sequence[FoundRun]
    refit: Sequence[FoundRun] = ()


def run(*, experiment: str = "demo", raw: str = "", fresh: bool = False, parent: str = "") -> Outcome:
    """Build and register the ensemble of an experiment (the entry point; see `work`)."""
    return work(open_session(experiment=experiment, raw=raw, fresh=fresh, parent=parent))


def model_name(session: Session) -> str:
    """Return the ensemble's registered name."""
    return f"{session.experiment.name}.ensemble"


def work(session: Session) -> Outcome:
    """Fuse the promoted members' out-of-fold candidates, tune, register, and recompute the champion."""
    with running(session, "ensemble") as at:
        prepared = upstream.prepared(session)
        standing = inputs.line(session, prepared.data)
        wanted = identity(session, at.run.client, prepared)

        def check(found: FoundRun, outcome: Outcome) -> Outcome | None:
            return brought_up_to_date(session, at.run.client, standing, outcome)

        if done := at.reuse(wanted, check):
            return done
        members = _promoted(session, at.run.client, standing)
        values = wanted.values
        how, tuning = values["ensemble"], values["tune"]
        at.run.identify(wanted, upstream_runs=[item.version.run_id for item in members])
        at.recorder.params(
            {
                "members": ",".join(item.version.uri for item in members),
                "method": how["method"],
                "trials": how["trials"],
            }
        )
        candidates: list[PredictionSet] = []
        for item in members:
            found, _ = out_of_fold(item.predicted, values["merge_iou"])
            candidates.append(found)
        together = _same_images(candidates)
        truth = prepared.data.annotations_of(prepared.data.images.rows_of(list(together[0].images.ids)))
        result = ensemble_study(
            truth,
            together,
            members=[_steps(item.study) for item in members],
            names=[item.member for item in members],
            method=how["method"],
            iou_threshold=how["iou_threshold"],
            skip_score=how["skip_score"],
            base_steps=parse_steps(values["postprocess"]),
            space=tuning["space"],
            metric=values["metric"],
            trials=how["trials"],
            seed=tuning["seed"],
        )
        study = result.study
        at.recorder.data(study_to_data(study), RESULT)
        final = apply_steps(result.fused, parse_steps(study.best_steps))
        write_predictions(at.recorder.folder / OUT_OF_FOLD, final)
        at.recorder.artifact(at.recorder.folder / OUT_OF_FOLD)
        at.recorder.metrics(
            {
                "score/base": study.base_value,
                "score/tuned": study.value,
                "score/cross_fitted": study.cross_fitted,
                "check/max_box_difference": result.box_difference,
            },
            step=0,
        )
        best = max(members, key=lambda item: float(item.version.tags["hubmap.headline"]))
        alone = apply_steps(together[members.index(best)], parse_steps(best.study["best_steps"]))
        gain = paired_gain(values["metric"], truth, alone, final, names=(best.member, "the ensemble"))
        at.recorder.metrics({"gain/refitted": gain.gain, **gain.on_these.to_metrics("gain/refitted")}, step=0)
        leaks = leak_tags([run for item in members for run in (*item.predicted, *item.refit)])
        at.run.tag(leaks)
        version = _register(at, wanted, members, study, prepared, leaks)
        leading = recompute_champion(session, at.run.client, standing)
        at.recorder.params({f"best/{key}": value for key, value in study.best_setting.items()})
        return at.finish(
            f"{values['metric']} {in_words(study.cross_fitted, study.value)}, leak level {leak_in_words(leaks)}; "
            f"best member {best.member} {float(best.version.tags['hubmap.headline']):.3f}{_by_proxy(members)}; "
            f"gain over it {gain.gain:+.3f}, both refitted (95 % on these slides {gain.on_these.in_words('+.3f')}); "
            f"version {version.number}" + (LEADS if leading and leading.number == version.number else ""),
            headline=believable(study.cross_fitted, study.value),
            details={
                "members": [item.version.uri for item in members],
                "version": version.number,
                "champion": leading.number if leading else None,
            },
        )


def identity(session: Session, client: Any, prepared: upstream.Prepared) -> StageInputs:
    """Return the inputs of an ensemble of the members that are promoted now.

    Raises:
        InputError: none is.
    """
    members = _promoted_versions(session, client, inputs.line(session, prepared.data))
    keys = {member: version.tags["hubmap.stage_key"] for member, version in members.items()}
    return inputs.ensemble(session, keys, prepared.data)


def brought_up_to_date(session: Session, client: Any, standing: str, outcome: Outcome) -> Outcome | None:
    """Return what an earlier call found, with the champion of today; None where the version of it is gone."""
    number = outcome.details["version"]
    if number not in {version.number for version in versions(client, model_name(session))}:
        return None
    leading = recompute_champion(session, client, standing)
    details = {**outcome.details, "champion": leading.number if leading else None}
    verdict = outcome.verdict.removesuffix(LEADS) + (LEADS if leading and leading.number == number else "")
    return dataclasses.replace(outcome, verdict=verdict, details=details)


def recompute_champion(session: Session, client: Any, standing: str) -> Version | None:
    """Point `champion` where the tags of the ensemble's versions say."""
    name = model_name(session)
    known = {version.number: version for version in versions(client, name)}
    records = [VersionRecord(version.name, version.number, version.tags) for version in known.values()]
    best = champion(records, line=standing)
    chosen = None if best is None else known[best.version]
    point_alias(client, name, CHAMPION, chosen)
    return chosen


def _promoted(session: Session, client: Any, standing: str) -> list[_Promoted]:
    found = []
    for member, version in _promoted_versions(session, client, standing).items():
        study = read_study(get_run(client, version.tags["hubmap.tune_run"]))
        runs, refit = (
            [get_run(client, run_id) for run_id in version.tags.get(tag, "").split(",") if run_id]
            for tag in ("hubmap.predict_runs", promote.REFIT_RUNS_TAG)
        )
        found.append(_Promoted(member, version, study, runs, refit))
    return found


def _promoted_versions(session: Session, client: Any, standing: str) -> dict[str, Version]:
    found = {}
    for member in session.experiment.members:
        try:
            version = by_alias(client, promote.model_name(session, member), PROMOTED)
        except InputError:
            continue
        if version.tags.get(LINE_TAG) == standing:
            found[member] = version
    if not found:
        raise InputError(
            f"experiment {session.experiment.name!r} has no promoted member for this data, metric and folds; run "
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


def _by_proxy(members: Sequence[_Promoted]) -> str:
    """Say which members had no out-of-fold candidates of their own."""
    proxies = [item.member for item in members if item.refit]
    return (
        f"; out of fold their recipes stand for {', '.join(proxies)} (trained on all data)" if proxies else ""
    )


def _steps(study: Mapping[str, Any]) -> MemberSteps:
    """Read a member's steps from its study: those fitted on all folds, and those that each fold's others chose."""
    steps = parse_steps(study["best_steps"])
    chosen = zip(study["folds"], study["chosen"], strict=True)
    return MemberSteps(
        steps, {fold: with_setting(steps, setting) for fold, setting in chosen if setting is not None}
    )


def _member_tree(item: _Promoted, merge_iou: float) -> tuple[dict[str, Any], dict[str, Path]]:
    """Return a promoted member's own tree as it was registered, without its steps on pixels, and its networks.

    Raises:
        InputError: the version merges views and folds by another threshold than the candidates that were tuned here.
    """
    folder = folder_of(item.version)
    tree = read_manifest(folder).tree
    assert isinstance(tree, Steps)
    merges = {node.iou_threshold for node in nodes_of(tree) if isinstance(node, Merge)}
    if merges != {merge_iou}:
        raise InputError(
            f"{item.version.uri} merges views and folds at IoU {sorted(merges)} and this experiment at {merge_iou}; "
            "promote again"
        )
    ours = node_to_data(dataclasses.replace(tree, steps=candidate_steps(tree.steps)))
    return ours, {leaf.path: folder / leaf.path for leaf in leaves_of(tree)}


def _register(
    at: Running,
    wanted: StageInputs,
    members: Sequence[_Promoted],
    study: Any,
    prepared: upstream.Prepared,
    leaks: Mapping[str, str],
) -> Version:
    session, how = at.session, wanted.values["ensemble"]
    leaves: dict[str, Path] = {}
    children = []
    for item in members:
        tree, folders = _member_tree(item, wanted.values["merge_iou"])
        children.append(tree)
        leaves |= folders
    fusion = {
        "kind": "fusion",
        "method": how["method"],
        "iou_threshold": how["iou_threshold"],
        "skip_score": how["skip_score"],
        "weights": None,
        "children": children,
    }
    folder = write_predictor(
        at.recorder.folder / "predictor",
        tree={"kind": "steps", "name": "ensemble", "steps": list(study.best_steps), "child": fusion},
        leaves=leaves,
        categories=prepared.data.annotations.categories,
        properties={
            "experiment": session.experiment.name,
            "members": ",".join(item.version.uri for item in members),
            "run": at.run.run_id,
        },
    )
    name = model_name(session)
    logged = log_predictor(
        folder,
        name="ensemble",
        registered_model_name=name,
        run_id=at.run.run_id,
        metadata={"members": [item.version.uri for item in members], "steps": list(study.best_steps)},
        tags={
            **version_tags(believable(study.cross_fitted, study.value), wanted.values["line"]),
            **leaks,
            "hubmap.refitted": repr(float(study.value)),
            "hubmap.data_digest": prepared.digest,
            "hubmap.stage_key": at.run.key,
            "hubmap.members": json.dumps([item.version.uri for item in members]),
            "hubmap.run": at.run.run_id,
        },
    )
    return next(item for item in versions(at.run.client, name) if item.number == logged.version)
