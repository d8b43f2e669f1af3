"""What a set of predictions gets wrong, and what each kind of error costs.

Kinds and repairs are those of TIDE (Bolya et al. 2020, "TIDE: A General Toolbox for Identifying Object Detection
Errors", section 2.2), on masks and with the matching of the OpenImages rule: a wrong detection is one of

- duplicate: its truth was taken by a better-scored detection;
- localisation: it overlaps a truth of its category, too little (from 0.1 to below the threshold);
- classification: it overlaps a truth of another category enough;
- both: it overlaps a truth of another category, too little;
- background: it overlaps no truth by 0.1;

in the first of these that fits, and a truth is missed if nothing found it and no localisation or classification error
stands for it. A kind's cost is the AP that is won where an oracle repairs only this kind: wrong places and categories
are put right (the best-scored of each truth, where nothing else found it; the others go), duplicates, background and
"both" go, missed truths are taken from the truths. Costs do not add up to what is missing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics.curves import precision_recall, score_curve
from hubmap_ml.metrics.intervals import Folded, Interval, percentile_interval, resample
from hubmap_ml.metrics.judged import RankedDetections
from hubmap_ml.metrics.judging import ranked_by_label, truths_by_image
from hubmap_ml.metrics.open_images import OpenImagesMatcher, ranking
from hubmap_ml.metrics.overlaps import Overlaps, overlaps_with_truth
from hubmap_ml.metrics.pairing import pair_up
from hubmap_ml.metrics.resampling_units import blocks_in_slides

BACKGROUND_IOU = 0.1
WRONG = ("duplicate", "localisation", "classification", "both", "background")
MISSED = "missed"
RIGHT, LEFT_OUT = "right", "left out"
KINDS = (*WRONG, MISSED)
SIZES = ("small", "medium", "large")
"""Thirds of the truths by their pixels (COCO's limits put all cells of one magnification into one class)."""

_DUPLICATE, _LOCALISATION, _CLASSIFICATION, _BOTH, _BACKGROUND = range(len(WRONG))
_RIGHT, _LEFT_OUT = -1, -2
_RESAMPLES = 1000


_FOUND_FROM = {"ap60": 0.6}


def found_from(metric: str) -> float:
    """The IoU from which a truth counts as found where errors are told, by metric: 0.6 for ``ap60``, else 0.5."""
    return _FOUND_FROM.get(metric, 0.5)


@dataclass(frozen=True)
class ErrorKind:
    """One kind of error.

    Attributes:
        kind: one of ``KINDS``.
        count: detections of the kind with at least the anatomy's score (missed: truths that those leave over).
        by_size, by_class: the same by size (of the detection's pixels; missed: of the truth's) and category.
        count_in_all: over detections of every score.
        cost: AP won where it is repaired; NaN where nothing is left to find.
        interval: 95 % of the cost on these slides.
    """

    kind: str
    count: int
    by_size: tuple[int, ...]
    by_class: tuple[int, ...]
    count_in_all: int
    cost: float
    interval: Interval


@dataclass(frozen=True, eq=False)
class ErrorAnatomy:
    """All errors of a set on M images.

    Attributes:
        iou_threshold: from which a detection finds a truth.
        value: AP at it by the OpenImages rule, the headline over the folds.
        score_threshold, f1: the score at which F1 over all images and categories is best, and that F1; NaN and 0
            without detections.
        categories: names.
        size_limits: pixels from which a mask is medium, and large.
        truths_by_size, truths_by_class, found_by_size, found_by_class: truths, and how many of them detections of at
            least that score find.
        kinds: in the order of ``KINDS``.
        per_image: int64 (M, 2 + kinds): truths, found, and each kind's count, with at least that score.
    """

    iou_threshold: float
    value: float
    score_threshold: float
    f1: float
    categories: tuple[str, ...]
    size_limits: tuple[float, float]
    truths_by_size: tuple[int, ...]
    truths_by_class: tuple[int, ...]
    found_by_size: tuple[int, ...]
    found_by_class: tuple[int, ...]
    kinds: tuple[ErrorKind, ...]
    per_image: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Sorted:
    """Every detection's kind (N,) and the truth that it concerns (-1: none); what else the counts need.

    A right detection concerns the truth that it finds, an error of place or category the one it would have found.
    """

    kind: NDArray[np.int64]
    concerns: NDArray[np.int64]
    labels: NDArray[np.int64]
    images: NDArray[np.int64]
    order: NDArray[np.int32]
    areas: NDArray[np.int64]


def error_anatomy(
    truth: Annotations,
    predictions: PredictionSet,
    *,
    iou_threshold: float,
    folds: NDArray[np.int16] | None = None,
    seed: int = 0,
) -> ErrorAnatomy:
    """Sort the errors of a set and count what each kind costs.

    Images are those that both know; soft masks are cut at 0.5; a crowd truth is no target, and detections inside one
    are left out.

    Args:
        iou_threshold: above 0.1.
        folds: of the common images, in the predictions' order; by default the predictions'.
        seed: of the intervals.

    Raises:
        InputError: what ``pair_up`` refuses.
    """
    paired = pair_up(truth, predictions)
    truth, predictions = paired.truth, paired.predictions
    folds = predictions.images.folds if folds is None else folds
    overlaps = overlaps_with_truth(paired.masks, predictions.offsets, truth, floor=BACKGROUND_IOU)
    found = _sort(truth, predictions, overlaps, paired.labels, paired.masks.areas(), iou_threshold)
    base = _ranked(found, found.kind == _RIGHT, found.labels, found.kind != _LEFT_OUT, truths_by_image(truth))
    in_order = found.order[found.kind[found.order] != _LEFT_OUT]
    curve = score_curve(
        *precision_recall(found.kind[in_order] == _RIGHT, int((~truth.iscrowd).sum())),
        predictions.scores[in_order],
    )
    sure = predictions.scores >= (curve.best_threshold if len(in_order) else np.inf)
    repaired = [_repaired(found, truth, kind) for kind in range(len(KINDS))]
    sets = Folded.build(truth.images, folds, [base, *repaired])
    values = sets.once()
    units = blocks_in_slides(truth.images)
    draws = resample(sets, units, resamples=_RESAMPLES, seed=seed)
    truth_rows = np.flatnonzero(~truth.iscrowd)
    found_rows = found.concerns[sure & (found.kind == _RIGHT)]
    truth_areas = truth.masks.bits.areas()
    limits = _thirds(truth_areas[truth_rows])
    per_image = [
        np.bincount(truth.image_rows()[rows], minlength=len(truth.images))
        for rows in (truth_rows, found_rows)
    ]
    kinds = []
    for number, kind in enumerate(KINDS):
        if kind == MISSED:
            rows, all_rows = _missed(found, truth, sure), _missed(found, truth, np.ones(len(sure), np.bool_))
            of_kind = truth_areas[rows], truth.labels[rows].astype(np.int64), truth.image_rows()[rows]
        else:
            rows, all_rows = (
                np.flatnonzero(sure & (found.kind == number)),
                np.flatnonzero(found.kind == number),
            )
            of_kind = found.areas[rows], found.labels[rows], found.images[rows]
        per_image.append(np.bincount(of_kind[2], minlength=len(truth.images)))
        kinds.append(
            ErrorKind(
                kind, len(rows), _by_size(of_kind[0], limits), _by_class(of_kind[1], truth), len(all_rows),
                float(values[number + 1] - values[0]),
                Interval(None, None, "nothing is left to find") if np.isnan(values[number + 1])
                else percentile_interval(draws[number + 1] - draws[0], units),
            )
        )  # fmt: skip
    return ErrorAnatomy(
        iou_threshold,
        float(values[0]),
        curve.best_threshold,
        curve.best_f1,
        tuple(category.name for category in truth.categories),
        limits,
        _by_size(truth_areas[truth_rows], limits),
        _by_class(truth.labels[truth_rows], truth),
        _by_size(truth_areas[found_rows], limits),
        _by_class(truth.labels[found_rows], truth),
        tuple(kinds),
        np.stack(per_image, axis=1).astype(np.int64),
    )


@dataclass(frozen=True, eq=False)
class SortedDetections:
    """What each of N detections is.

    Attributes:
        predictions: the detections, on the images that truth and predictions both know.
        truth: of these images, in the same order.
        kinds: N words: ``"right"``, one of ``WRONG``, or ``"left out"`` (inside a crowd).
        finds: int64 (N,), the row of the truth that a right detection finds; -1 for all others. Detections of lower
            score have no influence on it: what stands above a threshold can be counted from it.
        concerns: int64 (N,), as ``finds``, and for errors of place and category the truth that they are about.
    """

    predictions: PredictionSet
    truth: Annotations
    kinds: tuple[str, ...]
    finds: NDArray[np.int64]
    concerns: NDArray[np.int64]


def sort_detections(
    truth: Annotations, predictions: PredictionSet, *, iou_threshold: float
) -> SortedDetections:
    """Say of each detection whether it is right, and if not, what kind of error it is; arguments as ``error_anatomy``.

    Raises:
        InputError: what ``pair_up`` refuses.
    """
    paired = pair_up(truth, predictions)
    truth, predictions = paired.truth, paired.predictions
    overlaps = overlaps_with_truth(paired.masks, predictions.offsets, truth, floor=BACKGROUND_IOU)
    found = _sort(truth, predictions, overlaps, paired.labels, paired.masks.areas(), iou_threshold)
    words = {_RIGHT: RIGHT, _LEFT_OUT: LEFT_OUT, **dict(enumerate(WRONG))}
    kinds = tuple(words[int(kind)] for kind in found.kind)
    return SortedDetections(
        predictions, truth, kinds, np.where(found.kind == _RIGHT, found.concerns, -1), found.concerns
    )


def _sort(
    truth: Annotations,
    predictions: PredictionSet,
    overlaps: Overlaps,
    labels: NDArray[np.int64],
    areas: NDArray[np.int64],
    iou_threshold: float,
) -> _Sorted:
    n = len(predictions)
    rows = np.repeat(np.arange(n), np.diff(overlaps.starts))
    same = labels[rows] == truth.labels[overlaps.truths]
    enough = same & (overlaps.values >= iou_threshold)
    matching = Overlaps(
        np.concatenate([[0], np.cumsum(np.bincount(rows[enough], minlength=n))]).astype(np.int64),
        overlaps.truths[enough],
        overlaps.values[enough],
    )
    order = ranking(predictions)
    matcher = OpenImagesMatcher(iou_threshold, truth, matching, labels)
    hit, counts = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    hit[order], counts[order] = matcher.hits(np.arange(n, dtype=np.int32), order)
    own, own_iou = _best(rows, overlaps, same & ~truth.iscrowd[overlaps.truths], n)
    other, other_iou = _best(rows, overlaps, ~same & ~truth.iscrowd[overlaps.truths], n)
    kind = np.full(n, _BACKGROUND)
    kind[other >= 0] = _BOTH
    kind[other_iou >= iou_threshold] = _CLASSIFICATION
    kind[(own >= 0) & (own_iou < iou_threshold)] = _LOCALISATION
    kind[own_iou >= iou_threshold] = _DUPLICATE
    kind[hit] = _RIGHT
    kind[~counts] = _LEFT_OUT
    concerns = np.where(
        kind == _CLASSIFICATION, other, np.where(np.isin(kind, (_RIGHT, _LOCALISATION)), own, -1)
    )
    return _Sorted(kind, concerns, labels, predictions.image_rows(), order, areas)


def _best(
    rows: NDArray[np.int64], overlaps: Overlaps, chosen: NDArray[np.bool_], n: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each of n detections the truth of its best chosen pair (the first of equals; -1: none) and the overlap."""
    row, truth, value = rows[chosen], overlaps.truths[chosen], overlaps.values[chosen]
    by_row = np.lexsort((truth, -value, row))
    first = by_row[np.unique(row[by_row], return_index=True)[1]]
    best, iou = np.full(n, -1), np.zeros(n)
    best[row[first]], iou[row[first]] = truth[first], value[first]
    return best, iou


def _ranked(
    found: _Sorted,
    hit: NDArray[np.bool_],
    labels: NDArray[np.int64],
    counts: NDArray[np.bool_],
    truths: NDArray[np.int64],
) -> RankedDetections:
    kept = found.order[counts[found.order]]
    return ranked_by_label(labels[kept], found.images[kept], hit[kept], truths)


def _repaired(found: _Sorted, truth: Annotations, kind: int) -> RankedDetections:
    """The detections as they were if only this kind of error were put right."""
    hit, labels = found.kind == _RIGHT, found.labels
    counts = (found.kind != _LEFT_OUT) & (found.kind != kind)
    if KINDS[kind] == MISSED:
        kept = np.ones(len(truth), np.bool_)
        kept[_missed(found, truth, np.ones(len(hit), np.bool_))] = False
        return _ranked(found, hit, labels, found.kind != _LEFT_OUT, truths_by_image(truth, kept))
    if kind in (_LOCALISATION, _CLASSIFICATION):
        free = np.ones(len(truth), np.bool_)
        free[found.concerns[hit]] = False
        rows = found.order[found.kind[found.order] == kind]
        rows = rows[free[found.concerns[rows]]]
        put_right = rows[np.unique(found.concerns[rows], return_index=True)[1]]
        hit, counts, labels = hit.copy(), counts.copy(), labels.copy()
        hit[put_right] = counts[put_right] = True
        labels[put_right] = truth.labels[found.concerns[put_right]]
    return _ranked(found, hit, labels, counts, truths_by_image(truth))


def _missed(found: _Sorted, truth: Annotations, sure: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows of truths for which none of some detections stands."""
    stood_for = np.zeros(len(truth), np.bool_)
    stood_for[found.concerns[sure & (found.concerns >= 0)]] = True
    return np.flatnonzero(~stood_for & ~truth.iscrowd)


def _thirds(areas: NDArray[np.int64]) -> tuple[float, float]:
    if not len(areas):
        return 0.0, 0.0
    low, high = np.quantile(areas, [1 / 3, 2 / 3])
    return float(low), float(high)


def _by_size(areas: NDArray[np.int64], limits: tuple[float, float]) -> tuple[int, ...]:
    """Counts by ``SIZES``; what lies on a limit belongs to the larger."""
    return tuple(np.bincount(np.searchsorted(limits, areas, side="right"), minlength=len(SIZES)).tolist())


def _by_class(labels: NDArray[Any], truth: Annotations) -> tuple[int, ...]:
    return tuple(np.bincount(labels, minlength=len(truth.categories)).tolist())
