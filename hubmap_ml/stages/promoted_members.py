"""The promoted members as an ensemble takes them: their versions, studies, out-of-fold candidates and trees."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubmap_ml.ensembling import KNOWS_TEST_TAG, LINE_TAG, MemberSteps, members_named
from hubmap_ml.instances import PredictionSet
from hubmap_ml.postprocess import candidate_steps, parse_steps
from hubmap_ml.predictor import Merge, Steps, leaves_of, node_to_data, nodes_of, read_manifest
from hubmap_ml.spec import InputError
from hubmap_ml.stages import promote
from hubmap_ml.stages.session import Session
from hubmap_ml.stages.tune import read_study
from hubmap_ml.tracking import PROMOTED, FoundRun, Version, by_alias, folder_of, get_run
from hubmap_ml.tuning import with_setting

log = logging.getLogger(__name__)

COST_TAG = "hubmap.s_per_image"


@dataclass(frozen=True)
class PromotedMember:
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

    @property
    def is_predictions(self) -> bool:
        """Whether it is predictions alone, made elsewhere."""
        return KNOWS_TEST_TAG in self.version.tags

    @property
    def seconds(self) -> float | None:
        """What an image costs: as `promote` measured it, nothing where predictions are only looked up; None unknown."""
        cost = "0" if self.is_predictions else self.version.tags.get(COST_TAG)
        return None if cost is None else float(cost)


def promoted_members(session: Session, client: Any, standing: str) -> list[PromotedMember]:
    """Return the members that are promoted now, in the experiment's order.

    Raises:
        InputError: none is.
    """
    found = []
    for member, version in promoted_versions(session, client, standing).items():
        study = read_study(get_run(client, version.tags["hubmap.tune_run"]))
        runs, refit = (
            [get_run(client, run_id) for run_id in version.tags.get(tag, "").split(",") if run_id]
            for tag in ("hubmap.predict_runs", promote.REFIT_RUNS_TAG)
        )
        found.append(PromotedMember(member, version, study, runs, refit))
    return found


def promoted_versions(session: Session, client: Any, standing: str) -> dict[str, Version]:
    """Return the promoted version of each member that has one in this line.

    An external member that came without the test images' predictions is left out: an ensemble could not use it.

    Raises:
        InputError: no member has; or one that ``ensemble.fixed`` names.
    """
    found = {}
    for member in session.experiment.members:
        try:
            version = by_alias(client, promote.model_name(session, member), PROMOTED)
        except InputError:
            continue
        if version.tags.get(LINE_TAG) == standing:
            found[member] = version
    for member in [name for name, version in found.items() if version.tags.get(KNOWS_TEST_TAG) == "false"]:
        log.warning("%s is left out: it came without predictions of the test images", found.pop(member).uri)
    if not found:
        raise InputError(
            f"experiment {session.experiment.name!r} has no promoted member for this data, metric and folds; run "
            f"'mlflow run . -e promote -P experiment={session.experiment.name}' first"
        )
    fixed = session.experiment.ensemble.fixed
    if fixed is not None:
        members_named(list(found), fixed)
        return {member: found[member] for member in fixed}
    return found


def on_same_images(candidates: Sequence[PredictionSet]) -> list[PredictionSet]:
    """Bring all members to the images that every one of them predicted, in the first one's order."""
    common = set(candidates[0].images.ids)
    for item in candidates[1:]:
        common &= set(item.images.ids)
    if not common:
        raise InputError("the promoted members have no held-out image in common; give them the same folds")
    names = [name for name in candidates[0].images.ids if name in common]
    return [item.take_images(item.images.rows_of(names)) for item in candidates]


def member_steps(study: Mapping[str, Any]) -> MemberSteps:
    """Read a member's steps from its study: those fitted on all folds, and those that each fold's others chose."""
    steps = parse_steps(study["best_steps"])
    chosen = zip(study["folds"], study["chosen"], strict=True)
    return MemberSteps(
        steps, {fold: with_setting(steps, setting) for fold, setting in chosen if setting is not None}
    )


def member_tree(item: PromotedMember, merge_iou: float) -> tuple[dict[str, Any], dict[str, Path]]:
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


def costs(members: Sequence[PromotedMember]) -> tuple[float, ...]:
    """Return the seconds an image of each member; () where they are not known of all."""
    found = [item.seconds for item in members]
    return tuple(cost for cost in found if cost is not None) if None not in found else ()
