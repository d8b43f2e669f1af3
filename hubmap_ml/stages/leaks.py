"""Leaks of a fold's score: what the fold's network was ever trained on, against the images that score it.

Each training run keeps the list of its training images, after those of the run that it started from; so the list of
the last run tells all that its weights have seen, stage 1 included. (Images that only chose an epoch are not in it.)
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hubmap_ml.data import LeakReport, PreparedData, leak_report
from hubmap_ml.spec import LEAK_TAG, InputError, LeakLevel
from hubmap_ml.stages.running import Running
from hubmap_ml.tracking import FoundRun

log = logging.getLogger(__name__)

TRAINING_IMAGES = "training_images.json"
TEACHER = (
    "teacher "  # begins the name of a stage that trained not the network but one that labelled images for it
)
REPORT = "leaks.json"
TEST_LEAK_TAG = f"{LEAK_TAG}_test"
UNPLACED = "_slides_unknown"  # ends the tag that says whether a level could not look at slides


def record_training_images(
    at: Running,
    stage: str,
    ids: Iterable[str],
    *,
    start: FoundRun | None,
    taught: FoundRun | None = None,
    declared: LeakLevel | None = None,
) -> None:
    """Keep the list of all images that a training's weights will have seen.

    Args:
        at: the training's run.
        stage: its name.
        ids: of the images that this training learns from.
        start: the run whose weights it starts from; None for random weights.
        taught: the run that made pseudo-labels for it: what its teachers saw speaks through these.
        declared: of a network from elsewhere, the least level of whatever it or its students predict.
    """
    earlier = [part for run in (taught, start) if run is not None for part in _training_images(run)]
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


def seen_images(run: FoundRun) -> dict[str, list[str]]:
    """Return what a training run's weights have seen: for each stage, in order, the ids of its training images.

    Raises:
        InputError: the run kept no such list.
    """
    seen: dict[str, list[str]] = {}
    for part in _training_images(run):
        seen.setdefault(part["stage"], []).extend(part["images"])
    return seen


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
    seen = seen_images(trained)
    declared = declared_level(trained)
    reports: dict[str, LeakReport] = {}
    for name, scored, metric in (("out_of_fold", held_out, "leak"), ("test", test, "leak_test")):
        found = leak_report(data.images, data.fingerprints, scored=scored, seen=seen)
        at.recorder.metrics({f"{metric}/{kind}_pairs": n for kind, n in found.counts.items()}, step=0)
        reports[name] = found
    at.recorder.data({name: found.to_data() for name, found in reports.items()}, REPORT)
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
