"""What a threshold study computes once: overlaps of candidates, and their masks at every threshold of the grid.

A trial then only filters, suppresses and counts; masks are not looked at again. Everything is computed as the direct
path (``apply_steps`` and ``metrics.average_precision``) computes it, so that a trial's score is the same to the bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion import overlapping_pairs
from hubmap_ml.instances import Annotations, BitMasks, Masks, PredictionSet
from hubmap_ml.instances.compiled import compiled

_INSTANCES_AT_ONCE = 4000
"""Masks pasted in one go; about 20 KB each at five thresholds."""


@dataclass(frozen=True)
class Geometry:
    """Candidates of all images with all that a trial asks about them, N rows by descending score in each image.

    Attributes:
        scores: float32 (N,).
        image_offsets: int64 (M + 1,).
        pair_starts, pair_columns, pair_overlaps: candidate pairs as ``fusion.overlapping_pairs`` gives them.
        thresholds: (T,) mask thresholds.
        areas: int64 (T, N), pixels.
        best: int64 (T, N), the truth that a candidate overlaps best if it reaches the metric's IoU, else -1.
        in_crowd: bool (T, N), whether a crowd truth holds enough of the candidate.
    """

    scores: NDArray[np.float32]
    image_offsets: NDArray[np.int64]
    pair_starts: NDArray[np.int64]
    pair_columns: NDArray[np.int32]
    pair_overlaps: NDArray[np.float64]
    thresholds: tuple[float, ...]
    areas: NDArray[np.int64]
    best: NDArray[np.int64]
    in_crowd: NDArray[np.bool_]


def build_geometry(
    truth: Annotations,
    predictions: PredictionSet,
    labels: NDArray[np.int64],
    *,
    thresholds: Sequence[float],
    overlap_floor: float,
    match_iou: float,
) -> Geometry:
    """Compute the geometry of a study.

    Args:
        truth: annotations of the predictions' images, in the same order.
        predictions: candidates with masks, by descending score in each image.
        labels: (N,) each candidate's label among the truth's categories; -1 for none.
        thresholds: mask thresholds that will be asked for.
        overlap_floor: no suppression will be asked for with an IoU threshold below this.
        match_iou: mask IoU from which a candidate can be a true positive.
    """
    assert predictions.masks is not None
    n, count = len(predictions), len(thresholds)
    areas = np.zeros((count, n), np.int64)
    best = np.full((count, n), -1, np.int64)
    in_crowd = np.zeros((count, n), np.bool_)
    true_bits, true_areas = truth.masks.bits, truth.masks.bits.areas()
    heights, widths = predictions.heights_of_instances(), predictions.widths_of_instances()
    for first, stop in _runs_of_images(predictions.offsets):
        rows = slice(int(predictions.offsets[first]), int(predictions.offsets[stop]))
        pairs = _candidate_truth_pairs(predictions.offsets, truth.offsets, first, stop)
        pairs = pairs[labels[pairs[:, 0]] == truth.labels[pairs[:, 1]]]
        local = pairs - np.array([rows.start, 0])
        part = predictions.masks.take(np.arange(rows.start, rows.stop))
        for t, bits in enumerate(_bits_at(part, thresholds, heights[rows], widths[rows])):
            areas[t, rows] = bits.areas()
            shared = bits.intersections(true_bits, local)
            best_truths(
                pairs, shared, areas[t], true_areas, truth.iscrowd, float(match_iou), best[t], in_crowd[t]
            )  # fmt: skip
    starts, columns, overlaps = overlapping_pairs(
        predictions.boxes, predictions.labels, predictions.offsets, floor=overlap_floor
    )
    return Geometry(
        scores=predictions.scores, image_offsets=predictions.offsets.astype(np.int64), pair_starts=starts,
        pair_columns=columns, pair_overlaps=overlaps, thresholds=tuple(thresholds), areas=areas, best=best,
        in_crowd=in_crowd,
    )  # fmt: skip


def _runs_of_images(offsets: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut the images into runs [first, stop) of some thousand instances."""
    first = 0
    while first < len(offsets) - 1:
        stop = first + 1
        while stop < len(offsets) - 1 and offsets[stop + 1] - offsets[first] <= _INSTANCES_AT_ONCE:
            stop += 1
        yield first, stop
        first = stop


def _candidate_truth_pairs(
    found: NDArray[np.int64], true: NDArray[np.int64], first: int, stop: int
) -> NDArray[np.int64]:
    """Every candidate of images [first, stop) with every truth of its image, in order, int64 (P, 2)."""
    parts = [np.zeros((0, 2), np.int64)]
    for image in range(first, stop):
        rows, targets = np.arange(found[image], found[image + 1]), np.arange(true[image], true[image + 1])
        parts.append(np.stack([np.repeat(rows, len(targets)), np.tile(targets, len(rows))], axis=1))
    return np.concatenate(parts)


def _bits_at(
    masks: Masks, thresholds: Sequence[float], heights: NDArray[np.int64], widths: NDArray[np.int64]
) -> list[BitMasks]:
    """The masks at each threshold; soft ones are sampled once for all thresholds."""
    if masks.all_bits:
        return [masks.bits] * len(thresholds)
    if len(masks.bits) == 0:
        return masks.soft.paste_many(np.asarray(thresholds), heights, widths)
    return [masks.binarize(threshold, heights, widths) for threshold in thresholds]


@compiled
def best_truths(
    pairs: NDArray[np.int64],
    shared: NDArray[np.int64],
    areas: NDArray[np.int64],
    true_areas: NDArray[np.int64],
    is_crowd: NDArray[np.bool_],
    match_iou: float,
    best: NDArray[np.int64],
    in_crowd: NDArray[np.bool_],
) -> None:
    """Write each candidate's best truth, as ``metrics.average_precision`` chooses it.

    Args:
        pairs: (P, 2) candidate and truth, all pairs of a candidate together, truths in order.
        shared: (P,) pixels that both have.
        areas, true_areas: pixels of candidates and truths.
        is_crowd: of the truths.
        match_iou: lowest IoU with a truth, and lowest share of a candidate inside a crowd.
        best, in_crowd: (N,) results.
    """
    start = 0
    while start < len(pairs):
        row = pairs[start, 0]
        stop = start
        choice, overlap = -1, 0.0
        while stop < len(pairs) and pairs[stop, 0] == row:
            target = pairs[stop, 1]
            if shared[stop] > 0:
                if is_crowd[target]:
                    if shared[stop] / areas[row] >= match_iou:
                        in_crowd[row] = True
                else:
                    iou = shared[stop] / (areas[row] + true_areas[target] - shared[stop])
                    if iou > overlap:
                        choice, overlap = target, iou
            stop += 1
        if overlap >= match_iou:
            best[row] = choice
        start = stop


@compiled
def suppress_pairs(
    alive: NDArray[np.bool_],
    starts: NDArray[np.int64],
    columns: NDArray[np.int32],
    overlaps: NDArray[np.float64],
    iou_threshold: float,
) -> None:
    """Greedy suppression among the rows that are alive; pairs as in ``Geometry``. Changes ``alive``."""
    for row in range(len(alive)):
        if alive[row]:
            for k in range(starts[row], starts[row + 1]):
                if overlaps[k] > iou_threshold:
                    alive[columns[k]] = False


@compiled
def keep_first(alive: NDArray[np.bool_], offsets: NDArray[np.int64], count: int) -> None:
    """Keep the first ``count`` rows of each image that are alive. Changes ``alive``."""
    for image in range(len(offsets) - 1):
        left = count
        for row in range(offsets[image], offsets[image + 1]):
            if alive[row]:
                if left == 0:
                    alive[row] = False
                else:
                    left -= 1


@compiled
def first_hits(order: NDArray[np.int64], best: NDArray[np.int64], n_truths: int) -> NDArray[np.bool_]:
    """For each row of ``order`` whether it is the first there to have its best truth."""
    taken = np.zeros(n_truths, np.bool_)
    hits = np.zeros(len(order), np.bool_)
    for k in range(len(order)):
        target = best[order[k]]
        if target >= 0 and not taken[target]:
            taken[target] = True
            hits[k] = True
    return hits
