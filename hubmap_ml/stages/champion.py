"""Who leads among an experiment's registered ensembles: comparisons recorded as tags, aliases recomputed from tags."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from hubmap_ml.ensembling import (
    AGAINST_TAG,
    FORCED_TAG,
    LINE_TAG,
    Challenge,
    Standing,
    VersionRecord,
    rollback_tag,
    rolled_back_from,
    standing,
)
from hubmap_ml.instances import Annotations, PredictionSet, read_predictions
from hubmap_ml.metrics import compare_sets
from hubmap_ml.spec import InputError
from hubmap_ml.stages import upstream
from hubmap_ml.stages.session import Session
from hubmap_ml.tracking import (
    CHALLENGER,
    CHAMPION,
    Version,
    by_alias,
    get_run,
    point_alias,
    tag_version,
    versions,
)

log = logging.getLogger(__name__)

OUT_OF_FOLD = "out_of_fold"
CROSS_FITTED = "cross_fitted"


def model_name(experiment: str) -> str:
    """Return the registered name of an experiment's ensemble."""
    return f"{experiment}.ensemble"


def who_leads(client: Any, name: str, line: str) -> Standing:
    """Return who leads by the tags of today."""
    return standing([_record(version) for version in versions(client, name)], line=line)


def challenge_tags(
    session: Session,
    client: Any,
    line: str,
    truth: Annotations,
    found: PredictionSet,
    declared: Mapping[str, Any],
) -> dict[str, str]:
    """Return the tags of a version that is about to be made: its comparison with who leads, and whether it is forced.

    Args:
        truth: holds the images of both.
        found: its final predictions, cross-fitted where they can be.
        declared: probability, slide_loss and force, as the experiment says.
    """
    tags = {FORCED_TAG: "true"} if declared["force"] else {}
    name = model_name(session.experiment.name)
    leader = who_leads(client, name, line).champion
    if leader is not None:
        before = _predictions(client, _version(client, name, leader.version))
        if before is not None:
            tags[f"{AGAINST_TAG}{leader.version}"] = _compared(
                session, truth, before, found, declared, leader.version
            ).to_tag()
    return tags


def settle(session: Session, client: Any, line: str) -> Standing:
    """Let the aliases say what the tags say; comparisons that are missing are made first.

    One is missing where two ensembles were made at the same time, or the leader was rolled back meanwhile.
    """
    name = model_name(session.experiment.name)
    tried: set[tuple[int, int]] = set()
    while True:
        missing = [pair for pair in who_leads(client, name, line).missing if pair not in tried]
        if not missing:
            return recompute(client, name, line)
        number, leader = missing[0]
        tried.add(missing[0])
        version = _version(client, name, number)
        after, before = _predictions(client, version), _predictions(client, _version(client, name, leader))
        if after is None or before is None:
            continue
        data = upstream.prepared(session).data
        truth = data.annotations_of(data.images.rows_of(list(after.images.ids)))
        declared = session.experiment.champion.model_dump()
        found = _compared(session, truth, before, after, declared, leader)
        tag_version(client, version, {f"{AGAINST_TAG}{leader}": found.to_tag()})


def recompute(client: Any, name: str, line: str) -> Standing:
    """Point `champion` and `challenger` where the tags say.

    Whoever writes reads again afterwards: the last of several writers at once has seen what all of them saw.
    """
    while True:
        found = who_leads(client, name, line)
        for alias, record in ((CHAMPION, found.champion), (CHALLENGER, found.challenger)):
            point_alias(
                client, name, alias, None if record is None else _version(client, name, record.version)
            )
        if who_leads(client, name, line) == found:
            return found


def roll_back(client: Any, experiment: str, to: int | None, why: str) -> tuple[int, int]:
    """Let an earlier version of an experiment's ensemble lead again.

    Args:
        to: its number; by default the one that led before.
        why: kept with the decision.

    Returns:
        The version that led, and the one that leads now.

    Raises:
        InputError: no reason, nobody leads, no such version, or one that may not lead.
    """
    if not why.strip():
        raise InputError("rollback: say why (--why TEXT): the reason is kept with the version")
    name = model_name(experiment)
    shown = by_alias(client, name, CHAMPION)
    line = str(shown.tags.get(LINE_TAG, ""))
    found = recompute(client, name, line)
    assert found.champion is not None
    leads = found.champion.version
    if leads != shown.number == rolled_back_from(found.champion.tags) and to in (None, leads):
        return shown.number, leads  # an earlier call broke off before the alias moved
    if to is None:
        if len(found.history) < 2:
            raise InputError(
                f"{name}: version {leads} is the first that leads on this data; name another with --to VERSION"
            )
        to = found.history[-2]
    known = {version.number: version for version in versions(client, name)}
    if to not in known:
        raise InputError(f"{name} has no version {to}; there are {', '.join(map(str, known))}")
    if standing([_record(known[to])], line=line).champion is None:
        raise InputError(
            f"{name} version {to} may not lead: it did not pass, is of other data, or predicts known images only"
        )
    if to == leads:
        raise InputError(f"{name}: version {to} leads already")
    tag_version(
        client, known[to], rollback_tag(to, max(known), why.strip(), time_ns=time.time_ns(), leads=leads)
    )
    now = recompute(client, name, line).champion
    assert now is not None
    return leads, now.version


def _compared(
    session: Session,
    truth: Annotations,
    before: PredictionSet,
    after: PredictionSet,
    declared: Mapping[str, Any],
    leader: int,
) -> Challenge:
    names = f"version {leader}", "the new version"
    found = compare_sets(
        session.experiment.metric,
        truth,
        dict(zip(names, (before, after), strict=True)),
        seed=session.experiment.seed,
    )
    gain = found.gains[0]
    return Challenge(
        gain=gain.value,
        probability=gain.probability,
        worst_slide=gain.worst_value,
        asked=declared["probability"],
        slide_loss=declared["slide_loss"],
        words=gain.in_words(),
    )


def _predictions(client: Any, version: Version) -> PredictionSet | None:
    """Return a version's final predictions of held-out images, cross-fitted where there are such; None if gone."""
    for name in (CROSS_FITTED, OUT_OF_FOLD):
        try:
            return read_predictions(get_run(client, version.run_id).artifact(name))
        except InputError as error:
            problem = error
    log.warning("%s cannot be compared: %s", version.uri, problem)
    return None


def _version(client: Any, name: str, number: int) -> Version:
    return next(version for version in versions(client, name) if version.number == number)


def _record(version: Version) -> VersionRecord:
    return VersionRecord(version.name, version.number, version.tags)
