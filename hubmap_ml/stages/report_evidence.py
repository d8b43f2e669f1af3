"""What a report computes: scores side by side with their errors, and galleries of tiles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hubmap_ml.data import PreparedData
from hubmap_ml.instances import Annotations, PredictionSet, read_predictions
from hubmap_ml.metrics import (
    Folded,
    Interval,
    common_folds,
    common_images,
    compare_sets,
    error_anatomy,
    found_from,
    influence,
    judge,
    score_interval,
    sort_detections,
    worst_images,
)
from hubmap_ml.postprocess import apply_steps, parse_steps
from hubmap_ml.spec import InputError
from hubmap_ml.stages.candidates import merge_views, out_of_fold
from hubmap_ml.stages.champion import CROSS_FITTED, OUT_OF_FOLD
from hubmap_ml.stages.diff import final_predictions
from hubmap_ml.stages.record import document
from hubmap_ml.stages.report_lines import ReportLine
from hubmap_ml.stages.tiles import TileMaker
from hubmap_ml.viz import Gallery, ReportErrors

WORST_ROWS = 12
WORST_TILES, EVEN_TILES = 6, 4
LOWEST_SCORE = 0.05
"""Where the slider of a gallery begins: of what is below there may be hundreds on a tile."""


@dataclass(frozen=True)
class Evidence:
    """What was computed about several lines.

    Attributes:
        errors: None where there is nothing to compare.
        intervals: of each line's believable score, on its own images.
        words: what could not be computed, and why.
    """

    errors: ReportErrors | None
    intervals: Mapping[str, Interval]
    words: tuple[str, ...] = ()


def evidence_on(
    lines: Sequence[ReportLine],
    truth: Annotations,
    metric: str,
    seed: int,
    *,
    names: Sequence[str] = (),
    about: str | None = None,
) -> Evidence:
    """Compare lines by their honest predictions: what was chosen with a fold's truth does not score that fold.

    Args:
        lines: gains are told over the first.
        truth: of all images that any of them predicted.
        metric: the experiment's.
        seed: of the intervals.
        names: what the lines are called; by default as they are registered.
        about: the one that the page is about; by default all are.
    """
    sets: dict[str, PredictionSet] = {}
    words = []
    for line, name in zip(lines, names or [line.name for line in lines], strict=True):
        try:
            sets[name] = honest_predictions(line)
        except InputError as error:
            words.append(f"{name} is not compared: {error}")
    if not sets:
        return Evidence(None, {}, tuple(words))
    try:
        comparison = compare_sets(metric, truth, sets, seed=seed)
        common, found = common_images(truth, list(sets.values()))
    except InputError as error:
        return Evidence(None, {}, (*words, f"nothing is compared: {error}"))
    folds = common_folds(common, found)
    anatomies = [error_anatomy(common, item, iou_threshold=found_from(metric), folds=folds) for item in found]
    pulls = influence(Folded.build(common.images, folds, [judge(metric, common, item) for item in found]))
    worst = [
        worst_images(common.images, pull, anatomy, most=WORST_ROWS)
        for pull, anatomy in zip(pulls, anatomies, strict=True)
    ]
    intervals = {}
    for score, (name, item) in zip(comparison.scores, sets.items(), strict=True):
        whole = len(item.images) == comparison.n_images
        intervals[name] = score.on_these if whole else score_interval(metric, truth, item, seed=seed)
    first = list(sets).index(about) if about in sets else None
    notes = list(words)
    if any(len(item.images) > comparison.n_images for item in sets.values()):
        notes.append(
            f"The sets have other images too: compared on the {comparison.n_images} that all of them know."
        )
    return Evidence(ReportErrors(comparison, anatomies, worst, notes, first), intervals, tuple(words))


def honest_predictions(line: ReportLine) -> PredictionSet:
    """Return a line's final out-of-fold predictions, cross-fitted where they can be.

    Raises:
        InputError: they are gone.
    """
    if line.kind == "ensemble":
        try:
            return read_predictions(line.head.artifact(CROSS_FITTED))
        except InputError:
            return read_predictions(line.head.artifact(OUT_OF_FOLD))
    return final_predictions(line.head)[0]


def shown_predictions(line: ReportLine) -> tuple[PredictionSet, float]:
    """Return what a gallery shows of a line, and its registered score threshold.

    Steps are those that are registered, but that instances of lower score are kept where that leaves the others as they
    are, so that a reader can look below the threshold.
    """
    if line.kind == "ensemble":
        final = read_predictions(line.head.artifact(OUT_OF_FOLD))
        return final, _threshold(line.study["best_steps"] if line.study else [])
    if line.study is not None:
        merge_iou = document(line.head, "stage_inputs.json")["values"]["merge_iou"]
        candidates, _ = out_of_fold(line.predicted, merge_iou)
        steps = list(line.study["best_steps"])
    else:
        scoring = document(line.head, "stage_inputs.json")["values"]["scoring"]
        candidates = merge_views(read_predictions(line.head.artifact("out_of_fold")), scoring["merge_iou"])
        steps = list(scoring["postprocess"])
    threshold = _threshold(steps)
    final = apply_steps(candidates, parse_steps(steps))
    lower = apply_steps(candidates, parse_steps(_lowered(steps)))
    above = lower.take(np.flatnonzero(lower.scores >= np.float32(threshold)))
    same = np.array_equal(above.scores, final.scores) and np.array_equal(above.boxes, final.boxes)
    return (lower if same else final), threshold


def _threshold(steps: Sequence[Mapping[str, Any]]) -> float:
    """The lowest score that steps keep; 0 where they keep all."""
    found = [0.0]
    for step in steps:
        value = step.get("score")
        if isinstance(value, int | float):
            found.append(float(value))
    return max(found)


def _lowered(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"score": min(float(step["score"]), LOWEST_SCORE)}
        if isinstance(step.get("score"), int | float)
        else dict(step)
        for step in steps
    ]


def galleries_of(
    line: ReportLine, data: PreparedData, metric: str, worst: Sequence[str], notes: Mapping[str, str]
) -> list[Gallery]:
    """Return the galleries of held-out tiles: those that cost the line most, and others evenly spread.

    Args:
        line: whose predictions.
        data: knows truth and pictures.
        metric: says from which overlap a truth is found.
        worst: ids of the tiles that cost most, the worst first.
        notes: by id what to say of a tile.
    """
    found, threshold = shown_predictions(line)
    truth = data.annotations_of(data.images.rows_of(list(found.images.ids)))
    made = TileMaker(data, sort_detections(truth, found, iou_threshold=found_from(metric)))
    first = list(worst[:WORST_TILES])
    rest = made.spread([name for name in found.images.ids if name not in first], EVEN_TILES)
    how = "Held-out tiles, with the registered steps."
    return [
        gallery
        for gallery in (
            made.gallery(f"Worst tiles of {line.name}", f"{how} The tiles that pull the score down most.",
                         first, notes, threshold, metric),
            made.gallery(f"Other tiles of {line.name}", f"{how} Evenly spread over the others.",
                         rest, notes, threshold, metric),
        )
        if gallery.tiles
    ]  # fmt: skip


def hidden_gallery(
    name: str, data: PreparedData, truth: Annotations, found: PredictionSet, threshold: float, metric: str
) -> Gallery | None:
    """Return a gallery of the hidden test; None without a picture."""
    made = TileMaker(data, sort_detections(truth, found, iou_threshold=found_from(metric)))
    tiles = made.spread(list(found.images.ids), WORST_TILES)
    words = "Test tiles whose truth took no part in training, tuning or choosing, evenly spread."
    gallery = made.gallery(f"Hidden test of {name}", words, tiles, {}, threshold, metric)
    return gallery if gallery.tiles else None
