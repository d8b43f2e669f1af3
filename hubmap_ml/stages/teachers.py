"""Who makes pseudo-labels: members' networks of a fold, or a registered version; opened, and asked about images."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hubmap_ml.data import PreparedData
from hubmap_ml.ensembling import LabelCounts, LabelRule, chosen_labels, pseudo_labels
from hubmap_ml.fusion import options_from_data
from hubmap_ml.instances import PredictionSet
from hubmap_ml.postprocess import candidate_steps, parse_steps, steps_to_data
from hubmap_ml.predictor import Predictor, members_of, network_digests, open_predictor, write_predictor
from hubmap_ml.serving import load_predictor
from hubmap_ml.spec import InputError, StageInputs
from hubmap_ml.stages import splits, upstream
from hubmap_ml.stages.finetune import check_fold
from hubmap_ml.stages.promote import REFIT_RUNS_TAG, member_tree
from hubmap_ml.stages.record import TAKEN_IN_TAG
from hubmap_ml.stages.session import Session
from hubmap_ml.tracking import CHAMPION, STAGE, UPSTREAM, FoundRun, Version, by_uri, get_run, open_store

Labels = tuple[PredictionSet, LabelCounts]


class Teachers(Protocol):
    """Somebody who labels."""

    def label(self, data: PreparedData, rows: splits.Rows) -> Labels:
        """Return the labels of some images, an entry for each of them; and what was dropped."""
        ...

    def to_data(self) -> list[dict[str, Any]]:
        """Return who it is, with the runs that trained the networks and the digests of their weights."""
        ...


@dataclass(frozen=True)
class Members:
    """Members of the experiment, whose candidates are fused by the rule.

    Attributes:
        predictors: opened, by member; candidates with soft masks.
        runs: which trained their networks, by member.
        rule: how candidates become labels.
        weights: of some members; the others' is 1.
    """

    predictors: Mapping[str, Predictor]
    runs: Mapping[str, Sequence[FoundRun]]
    rule: LabelRule
    weights: Mapping[str, float] | None

    def label(self, data: PreparedData, rows: splits.Rows) -> Labels:
        """Fuse what each of them finds."""
        names = list(self.predictors)
        weights = None if self.weights is None else [self.weights.get(name, 1.0) for name in names]
        opinions = [one.predict(data.sources(rows)) for one in self.predictors.values()]
        return pseudo_labels(opinions, self.rule, names=names, weights=weights)

    def to_data(self) -> list[dict[str, Any]]:
        """Return one entry a member."""
        return [_entry(name, self.runs[name], one) for name, one in self.predictors.items()]


@dataclass(frozen=True)
class Registered:
    """A registered version, which fuses its members its own way.

    Attributes:
        uri: ``models:/NAME/NUMBER``.
        predictor: opened.
        runs: which trained its networks.
        rule: which of its instances become labels.
    """

    uri: str
    predictor: Predictor
    runs: Sequence[FoundRun]
    rule: LabelRule

    def label(self, data: PreparedData, rows: splits.Rows) -> Labels:
        """Take what it predicts; its members agree on what lies in one cluster of its fusion."""
        if self.rule.agreement > 1:
            found, agreed = self.predictor.predict_agreed(data.sources(rows))
        else:
            found = self.predictor.predict(data.sources(rows))
            agreed = np.ones(len(found), np.int64)
        return chosen_labels(found, agreed, self.rule)

    def to_data(self) -> list[dict[str, Any]]:
        """Return its one entry."""
        return [_entry(self.uri, self.runs, self.predictor)]


def rule_of(wanted: StageInputs) -> LabelRule:
    """Return the rule that the inputs declare."""
    values = wanted.values
    return LabelRule(
        options_from_data(values),
        score=values["score"],
        agreement=values["agreement"],
        mask_threshold=values["mask_threshold"],
        min_area=values["min_area"],
    )


def taught_by(session: Session, labels: str, model: str) -> Session:
    """Return the session with a registered version as the one teacher of some labels.

    Students find what it makes once the experiment names the same version (``model: models:/NAME/NUMBER``).

    Args:
        model: ``champion``, the experiment's own, ``models:/NAME@ALIAS`` or ``models:/NAME/NUMBER``.

    Raises:
        InputError: there is no such version.
    """
    experiment = session.experiment
    uri = f"models:/{experiment.name}.ensemble@{CHAMPION}" if model == CHAMPION else model
    version = by_uri(open_store(), uri)
    block = experiment.pseudo_label[labels].model_copy(update={"teachers": None, "model": version.uri})
    blocks = {**experiment.pseudo_label, labels: block}
    return replace(session, experiment=experiment.model_copy(update={"pseudo_label": blocks}))


def networks_of(
    session: Session, labels: str, fold: int, prepared: upstream.Prepared
) -> dict[str, tuple[FoundRun, ...]]:
    """Return the trainings of each teacher's networks for a fold's students, by member or by a version's address.

    Raises:
        InputError: a member without such a network, or a version that does not say what trained it.
    """
    block = session.experiment.pseudo_label[labels]
    if block.model is not None:
        client = open_store()
        return {block.model: tuple(networks_behind(client, by_uri(client, block.model)))}
    found: dict[str, tuple[FoundRun, ...]] = {}
    for teacher in block.teachers or ():
        folds = splits.teaching_folds(session, labels, teacher, fold)
        for k in folds:
            check_fold(session, teacher, k)
        found[teacher] = tuple(upstream.finetuned(session, teacher, k, prepared) for k in folds)
    return found


def networks_behind(client: Any, version: Version) -> list[FoundRun]:
    """Return the trainings whose networks a registered version predicts with, those of all its members.

    Raises:
        InputError: a member of it does not say which, or was made elsewhere; what its networks saw cannot be told then.
    """
    members = json.loads(version.tags.get("hubmap.members", "[]"))
    each = [by_uri(client, uri) for uri in members] or [version]
    found: dict[str, FoundRun] = {}
    for member in each:
        trained: list[FoundRun] = []
        named = member.tags.get(REFIT_RUNS_TAG) or member.tags.get("hubmap.predict_runs", "")
        for predicted in (run_id for run_id in named.split(",") if run_id):
            upstream_runs = get_run(client, predicted).tags.get(UPSTREAM, "").split(",")
            came_from = [get_run(client, run_id) for run_id in upstream_runs if run_id]
            trained += [run for run in came_from if run.tags.get(STAGE) == "finetune"]
        if not trained or any(run.tags.get(TAKEN_IN_TAG) == "true" for run in trained):
            raise InputError(
                f"{member.uri} does not say what trained it, or was made elsewhere, so what its labels have "
                "seen cannot be told; name a version that promote or ensemble registered of members trained here"
            )
        found |= {run.run_id: run for run in trained}
    return list(found.values())


def opened(
    session: Session,
    wanted: StageInputs,
    networks: Mapping[str, tuple[FoundRun, ...]],
    data: PreparedData,
    folder: Path,
) -> Teachers:
    """Open those who label.

    Args:
        session: experiment and settings.
        wanted: inputs of `pseudo-label`.
        networks: as `networks_of` gives them.
        data: what is labelled.
        folder: where members' predictors are put together.

    Raises:
        InputError: more agreement is asked for than a version has members, or its classes differ from the data's.
    """
    rule = rule_of(wanted)
    uri = wanted.values["model"]
    if uri is None:
        predictors = {
            name: _member(session, wanted, name, runs, data, folder / name) for name, runs in networks.items()
        }
        return Members(predictors, networks, rule, wanted.values["weights"])
    predictor = load_predictor(uri, device=session.device)
    members = len(members_of(predictor.tree))
    if rule.agreement > members:
        raise InputError(
            f"agreement of {rule.agreement} is asked for and {uri} has {members} members; "
            f"it may be 1 to {members}"
        )
    known, wished = (
        [one.name for one in side] for side in (predictor.categories, data.annotations.categories)
    )
    if known != wished:
        raise InputError(f"{uri} knows the classes {', '.join(known)}, the data have {', '.join(wished)}")
    return Registered(uri, predictor, networks[uri], rule)


def _member(
    session: Session,
    wanted: StageInputs,
    member: str,
    runs: tuple[FoundRun, ...],
    data: PreparedData,
    folder: Path,
) -> Predictor:
    """Open a member's networks as one predictor of candidates: views and folds merged, masks soft."""
    checkpoint = wanted.values["checkpoints"][member]
    leaves = [f"leaves/{run.run_id}" for run in runs]
    steps = steps_to_data(candidate_steps(parse_steps(wanted.values["postprocess"])))
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_predictor(
        folder,
        tree=member_tree(session, member, list(steps), leaves),
        leaves={
            leaf: run.artifact(f"checkpoints/{checkpoint}") for leaf, run in zip(leaves, runs, strict=True)
        },
        categories=data.annotations.categories,
    )
    return open_predictor(folder, session.device)


def _entry(name: str, runs: Sequence[FoundRun], predictor: Predictor) -> dict[str, Any]:
    return {
        "name": name,
        "runs": [run.run_id for run in runs],
        "weights": network_digests(predictor.folder),
    }
