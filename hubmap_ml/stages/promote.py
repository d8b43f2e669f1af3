"""`promote`: members that pass the gate become registered versions; the best of them get the alias `promoted`.

The gate (`ensembling.check_member`) tries each predictor in a process of its own and asks it for its recorded
candidates again. What it found stands in the version's tags; the alias is recomputed from tags at every call.
"""

import dataclasses
import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hubmap_ml.ensembling import (
    EXTERNAL_TAG,
    GATE_TAG,
    PROXY_TAG,
    FoldRecord,
    GateResult,
    MemberRecord,
    VersionRecord,
    check_member,
    promoted,
)
from hubmap_ml.predictor import Trial, network_digests, write_predictor
from hubmap_ml.spec import ALL_DATA, InputError
from hubmap_ml.stages import external_members, inputs, splits, upstream
from hubmap_ml.stages.generations import generation_tags
from hubmap_ml.stages.generations import in_words as generation_in_words
from hubmap_ml.stages.leaks import in_words as leak_in_words
from hubmap_ml.stages.leaks import leak_tags, worst_level
from hubmap_ml.stages.predict import DEVICE_TAG
from hubmap_ml.stages.running import Running, running
from hubmap_ml.stages.session import Outcome, Session, open_session
from hubmap_ml.stages.study_record import believable, in_words
from hubmap_ml.stages.trial import Verdict, on_trial
from hubmap_ml.stages.tune import read_study
from hubmap_ml.tracking import PROMOTED, FoundRun, Version, point_alias, register_folder, versions

log = logging.getLogger(__name__)

PROMOTE_KEY = "hubmap.promote_key"
REFIT_RUNS_TAG = "hubmap.refit_predict_runs"


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A member before the gate.

    Attributes:
        study: the threshold study that scores it; of a refit member its recipe's.
        tuned: the study's run.
        scored: runs that hold the out-of-fold candidates of that study.
        predicted: runs of its own networks' predictions; ``scored`` too, unless it is a refit.
        trained: runs of its networks.
    """

    member: str
    study: Mapping[str, Any]
    tuned: FoundRun
    scored: list[FoundRun]
    predicted: list[FoundRun]
    trained: list[FoundRun]

    @property
    def generation(self) -> dict[str, str]:
        """Tags of the pseudo-labels that its networks learnt from."""
        return generation_tags([run.tags for run in self.trained])

    @property
    def behind_the_score(self) -> list[FoundRun]:
        """Prediction runs whose leaks stand beside its scores, out of fold and on the test images."""
        return list({run.run_id: run for run in (*self.scored, *self.predicted)}.values())


def run(
    *,
    experiment: str = "demo",
    raw: str = "",
    set: str = "",
    workers: int = -1,
    device: str = "auto",
    with_upstream: bool = False,
    fresh: bool = False,
    parent: str = "",
) -> Outcome:
    """Promote the members of an experiment (the entry point; see `work`)."""
    return work(
        open_session(
            experiment=experiment,
            raw=raw,
            set=set,
            workers=workers,
            device=device,
            with_upstream=with_upstream,
            fresh=fresh,
            parent=parent,
        )
    )


def model_name(session: Session, member: str) -> str:
    """Return a member's registered name."""
    return f"{session.experiment.name}.{member}"


def work(session: Session) -> Outcome:
    """Examine every member, register those that pass, and recompute the aliases."""
    with running(session, "promote") as at:
        prepared = upstream.prepared(session)
        standing = inputs.line(session, prepared.data)

        def check(found: FoundRun, outcome: Outcome) -> Outcome | None:
            return brought_up_to_date(session, at.run.client, standing, outcome)

        if done := at.reuse(inputs.promote(session, list(session.experiment.members), prepared.data), check):
            return done
        candidates: list[_Candidate] = []
        refused: dict[str, str] = {}
        for member in session.experiment.members:
            try:
                candidates.append(_gather(session, member, prepared))
            except InputError as error:
                refused[member] = str(error)
        wanted = inputs.promote(session, [candidate.member for candidate in candidates], prepared.data)
        at.run.identify(
            wanted,
            upstream_runs=[candidate.tuned.run_id for candidate in candidates],
        )
        there = {} if session.fresh else _registered(session, at.run.client, candidates, prepared)
        results = [
            _examine(at, candidate, prepared) for candidate in candidates if candidate.member not in there
        ]
        refused |= {result.record.member: result.verdict for result in results if not result.passed}
        findings = {result.record.member: result.tags() for result in results}
        findings |= {member: _findings(version) for member, version in there.items()}
        at.recorder.data({"findings": findings, "refused": refused}, "gate.json")
        chosen = recompute_aliases(session, at.run.client, standing)
        if not there and not any(result.passed for result in results):
            raise InputError(f"no member passes the gate: {_told(refused)}")
        there |= _registered(session, at.run.client, candidates, prepared)
        return at.finish(
            _verdict(chosen, refused),
            details={
                "promoted": [version.uri for version in chosen],
                "refused": refused,
                "registered": [version.uri for version in there.values()],
            },
        )


def brought_up_to_date(session: Session, client: Any, standing: str, outcome: Outcome) -> Outcome | None:
    """Return what an earlier call found, with the aliases of today; None where a version of it is gone.

    The aliases are recomputed here too: how many members are promoted is in no key, and recomputing is the repair
    where an earlier call ended between two of them.
    """
    names = [model_name(session, member) for member in session.experiment.members]
    known = {version.uri for name in names for version in versions(client, name)}
    if not known.issuperset(outcome.details["registered"]):
        return None
    chosen = recompute_aliases(session, client, standing)
    return dataclasses.replace(
        outcome,
        verdict=_verdict(chosen, outcome.details["refused"]),
        details={**outcome.details, "promoted": [version.uri for version in chosen]},
    )


def _registered(
    session: Session, client: Any, candidates: Sequence[_Candidate], prepared: upstream.Prepared
) -> dict[str, Version]:
    """Return the newest version of each member that was registered with these very inputs."""
    found = {}
    for candidate in candidates:
        key = _member_key(session, candidate.member, prepared)
        for version in versions(client, model_name(session, candidate.member)):
            if version.tags.get(PROMOTE_KEY) == key:
                found[candidate.member] = version
    return found


def _member_key(session: Session, member: str, prepared: upstream.Prepared) -> str:
    """Return the key of one member's passage through the gate: another member's change makes no new version of it."""
    return inputs.promote(session, [member], prepared.data).key


def _findings(version: Version) -> dict[str, str]:
    return {key: value for key, value in version.tags.items() if key.startswith(GATE_TAG)}


def _verdict(chosen: Sequence[Version], refused: Mapping[str, str]) -> str:
    told = _told(refused)
    return f"promoted: {', '.join(f'{item.name} ({_marks(item.tags)})' for item in chosen)}" + (
        f"; refused: {told}" if told else ""
    )


def _marks(tags: Mapping[str, str]) -> str:
    proxy = f", scored by proxy of {tags[PROXY_TAG]}" if PROXY_TAG in tags else ""
    outside = ", made elsewhere" if tags.get(EXTERNAL_TAG) == "true" else ""
    return f"leak level {leak_in_words(tags)}{proxy}{outside}"


def _told(refused: Mapping[str, str]) -> str:
    return " | ".join(f"{member}: {reason}" for member, reason in refused.items())


def recompute_aliases(session: Session, client: Any, standing: str) -> list[Version]:
    """Point `promoted` of every member where the tags of its versions say; return the promoted versions, best first."""
    names = [model_name(session, member) for member in session.experiment.members]
    known = {(version.name, version.number): version for name in names for version in versions(client, name)}
    records = [VersionRecord(version.name, version.number, version.tags) for version in known.values()]
    best = promoted(records, line=standing, best=session.experiment.promote.best)
    chosen = [known[record.name, record.version] for record in best]
    of_name = {version.name: version for version in chosen}
    for name in names:
        point_alias(client, name, PROMOTED, of_name.get(name))
    return chosen


def member_tree(session: Session, member: str, steps: list[Any], leaves: Sequence[str]) -> dict[str, Any]:
    """Return a member's part of a predictor tree: views, folds, then its tuned steps.

    Args:
        session: experiment and settings.
        member: its name.
        steps: post-processing as data.
        leaves: the networks' folders inside the predictor, one a fold.
    """
    how = session.experiment.members[member].predict
    merge = {"rule": "match_mean", "iou_threshold": session.experiment.merge_iou}
    folds = []
    for leaf in leaves:
        network = {
            "kind": "network",
            "path": leaf,
            "views": list(how.views),
            "scales": list(how.scales) if how.scales else None,
            "score": how.score,
            "dedupe_iou": how.dedupe_iou,
            "max_per_image": how.max_per_image,
            "batch": how.batch,
            "in_network": how.merge == "in_network",
        }
        rule = "match_mean" if how.merge == "in_network" else how.merge
        folds.append({"kind": "views", **merge, "rule": rule, "children": [network]})
    return {
        "kind": "steps",
        "name": member,
        "steps": steps,
        "child": {"kind": "folds", **merge, "children": folds},
    }


def _gather(session: Session, member: str, prepared: upstream.Prepared) -> _Candidate:
    tuned = upstream.tuned(session, member, prepared)
    scored = upstream.predictions_of(session, session.experiment.recipe_of(member), prepared)
    predicted = upstream.predictions_of(session, member, prepared)
    folds = () if session.experiment.members[member].is_predictions else session.experiment.folds_of(member)
    trained = [upstream.finetuned(session, member, fold, prepared) for fold in folds]
    return _Candidate(member, read_study(tuned), tuned, scored, predicted, trained)


def _examine(at: Running, candidate: _Candidate, prepared: upstream.Prepared) -> GateResult:
    session, member = at.session, candidate.member
    if session.experiment.members[member].is_predictions:
        return external_members.examine(
            at,
            member,
            name=model_name(session, member),
            study=candidate.study,
            tuned=candidate.tuned,
            taken_in=candidate.scored[0],
            prepared=prepared,
            tags={PROMOTE_KEY: _member_key(session, member, prepared), **_interval_tags(candidate.tuned)},
        )
    recipe = session.experiment.recipe_of(member)
    checkpoint = session.experiment.members[member].finetune.checkpoint
    folds = session.experiment.folds_of(member)
    leaves = [f"leaves/{member}_{'all' if fold == ALL_DATA else f'fold{fold}'}" for fold in folds]
    folder = at.recorder.folder / "members" / member
    folder.parent.mkdir(parents=True, exist_ok=True)
    digests: dict[str, str] = {}
    problem, verdict = "", Verdict(Trial("was not made"), {})
    try:
        networks = [run.artifact(f"checkpoints/{checkpoint}") for run in candidate.trained]
        write_predictor(
            folder,
            tree=member_tree(session, member, candidate.study["best_steps"], leaves),
            leaves=dict(zip(leaves, networks, strict=True)),
            categories=prepared.data.annotations.categories,
            properties={"member": member, "tune_run": candidate.tuned.run_id},
        )
        digests = network_digests(folder)
        of_leaf = dict(zip(leaves, candidate.predicted, strict=True))
        verdict = on_trial(session, folder, of_leaf, prepared.data, member)
    except InputError as error:
        problem = str(error)
    scores = candidate.study["fold_values"] if recipe == member else [candidate.study["value"]]
    records = tuple(
        FoldRecord(fold, run.run_id, digests.get(leaf, ""), math.nan if score is None else score, problem)
        for fold, run, leaf, score in zip(folds, candidate.trained, leaves, scores, strict=True)
    )
    headline = believable(candidate.study["cross_fitted"], candidate.study["value"])
    record = MemberRecord(
        member,
        folds,
        records,
        headline,
        inputs.line(session, prepared.data),
        worst_level(candidate.scored),
        "" if recipe == member else model_name(session, recipe),
        verdict.trial.problem,
        verdict.in_words,
        verdict.reproduces,
        splits.overlap(session, member, prepared.data),
    )
    gate = session.experiment.promote
    result = check_member(record, min_score=gate.min_score, min_overlap=gate.min_overlap)
    if result.passed:
        card = _card(session, candidate, record, prepared, verdict.trial)
        (folder / "card.md").write_text(card)
        at.run.client.log_artifacts(at.run.run_id, str(folder), f"members/{member}")
        register_folder(
            at.run.client,
            name=model_name(session, member),
            run_id=at.run.run_id,
            artifact=f"members/{member}",
            tags={
                **result.tags(),
                **leak_tags(candidate.behind_the_score),
                **_cost_tags(verdict.trial),
                **_interval_tags(candidate.tuned),
                **({} if session.experiment.members[member].kind == "trained" else {EXTERNAL_TAG: "true"}),
                **candidate.generation,
                PROMOTE_KEY: _member_key(session, member, prepared),
                "hubmap.member": member,
                "hubmap.data_digest": prepared.digest,
                "hubmap.refitted": repr(float(candidate.study["value"])),
                "hubmap.stage_key": candidate.tuned.key
                if recipe == member
                else _member_key(session, member, prepared),
                "hubmap.tune_run": candidate.tuned.run_id,
                "hubmap.predict_runs": ",".join(run.run_id for run in candidate.scored),
                **(
                    {}
                    if recipe == member
                    else {REFIT_RUNS_TAG: ",".join(run.run_id for run in candidate.predicted)}
                ),
            },
            description=card,
        )
    return result


def _interval_tags(tuned: FoundRun) -> dict[str, str]:
    """The 95 % interval of the cross-fitted score on these slides; nothing where the study could not tell one."""
    ends = {tag: tuned.metrics.get(f"score/cross_fitted_{tag}") for tag in ("low", "high")}
    return {f"hubmap.score_{tag}": repr(float(end)) for tag, end in ends.items() if end is not None}


def _cost_tags(trial: Trial) -> dict[str, str]:
    return {
        "hubmap.parameters": str(trial.parameters),
        "hubmap.s_per_image": f"{trial.seconds:.4g}",
        "hubmap.peak_mib": f"{trial.peak_mib:.0f}",
        DEVICE_TAG: trial.device,
    }


def _card(
    session: Session, candidate: _Candidate, record: MemberRecord, prepared: upstream.Prepared, trial: Trial
) -> str:
    metric = session.experiment.metric
    study = candidate.study
    proxy = f" by proxy of {record.proxy_of}" if record.proxy_of else ""
    ends = [float(end) for end in _interval_tags(candidate.tuned).values()]
    interval = f" (95 % on these slides {ends[0]:.3f} to {ends[1]:.3f})" if len(ends) == 2 else ""
    return "\n".join(
        [
            f"# {model_name(session, record.member)}",
            "",
            f"**{metric} {in_words(study['cross_fitted'], study['value'])}{interval}{proxy}, leak level "
            f"{leak_in_words(leak_tags(candidate.behind_the_score))}**; "
            f"{'trained on all data' if proxy else f'{len(record.folds)} folds'}; "
            f"{study['base_value']:.3f} before tuning.",
            "",
            f"- own cross-validation: {record.own_cv}",
            f"- cost: {trial.parameters / 1e6:.1f} million parameters, {trial.seconds:.2f} s an image on "
            f"{trial.device} (all folds and views), {trial.peak_mib:.0f} MiB",
            f"- gate: {record.reproduction}",
            f"- post-processing: `{json.dumps(study['best_steps'])}`",
            f"- networks trained by runs: {', '.join(run.run_id for run in candidate.trained)}",
            *([f"- learnt from {learnt}"] if (learnt := generation_in_words(candidate.generation)) else []),
            f"- out-of-fold candidates: {', '.join(run.run_id for run in candidate.scored)}",
            f"- thresholds: {candidate.tuned.run_id}",
            f"- data: {prepared.digest[:16]}",
        ]
    )
