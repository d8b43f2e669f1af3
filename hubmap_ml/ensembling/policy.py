"""Which ensemble leads: the champion policy as a pure function of version tags.

A new version is compared, paired on common images, with the one that leads at its making; what the comparison found and
what the experiment asked of it stand in the version's tags. Walking through the versions in their order with these tags
gives the leader at any time: recomputing it is the repair after a crash, and two calls that see the same tags agree.

A version takes the lead if it is the first of its line, if it was forced, or if P(gain > 0) on these slides reaches the
asked probability and no slide loses more than the allowed. Else it is the challenger, until another comes. A rollback
is a tag too, on the version that leads again; it counts from when it was made.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hubmap_ml.ensembling.gate import VersionRecord

AGAINST_TAG = "hubmap.against."
"""Prefix: ``hubmap.against.3`` holds the comparison with version 3."""

FORCED_TAG = "hubmap.forced"
ROLLBACK_TAG = "hubmap.rollback."
"""Prefix: the time in nanoseconds follows, which orders rollbacks."""

PREDICTIONS_ONLY_TAG = "hubmap.predictions_only"
WHY_AT_MOST = 500


@dataclass(frozen=True)
class Challenge:
    """A comparison of a version with the one that led.

    Attributes:
        gain: difference of the cross-fitted scores on the images that both predicted.
        probability: P(gain > 0) on these slides; NaN where that is not estimable.
        worst_slide: gain on the slide that lost most; NaN where no slides are known.
        asked: least probability that was asked for.
        slide_loss: how much a slide was allowed to lose.
        words: the comparison as a sentence.
    """

    gain: float
    probability: float
    worst_slide: float
    asked: float
    slide_loss: float
    words: str = ""

    @property
    def won(self) -> bool:
        """Whether the newer version takes the lead; what is not estimable does not."""
        return self.probability >= self.asked and not self.worst_slide < -self.slide_loss

    def to_tag(self) -> str:
        """Return the tag's value."""
        return json.dumps(
            {name: None if value != value else value for name, value in vars(self).items()}, sort_keys=True
        )


@dataclass(frozen=True)
class Rollback:
    """A decision to let an earlier version lead again.

    Attributes:
        to: its number.
        after: the newest version at that time.
        why: in the words of who decided.
    """

    to: int
    after: int
    why: str


@dataclass(frozen=True)
class Standing:
    """Who leads.

    Attributes:
        champion: the leader; None where no version of the line may lead.
        challenger: the newest version that was made after the last change of lead and did not take it.
        history: the versions that led, the present one last; a rollback takes away what came after.
        missing: (version, leader) whose comparison is in no tag; such a version does not lead.
    """

    champion: VersionRecord | None = None
    challenger: VersionRecord | None = None
    history: tuple[int, ...] = ()
    missing: tuple[tuple[int, int], ...] = field(default=())


def may_lead(record: VersionRecord, line: str) -> bool:
    """Whether a version passed, belongs to the line and predicts any image."""
    return record.may_stand(line) and record.tags.get(PREDICTIONS_ONLY_TAG) != "true"


def standing(versions: Iterable[VersionRecord], *, line: str) -> Standing:
    """Walk through a registered ensemble's versions and return who leads.

    Args:
        versions: of one registered ensemble, in any order; those of other lines stay out.
        line: see ``gate.line_of``.
    """
    known = {record.version: record for record in versions if may_lead(record, line)}
    history: list[int] = []
    missing: list[tuple[int, int]] = []
    challenger: int | None = None
    undone = _rollbacks(known.values())
    for number in sorted(known):
        while undone and undone[0][1].after < number:
            challenger = _roll_back(history, undone.pop(0)[1], challenger)
        if not history or known[number].tags.get(FORCED_TAG) == "true":
            history.append(number)
            challenger = None
            continue
        challenge = challenge_of(known[number].tags, history[-1])
        if challenge is None:
            missing.append((number, history[-1]))
        if challenge is not None and challenge.won:
            history.append(number)
            challenger = None
        else:
            challenger = number
    for _, last in undone:
        challenger = _roll_back(history, last, challenger)
    return Standing(
        known[history[-1]] if history else None,
        None if challenger is None else known[challenger],
        tuple(history),
        tuple(missing),
    )


def challenge_of(tags: Mapping[str, str], leader: int) -> Challenge | None:
    """Read the comparison with a leader from a version's tags; None where there is none."""
    found = _mapping(tags.get(f"{AGAINST_TAG}{leader}"))
    try:
        return Challenge(
            gain=_number(found["gain"]),
            probability=_number(found["probability"]),
            worst_slide=_number(found["worst_slide"]),
            asked=_number(found["asked"]),
            slide_loss=_number(found["slide_loss"]),
            words=str(found.get("words", "")),
        )
    except (KeyError, TypeError, ValueError):
        return None


def rollback_tag(to: int, newest: int, why: str, *, time_ns: int, leads: int = 0) -> dict[str, str]:
    """Return the tag that makes a version lead again; it belongs on that version.

    Args:
        to: the version's number.
        leads: the one that led until now; for people, and to know a call again that broke off.
        newest: the newest version of all: later ones are compared with the one that leads again.
        why: cut at ``WHY_AT_MOST`` characters.
        time_ns: now.
    """
    said = {"to": to, "from": leads, "after": newest, "why": why[:WHY_AT_MOST]}
    return {f"{ROLLBACK_TAG}{time_ns:020d}": json.dumps(said)}


def rolled_back_from(tags: Mapping[str, str]) -> int | None:
    """Return the version that led before the last rollback to the version of these tags; None without one."""
    names = sorted(name for name in tags if name.startswith(ROLLBACK_TAG))
    return _mapping(tags[names[-1]]).get("from") if names else None


def _rollbacks(records: Iterable[VersionRecord]) -> list[tuple[str, "Rollback"]]:
    found = []
    for record in records:
        for name, value in record.tags.items():
            data = _mapping(value) if name.startswith(ROLLBACK_TAG) else {}
            if isinstance(data.get("after"), int):
                found.append((name, Rollback(record.version, data["after"], str(data.get("why", "")))))
    return sorted(found, key=lambda item: (item[0], item[1].to))


def _roll_back(history: list[int], rollback: Rollback, challenger: int | None) -> int | None:
    """Let a version lead again; returns the challenger, whom a change of lead ends."""
    if history and history[-1] == rollback.to:
        return challenger
    if rollback.to in history:
        del history[history.index(rollback.to) + 1 :]
    else:
        history.append(rollback.to)
    return None


def _mapping(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
