"""`ensemble`: promoted members fused into one predictor, its own thresholds tuned, registered as `EXPERIMENT.ensemble`.

Works on stored out-of-fold candidates and on registered folders; nothing here needs torch. The alias `champion` is
recomputed from version tags at every call.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hubmap_ml.ensembling import (
    EXTERNAL_TAG,
    FORCED_TAG,
    PREDICTIONS_ONLY_TAG,
    Choosing,
    EnsembleStudy,
    Forward,
    Limits,
    Standing,
    Worth,
    challenge_of,
    contributions,
    cross_fitted_alone,
    diversity,
    ensemble_study,
    fusion_variants,
    version_tags,
)
from hubmap_ml.fusion import options_from_data, options_to_data
from hubmap_ml.instances import Annotations, PredictionSet, write_predictions
from hubmap_ml.postprocess import apply_steps, parse_steps, steps_to_data
from hubmap_ml.predictor import write_predictor
from hubmap_ml.serving import Reference, log_predictor
from hubmap_ml.spec import InputError, StageInputs
from hubmap_ml.stages import champion as champions
from hubmap_ml.stages import ensemble_record, inputs, upstream
from hubmap_ml.stages.candidates import out_of_fold
from hubmap_ml.stages.champion import CROSS_FITTED, OUT_OF_FOLD
from hubmap_ml.stages.generations import generation_tags
from hubmap_ml.stages.leaks import in_words as leak_in_words
from hubmap_ml.stages.leaks import leak_tags
from hubmap_ml.stages.progress import progress_bar
from hubmap_ml.stages.promoted_members import (
    COST_TAG,
    PromotedMember,
    costs,
    member_steps,
    member_tree,
    on_same_images,
    promoted_members,
    promoted_versions,
)
from hubmap_ml.stages.running import Running, running
from hubmap_ml.stages.session import Outcome, Session, open_session
from hubmap_ml.stages.study_record import LiveSearch, believable, in_words, study_to_data
from hubmap_ml.tracking import FoundRun, Version, versions

RESULT = "study.json"
WEIGHT_TRIALS = 30


def run(*, experiment: str = "demo", raw: str = "", fresh: bool = False, parent: str = "") -> Outcome:
    """Build and register the ensemble of an experiment (the entry point; see `work`)."""
    return work(open_session(experiment=experiment, raw=raw, fresh=fresh, parent=parent))


def model_name(session: Session) -> str:
    """Return the ensemble's registered name."""
    return champions.model_name(session.experiment.name)


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
        members = promoted_members(session, at.run.client, standing)
        values = wanted.values
        how, tuning = values["ensemble"], values["tune"]
        at.run.identify(wanted, upstream_runs=[item.version.run_id for item in members])
        at.recorder.params(
            {
                "members": ",".join(item.version.uri for item in members),
                **{key: how[key] for key in ("select", "method", "trials")},
            }
        )
        candidates: list[PredictionSet] = []
        for item in members:
            found, _ = out_of_fold(item.predicted, values["merge_iou"])
            candidates.append(found)
        together = on_same_images(candidates)
        truth = prepared.data.annotations_of(prepared.data.images.rows_of(list(together[0].images.ids)))
        names = [item.member for item in members]
        steps = [member_steps(item.study) for item in members]
        with progress_bar("trials of the ensemble") as shown:
            result = ensemble_study(
                truth,
                together,
                members=steps,
                names=names,
                options=options_from_data(how),
                choosing=_choosing(how, members, tuning["seed"]),
                score_scale=how["scores"],
                base_steps=parse_steps(values["postprocess"]),
                space=tuning["space"],
                metric=values["metric"],
                trials=how["trials"],
                seed=tuning["seed"],
                thresholds_per_class=tuning["per_class"],
                progress=LiveSearch(at.recorder, shown),
            )
        study = result.study
        alone = {
            name: cross_fitted_alone(item, own.held_out, result)
            for name, item, own in zip(names, together, steps, strict=True)
            if result.held_out
        }
        worth = contributions(values["metric"], truth, result, alone, seed=tuning["seed"])
        best = max(members, key=lambda item: float(item.version.tags["hubmap.headline"]))
        card = _keep(at, result, truth, names, alone, worth, costs(members), best.member)
        chosen = [members[k] for k in result.recipe.chosen]
        leaks = leak_tags([run for item in members for run in (*item.predicted, *item.refit)])
        at.run.tag(leaks)
        at.recorder.flush()
        version = (
            None if session.fresh or session.reproduces else _registered(session, at.run.client, wanted.key)
        )
        if version is None:
            tags = champions.challenge_tags(
                session,
                at.run.client,
                standing,
                truth,
                result.cross_fitted or apply_steps(result.fused, result.recipe.steps),
                values["champion"],
            )
            version = _register(at, wanted, chosen, result, prepared, {**leaks, **tags}, card)
        leading = champions.settle(session, at.run.client, standing)
        at.recorder.params({f"best/{key}": value for key, value in study.best_setting.items()})
        said = (
            f"{values['metric']} {in_words(study.cross_fitted, study.value)}, leak level {leak_in_words(leaks)}; "
            f"members {ensemble_record.members_in_words(result.recipe, names)}; "
            f"best member {best.member} {float(best.version.tags['hubmap.headline']):.3f}{_by_proxy(members)}"
            f"{_from_outside(members)}"
            f"{ensemble_record.gain_in_words(worth, best.member)}; version {version.number}"
        )
        return at.finish(
            said + _place(leading, version),
            headline=believable(study.cross_fitted, study.value),
            details={
                "members": [item.version.uri for item in chosen],
                "version": version.number,
                "champion": leading.champion.version if leading.champion else None,
                "said": said,
            },
        )


def check_fusion(session: Session) -> None:
    """Refuse values of the fusion that do not fit each other before any work.

    Raises:
        InputError: there is such a value; named.
    """
    how = session.experiment.ensemble
    fusion_variants(options_from_data(how.model_dump()), how.space)


def identity(session: Session, client: Any, prepared: upstream.Prepared) -> StageInputs:
    """Return the inputs of an ensemble of the members that are promoted now.

    Raises:
        InputError: none is.
    """
    check_fusion(session)
    members = promoted_versions(session, client, inputs.line(session, prepared.data))
    keys = {member: version.tags["hubmap.stage_key"] for member, version in members.items()}
    return inputs.ensemble(session, keys, prepared.data)


def brought_up_to_date(session: Session, client: Any, standing: str, outcome: Outcome) -> Outcome | None:
    """Return what an earlier call found, with the champion of today; None where the version of it is gone."""
    number = outcome.details["version"]
    version = next((one for one in versions(client, model_name(session)) if one.number == number), None)
    if version is None:
        return None
    found = champions.settle(session, client, standing)
    details = {**outcome.details, "champion": found.champion.version if found.champion else None}
    verdict = outcome.details["said"] + _place(found, version)
    return dataclasses.replace(outcome, verdict=verdict, details=details)


def _place(found: Standing, version: Version) -> str:
    """Say where a version stands: whether it leads, by force, or why not."""
    if version.tags.get(PREDICTIONS_ONLY_TAG) == "true":
        return ", predictions-only: it knows the test images alone and never leads"
    if found.champion is not None and found.champion.version == version.number:
        return ", champion by force" if version.tags.get(FORCED_TAG) == "true" else ", champion"
    if found.champion is None:
        return ""
    leader = found.champion.version
    challenge = challenge_of(version.tags, leader)
    why = "" if challenge is None else f": {challenge.words}"
    challenges = found.challenger is not None and found.challenger.version == version.number
    return f", {'challenger of' if challenges else 'behind'} version {leader}{why}"


def _registered(session: Session, client: Any, key: str) -> Version | None:
    """Return the version that an earlier call made of the same inputs before it broke off."""
    same = [one for one in versions(client, model_name(session)) if one.tags.get("hubmap.stage_key") == key]
    return same[-1] if same else None


def _by_proxy(members: Sequence[PromotedMember]) -> str:
    """Say which members had no out-of-fold candidates of their own."""
    proxies = [item.member for item in members if item.refit]
    return (
        f"; out of fold their recipes stand for {', '.join(proxies)} (trained on all data)" if proxies else ""
    )


def _from_outside(members: Sequence[PromotedMember]) -> str:
    """Say which members were made elsewhere: nobody here measured what their networks saw."""
    names = [item.member for item in members if item.version.tags.get(EXTERNAL_TAG) == "true"]
    return f"; made elsewhere, with declared leak levels: {', '.join(names)}" if names else ""


def _choosing(how: Mapping[str, Any], members: Sequence[PromotedMember], seed: int) -> Choosing:
    """Return how members are chosen.

    Raises:
        InputError: a budget of seconds, and a member whose cost nobody measured.
    """
    budget = how["budget_s_per_tile"]
    if budget is not None and not costs(members):
        unknown = next(item for item in members if item.seconds is None)
        raise InputError(
            f"ensemble.budget_s_per_tile: {unknown.version.uri} does not say what an image costs; promote again"
        )
    declared = how["weights"] if isinstance(how["weights"], Mapping) else None
    return Choosing(
        select="forward" if how["select"] == "forward" else "all",
        weights=None
        if declared is None
        else tuple(float(declared.get(item.member, 1.0)) for item in members),
        forward=Forward(how["rounds"], how["bags"], seed),
        limits=Limits(costs(members), budget, how["max_members"]),
        weight_trials=WEIGHT_TRIALS if how["weights"] == "optuna" else 0,
        fusion=how["space"],
        per_class=how["per_class"],
        seed=seed,
    )


def _keep(
    at: Running,
    result: EnsembleStudy,
    truth: Annotations,
    names: Sequence[str],
    alone: Mapping[str, PredictionSet],
    worth: Worth | None,
    cost: Sequence[float],
    best: str,
) -> str:
    """Keep findings, figures and both sets of predictions: refitted on all folds, and cross-fitted.

    Returns:
        The findings for people, Markdown.
    """
    pairs = diversity(truth, alone) if worth is not None else ()
    at.recorder.data(study_to_data(result.study), RESULT)
    found = ensemble_record.ensemble_to_data(result, names, pairs, worth, cost)
    at.recorder.data(found, ensemble_record.RESULT)
    page = at.recorder.folder / ensemble_record.PAGE
    text = ensemble_record.page(found, result.study.metric)
    page.write_text(text)
    at.recorder.artifact(page)
    finals = {OUT_OF_FOLD: apply_steps(result.fused, result.recipe.steps), CROSS_FITTED: result.cross_fitted}
    for name, final in finals.items():
        if final is not None:
            write_predictions(at.recorder.folder / name, final)
            at.recorder.artifact(at.recorder.folder / name)
    at.recorder.metrics(ensemble_record.metrics_of(result, names, worth, best), step=0)
    return text


def _register(
    at: Running,
    wanted: StageInputs,
    members: Sequence[PromotedMember],
    result: EnsembleStudy,
    prepared: upstream.Prepared,
    leaks: Mapping[str, str],
    card: str,
) -> Version:
    session, study = at.session, result.study
    weights, class_weights = ensemble_record.weights_to_data(result.recipe)
    leaves: dict[str, Path] = {}
    places: dict[str, Reference] = {}
    children = []
    maps = (
        [result.score_maps[k] for k in result.recipe.chosen] if result.score_maps else [None] * len(members)
    )
    for item, score_map in zip(members, maps, strict=True):
        tree, folders = member_tree(item, wanted.values["merge_iou"])
        scaled = tree if score_map is None else {"kind": "scores", **score_map.to_data(), "child": tree}
        children.append(scaled)
        leaves |= folders
        places |= {leaf: Reference(item.version.uri, leaf) for leaf in folders}
    fusion = {
        "kind": "fusion",
        **options_to_data(result.recipe.options),
        "weights": weights,
        **({} if class_weights is None else {"class_weights": class_weights}),
        "children": children,
    }
    folder = write_predictor(
        at.recorder.folder / "predictor",
        tree={
            "kind": "steps",
            "name": "ensemble",
            "steps": steps_to_data(result.recipe.steps),
            "child": fusion,
        },
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
        references=places if wanted.values["ensemble"]["carry"] == "references" else None,
        metadata={
            "members": [item.version.uri for item in members],
            "steps": steps_to_data(result.recipe.steps),
        },
        tags={
            **version_tags(believable(study.cross_fitted, study.value), wanted.values["line"]),
            **leaks,
            **generation_tags([item.version.tags for item in members]),
            "hubmap.refitted": repr(float(study.value)),
            "hubmap.data_digest": prepared.digest,
            "hubmap.stage_key": at.run.key,
            "hubmap.members": json.dumps([item.version.uri for item in members]),
            **({PREDICTIONS_ONLY_TAG: "true"} if any(item.is_predictions for item in members) else {}),
            **({COST_TAG: f"{sum(costs(members)):.4g}"} if costs(members) else {}),
            "hubmap.run": at.run.run_id,
        },
        description=f"**Leak level {leak_in_words(leaks)}**, data {prepared.digest[:16]}\n\n{card}",
    )
    return next(item for item in versions(at.run.client, name) if item.number == logged.version)
