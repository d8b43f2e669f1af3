"""`status`: what runs, what failed and why, and what is best; from the store alone, nothing is computed or changed."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hubmap_ml.ensembling import HEADLINE_TAG, PROXY_TAG
from hubmap_ml.metrics import Interval
from hubmap_ml.stages.leaks import in_words as leak_in_words
from hubmap_ml.tracking import (
    CHAMPION,
    FailedRun,
    FoundRun,
    LiveRun,
    Version,
    failed_runs,
    leading_versions,
    live_runs,
    newest_of_each_member,
    open_store,
    search,
)

SCORE = "score/cross_fitted"


@dataclass(frozen=True)
class Best:
    """A member or ensemble, and how good it is.

    Attributes:
        what: ``champion v3``, ``promoted v2``, or ``not promoted``.
        score: out of fold, cross-fitted where there are folds to.
        interval: 95 % on these slides, where its run keeps one.
        leak_level: in words.
        proxy_of: whose score it is, where it has none of its own.
        run_id: that the score is from.
    """

    experiment: str
    name: str
    what: str
    score: float | None
    interval: Interval
    leak_level: str
    proxy_of: str
    run_id: str


@dataclass(frozen=True)
class Status:
    """What the store holds."""

    running: tuple[LiveRun, ...]
    failed: tuple[FailedRun, ...]
    best: tuple[Best, ...]

    def to_data(self) -> dict[str, Any]:
        """Return all of it as JSON-able data."""
        return dataclasses.asdict(self)


def run(experiment: str = "") -> Status:
    """Look at the store.

    Args:
        experiment: name of one experiment; empty is all of them.
    """
    client = open_store()
    best = []
    for name, alias, version in leading_versions(client):
        if experiment in ("", name):
            best.append(_of_version(client, name, alias, version))
    known = {(item.experiment, item.name) for item in best}
    for tuned in newest_of_each_member(client, "tune", experiment):
        one = _of_study(tuned)
        if (one.experiment, one.name) not in known:
            best.append(one)
    return Status(tuple(live_runs(client, experiment)), tuple(failed_runs(client, experiment)), tuple(best))


def _of_version(client: Any, experiment: str, alias: str, version: Version) -> Best:
    tags = version.tags
    run_id = version.run_id if alias == CHAMPION else tags.get("hubmap.tune_run", version.run_id)
    found = search(f"attributes.run_id = '{run_id}'", client=client, limit=1)
    return Best(
        experiment,
        version.name.removeprefix(f"{experiment}."),
        f"{alias} v{version.number}",
        _number(tags.get(HEADLINE_TAG)),
        _interval(found[0].metrics if found else {}),
        leak_in_words(tags),
        tags.get(PROXY_TAG, ""),
        run_id,
    )


def _of_study(tuned: FoundRun) -> Best:
    return Best(
        tuned.tags.get("hubmap.experiment", ""),
        tuned.tags.get("hubmap.member", ""),
        "not promoted",
        tuned.metrics.get("headline"),
        _interval(tuned.metrics),
        leak_in_words(tuned.tags),
        "",
        tuned.run_id,
    )


def _interval(metrics: Mapping[str, float]) -> Interval:
    low, high = metrics.get(f"{SCORE}_low"), metrics.get(f"{SCORE}_high")
    if low is None or high is None:
        return Interval(None, None, "not estimated")
    return Interval(low, high, "on these slides")


def _number(text: str | None) -> float | None:
    value = float(text) if text else None
    return value if value is not None and value == value else None
