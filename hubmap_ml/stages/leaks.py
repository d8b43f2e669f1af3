"""Leaks of a fold's score: what the fold's network was ever trained on, against the images that score it.

Each training run keeps the list of its training images, after those of the run that it started from; so the list of
the last run tells all that its weights have seen, stage 1 included, and what the weights had seen that it started from
in place of random ones (see `weight_origins`). (Images that only chose an epoch are not in it.)
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hubmap_ml.data import LeakReport, PreparedData, beside, leak_report, open_prepared
from hubmap_ml.data.fingerprints import Fingerprints
from hubmap_ml.instances import Images
from hubmap_ml.spec import LEAK_TAG, InputError, LeakLevel
from hubmap_ml.stages.running import Running
from hubmap_ml.tracking import FoundRun, get_run

log = logging.getLogger(__name__)

TRAINING_IMAGES = "training_images.json"
TEACHER = (
    "teacher "  # begins the name of a stage that trained not the network but one that labelled images for it
)
REPORT = "leaks.json"
# Keys of a part of the list: the run that prepared its images, where they may be other data; and, of a part without
# images, weights of which nobody knows what they have seen.
PREPARED_BY, UNKNOWN = "prepared_by", "unknown"
TEST_LEAK_TAG = f"{LEAK_TAG}_test"
UNPLACED = "_slides_unknown"  # ends the tag that says whether a level could not look at slides


def record_training_images(
    at: Running,
    stage: str,
    ids: Iterable[str],
    *,
    start: FoundRun | None,
    weights: Sequence[Mapping[str, Any]] = (),
    taught: FoundRun | None = None,
    declared: LeakLevel | None = None,
) -> None:
    """Keep the list of all images that a training's weights will have seen.

    Args:
        at: the training's run.
        stage: its name.
        ids: of the images that this training learns from.
        start: the run whose weights it starts from; None for random weights and for named ones.
        weights: what named ones have seen (`weight_origins.seen_by`).
        taught: the run that made pseudo-labels for it: what its teachers saw speaks through these.
        declared: of a network from elsewhere, the least level of whatever it or its students predict.
    """
    earlier = list(weights) if start is None else _training_images(start)
    earlier = [*([] if taught is None else _training_images(taught)), *earlier]
    own = {"stage": stage, "run": at.run.run_id, "images": [str(name) for name in ids]}
    if declared is not None:
        own["declared"] = str(declared)
    at.recorder.data([*earlier, own], TRAINING_IMAGES)


def record_teachers_images(at: Running, networks: Iterable[FoundRun]) -> None:
    """Keep the list of all that networks have seen which label images for others, their own teachers included."""
    parts: dict[tuple[str, str], dict[str, Any]] = {}
    for run in networks:
        for part in _training_images(run):
            stage = TEACHER + part["stage"].removeprefix(TEACHER)
            parts[part["run"], stage] = {**part, "stage": stage}
    at.recorder.data(list(parts.values()), TRAINING_IMAGES)


def _all_seen(
    data: PreparedData, run: FoundRun
) -> tuple[Images, Fingerprints, dict[str, list[str]], list[str]]:
    """Return a table of our images and of others that a run's weights have seen, its fingerprints, the seen ids in it
    by stage, and the weights of which nobody knows.
    """
    images, prints = data.images, data.fingerprints
    seen: dict[str, list[str]] = {}
    unknown = []
    for part in _training_images(run):
        ids = [str(name) for name in part["images"]]
        if UNKNOWN in part:
            unknown.append(str(part[UNKNOWN]))
        if PREPARED_BY in part:
            other = open_prepared(get_run(run.client, part[PREPARED_BY]).artifact("prepared"))
            if other.digest != data.digest:
                rows = other.images.rows_of(ids)
                images, prints, known = beside(
                    images,
                    prints,
                    other.images.take(rows),
                    other.fingerprints.take(rows),
                    name=f"{part['run'][:12]}",
                )
                ids = [known[name] for name in ids]
        seen.setdefault(part["stage"], []).extend(ids)
    return images, prints, seen, unknown


def declared_level(run: FoundRun) -> LeakLevel:
    """Return the worst level that is declared of networks from elsewhere, its own weights' or its teachers'."""
    declared = [part["declared"] for part in _training_images(run) if "declared" in part]
    return LeakLevel.worst([LeakLevel.NONE, *map(LeakLevel.named, declared)])


def report_leaks(
    at: Running,
    data: PreparedData,
    trained: FoundRun,
    *,
    held_out: Sequence[str],
    test: Sequence[str],
) -> dict[str, str]:
    """Compare what scores a fold's network with what it has seen, and keep the result in the run.

    The table goes to ``leaks.json``, the levels into tags, numbers of pairs into metrics ``leak/KIND_pairs`` (of the
    held-out images) and ``leak_test/KIND_pairs``.

    Args:
        at: the run that predicts.
        data: what all images are of.
        trained: the run that trained the network.
        held_out: ids of the images held out from it.
        test: ids of the test images.

    Returns:
        The tags: the levels of both, none lower than what is declared of networks from elsewhere.
    """
    images, prints, seen, unknown = _all_seen(data, trained)
    declared = declared_level(trained)
    reports: dict[str, LeakReport] = {}
    for name, scored, metric in (("out_of_fold", held_out, "leak"), ("test", test, "leak_test")):
        found = leak_report(images, prints, scored=scored, seen=seen)
        at.recorder.metrics({f"{metric}/{kind}_pairs": n for kind, n in found.counts.items()}, step=0)
        reports[name] = found
    said: dict[str, Any] = {name: found.to_data() for name, found in reports.items()}
    at.recorder.data(said | ({"unknown_weights": unknown} if unknown else {}), REPORT)
    tags: dict[str, str] = {}
    for tag, found in ((LEAK_TAG, reports["out_of_fold"]), (TEST_LEAK_TAG, reports["test"])):
        tags |= {
            tag: str(LeakLevel.worst([found.level, declared])),
            tag + UNPLACED: str(found.unplaced > 0).lower(),
        }
    at.run.tag(tags)
    if reports["out_of_fold"].level.voids_a_score:
        first = reports["out_of_fold"].pairs.iloc[0]
        log.warning(
            "held-out image %s is no new one: %s of %s through %s (%s)",
            first["scored"],
            first["kind"],
            first["seen"],
            first["through"],
            REPORT,
        )
    return tags


def worst_level(runs: Iterable[FoundRun], *, tag: str = LEAK_TAG) -> LeakLevel:
    """Return the worst level in the tags of some prediction runs.

    Raises:
        InputError: a run without a level.
    """
    levels = []
    for run in runs:
        if tag not in run.tags:
            raise InputError(f"run {run.run_id} has no leak level: run predict of its fold again")
        levels.append(LeakLevel.named(run.tags[tag]))
    return LeakLevel.worst(levels)


def leak_tags(runs: Sequence[FoundRun]) -> dict[str, str]:
    """Return the tags that carry on the worst levels of some prediction runs."""
    tags = {}
    for tag in (LEAK_TAG, TEST_LEAK_TAG):
        tags[tag] = str(worst_level(runs, tag=tag))
        tags[tag + UNPLACED] = str(any(run.tags.get(tag + UNPLACED) == "true" for run in runs)).lower()
    return tags


def in_words(tags: Mapping[str, str], *, tag: str = LEAK_TAG) -> str:
    """Say the level that stands in tags: ``slide``, or ``none (slides unknown)`` where that could not be told."""
    level = tags.get(tag, "unknown")
    blind = level == str(LeakLevel.NONE) and tags.get(tag + UNPLACED) == "true"
    return f"{level} (slides unknown)" if blind else level


def _training_images(run: FoundRun) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads(run.artifact(TRAINING_IMAGES).read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"run {run.run_id} keeps no list of its training images ({TRAINING_IMAGES}): train it again"
        ) from error
    return found
