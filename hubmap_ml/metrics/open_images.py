"""Average precision at one mask IoU by the OpenImages rule (the score of HuBMAP 2023 and of the OpenImages
challenge).

All detections of all images are gone through by descending score. Each belongs to the one truth of its image
and category that it overlaps best; it is a true positive if that IoU reaches the threshold and no earlier
detection took
that truth, else a false positive: there is no second-best try (COCO's rule tries on). The area under the
precision envelope over recall is summed at every point (PASCAL VOC from 2010 on), and categories with truths
are averaged.
Reference: TensorFlow's Object Detection API, ``per_image_evaluation.py`` and ``metrics.py``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics.pairing import Paired, pair_up
from hubmap_ml.spec import InputError

_PAIRS_AT_ONCE = 2_000_000
"""Detection-truth pairs compared in one go; about 100 MB."""


@dataclass(frozen=True, eq=False)
class AveragePrecision:
    """A score and the curve behind it.

    Attributes:
        value: mean of ``per_category`` over the categories that have truths; NaN if none has (nothing can be
            said).
        per_category: average precision by category name; NaN for a category without truths.
        n_truths: truths that can be found (crowds are none).
        n_images: images scored.
        recall, precision, scores: float64 (D,), the curve over all categories together, by descending score,
            one point for each detection that counts.
    """

    value: float
    per_category: Mapping[str, float]
    n_truths: int
    n_images: int
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    scores: NDArray[np.float64]


def average_precision(
    truth: Annotations, predictions: PredictionSet, *, iou_threshold: float = 0.6
) -> AveragePrecision:
    """Score predictions by the OpenImages rule.

    Images are those that both know; categories are matched by name. Equal scores keep the order of the file;
    of equally good truths the first wins; IoU >= threshold counts (whole numbers divided in float64, so 3/5
    reaches 0.6). Soft masks are cut at 0.5. A crowd truth is no target: a detection that is no true positive
    and has at least ``iou_threshold`` of its own pixels in a crowd of its category is left out (OpenImages'
    group-of with weight 0).

    Args:
        iou_threshold: in (0, 1].

    Raises:
        InputError: a threshold out of range, and what ``pair_up`` refuses.
    """
    if not 0 < iou_threshold <= 1:
        raise InputError(f"IoU threshold {iou_threshold:g}: must be greater than 0 and at most 1")
    paired = pair_up(truth, predictions)
    scores = paired.predictions.scores.astype(np.float64)
    best, in_crowd = _best_truths(paired, iou_threshold)
    order = _ranking(paired.predictions)
    hit = _first_hits(best, order)
    counts = (paired.labels >= 0) & (hit | ~in_crowd)
    targets = ~paired.truth.iscrowd
    per_category: dict[str, float] = {}
    for label, category in enumerate(paired.truth.categories):
        n_truths = int(np.sum(targets & (paired.truth.labels == label)))
        rows = order[(counts & (paired.labels == label))[order]]
        recall, precision = precision_recall(hit[rows], n_truths)
        per_category[category.name] = area_under(recall, precision) if n_truths else float("nan")
    rows = order[counts[order]]
    recall, precision = precision_recall(hit[rows], int(targets.sum()))
    known = [value for value in per_category.values() if not np.isnan(value)]
    return AveragePrecision(
        value=float(np.mean(known)) if known else float("nan"),
        per_category=per_category,
        n_truths=int(targets.sum()),
        n_images=len(paired.truth.images),
        recall=recall,
        precision=precision,
        scores=scores[rows],
    )


def precision_recall(
    hits: NDArray[np.bool_], n_truths: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall and precision (D,) after each detection, given by descending score; recall is 0 without
    truths.
    """
    found = np.cumsum(hits, dtype=np.float64)
    precision = found / np.arange(1, len(hits) + 1)
    return found / max(n_truths, 1), precision


def area_under(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Area under the precision envelope, summed at every recall that occurs (all-points interpolation)."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def _ranking(predictions: PredictionSet) -> NDArray[np.int64]:
    """Rows by descending score; equal scores in the order of the file."""
    if predictions.file_order is None:
        return np.asarray(np.argsort(-predictions.scores, kind="stable"), dtype=np.int64)
    return np.asarray(np.lexsort((predictions.file_order, -predictions.scores)), dtype=np.int64)


def _first_hits(best: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which detections are the first, in the given order, to take their best truth (-1: they have none)."""
    hit = np.zeros(len(best), dtype=np.bool_)
    takers = order[best[order] >= 0]
    _, first = np.unique(best[takers], return_index=True)
    hit[takers[first]] = True
    return hit


def _best_truths(paired: Paired, iou_threshold: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """For each detection the truth it belongs to (-1: none reaches the threshold), and whether a crowd holds
    it.
    """
    truth = paired.truth
    areas, true_areas = paired.masks.areas(), truth.masks.bits.areas()
    best = np.full(len(paired.labels), -1, dtype=np.int64)
    in_crowd = np.zeros(len(paired.labels), dtype=np.bool_)
    for pairs in _pairs(paired):
        shared = paired.masks.intersections(truth.masks.bits, pairs)
        meets = shared > 0
        found, target, shared = pairs[meets, 0], pairs[meets, 1], shared[meets]
        crowd = truth.iscrowd[target]
        held = shared / areas[found] >= iou_threshold
        in_crowd[found[crowd & held]] = True
        found, target, shared = found[~crowd], target[~crowd], shared[~crowd]
        iou = shared / (areas[found] + true_areas[target] - shared)
        # by detection, best first, of equal ones the first truth: a detection's first row is its choice
        order = np.lexsort((target, -iou, found))
        order = order[np.unique(found[order], return_index=True)[1]]
        order = order[iou[order] >= iou_threshold]
        best[found[order]] = target[order]
    return best, in_crowd


def _pairs(paired: Paired) -> Iterator[NDArray[np.int64]]:
    """Detection and truth rows of the same image and category, some whole images at a time, int64 (P, 2)."""
    predictions, truth = paired.predictions, paired.truth
    n_found, n_true = np.diff(predictions.offsets), np.diff(truth.offsets)
    first = 0
    while first < len(n_found):
        stop = first + 1
        total = n_found[first] * n_true[first]
        while stop < len(n_found) and total + n_found[stop] * n_true[stop] <= _PAIRS_AT_ONCE:
            total += n_found[stop] * n_true[stop]
            stop += 1
        parts = [
            np.stack(
                np.meshgrid(
                    np.arange(predictions.offsets[m], predictions.offsets[m + 1]),
                    np.arange(truth.offsets[m], truth.offsets[m + 1]),
                    indexing="ij",
                ),
                axis=-1,
            ).reshape(-1, 2)
            for m in range(first, stop)
            if n_found[m] and n_true[m]
        ]
        if parts:
            pairs = np.concatenate(parts)
            yield pairs[paired.labels[pairs[:, 0]] == truth.labels[pairs[:, 1]]]
        first = stop
