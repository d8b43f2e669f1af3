"""COCO's precision and recall of masks, number for number as ``pycocotools.cocoeval.COCOeval`` computes them.

The rule is pycocotools' (``evaluateImg`` and ``accumulate``), the work is ``matching``'s. The difference is exactly
0: the same quotients of the same whole numbers, and means over the same arrays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics.matching import coco_candidates, coco_curves, coco_matches, in_order
from hubmap_ml.metrics.overlaps import Overlaps, overlaps_with_truth
from hubmap_ml.metrics.pairing import pair_up
from hubmap_ml.spec import InputError

IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""As ``COCOeval.Params`` makes them: 0.85 and its like to the last bit."""

RECALLS = np.linspace(0.0, 1.0, 101)

AREA_RANGES: Mapping[str, tuple[float, float]] = {
    "all": (0.0, 1e5**2),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e5**2),
}
"""Pixels, both ends included."""

_BITS = 64


@dataclass(frozen=True)
class CocoOptions:
    """What COCO's figures are asked for.

    Attributes:
        iou_thresholds: each in (0, 1].
        area_ranges: name to lowest and highest area, both included; a truth's area is its ``area``, a prediction's
            its pixels.
        max_detections: ascending; of an image and category, best scores first.

    Raises:
        InputError: an empty list, or a value out of range.
    """

    iou_thresholds: Sequence[float] = IOU_THRESHOLDS
    area_ranges: Mapping[str, tuple[float, float]] = field(default_factory=lambda: dict(AREA_RANGES))
    max_detections: Sequence[int] = (1, 10, 100)

    def __post_init__(self) -> None:
        for threshold in self.iou_thresholds:
            if not 0 < threshold <= 1:
                raise InputError(f"IoU threshold {threshold:g}: must be greater than 0 and at most 1")
        most = list(self.max_detections)
        if not most or most[0] < 1 or most != sorted(most):
            raise InputError(f"max_detections {most}: must be at least 1, ascending")
        if not self.iou_thresholds or not self.area_ranges:
            raise InputError("COCO's figures need at least one IoU threshold and one area range")


@dataclass(frozen=True, eq=False)
class CocoEvaluation:
    """COCO's tables, for T IoU thresholds, R recalls, K categories, A area ranges, M numbers of detections.

    Attributes:
        options: thresholds, ranges and detections.
        categories: names (K), by ascending id, which is pycocotools' order.
        precision: float64 (T, R, K, A) with the largest number of detections; -1 without truths.
        recall: float64 (T, K, A, M); -1 without truths.
    """

    options: CocoOptions
    categories: tuple[str, ...]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    def average_precision(
        self, *, iou: float | None = None, area: str | None = None, category: str | None = None
    ) -> float:
        """The mean precision over all recalls; of one threshold, area range or category, or of all thresholds and
        categories and the first range; -1 without truths.
        """
        chosen = self.precision[self._thresholds(iou)][:, :, self._labels(category), self._range(area)]
        return _mean(chosen)

    def average_recall(
        self,
        *,
        place: int = -1,
        iou: float | None = None,
        area: str | None = None,
        category: str | None = None,
    ) -> float:
        """The mean highest recall with ``max_detections[place]``; else as ``average_precision``."""
        chosen = self.recall[self._thresholds(iou)][:, self._labels(category), self._range(area), place]
        return _mean(chosen)

    def twelve(self) -> dict[str, float]:
        """COCO's summary, named as in ``coco_segm``; needs COCO's area ranges and three numbers of detections."""
        most = list(self.options.max_detections)
        return {
            "segm_mAP": self.average_precision(),
            "segm_mAP_50": self.average_precision(iou=0.5),
            "segm_mAP_75": self.average_precision(iou=0.75),
            "segm_mAP_s": self.average_precision(area="small"),
            "segm_mAP_m": self.average_precision(area="medium"),
            "segm_mAP_l": self.average_precision(area="large"),
            "segm_AR_1": self.average_recall(place=0),
            "segm_AR_10": self.average_recall(place=1),
            f"segm_AR_{most[2]}": self.average_recall(place=2),
            "segm_AR_s": self.average_recall(area="small"),
            "segm_AR_m": self.average_recall(area="medium"),
            "segm_AR_l": self.average_recall(area="large"),
        }

    def _thresholds(self, iou: float | None) -> NDArray[np.int64]:
        thresholds = np.asarray(self.options.iou_thresholds)
        return np.arange(len(thresholds)) if iou is None else np.flatnonzero(thresholds == iou)

    def _labels(self, category: str | None) -> slice:
        if category is None:
            return slice(None)
        label = self.categories.index(category)
        return slice(label, label + 1)

    def _range(self, area: str | None) -> int:
        return 0 if area is None else list(self.options.area_ranges).index(area)


def coco_segm(
    truth: Annotations, predictions: PredictionSet, *, max_detections: int = 100
) -> dict[str, float]:
    """COCO's twelve figures for masks.

    Images are those that both know; categories are matched by name. Soft masks are cut at 0.5. Equal scores keep the
    order inside an image, then of the original image ids: what pycocotools makes of the written files.

    Args:
        max_detections: of an image and category, best scores first, for every figure but ``segm_AR_1`` and
            ``segm_AR_10``.

    Returns:
        ``segm_mAP`` (IoU 0.50 to 0.95), ``segm_mAP_50``, ``segm_mAP_75``, ``segm_mAP_s``, ``_m``, ``_l`` (by
        COCO's area ranges), ``segm_AR_1``, ``segm_AR_10``, ``segm_AR_100`` (or whatever ``max_detections``
        is), ``segm_AR_s``, ``_m``, ``_l``; -1 where no truth of that size exists, as pycocotools says it.

    Raises:
        InputError: ``max_detections`` under 1, and what ``pair_up`` refuses.
    """
    if max_detections < 1:
        raise InputError(f"max_detections {max_detections}: must be at least 1")
    most = (min(1, max_detections), min(10, max_detections), max_detections)
    return coco_evaluation(truth, predictions, CocoOptions(max_detections=most)).twelve()


def coco_evaluation(
    truth: Annotations, predictions: PredictionSet, options: CocoOptions | None = None
) -> CocoEvaluation:
    """COCO's tables at any thresholds, area ranges and numbers of detections; images, categories, ties as
    ``coco_segm``.

    Raises:
        InputError: what ``pair_up`` refuses.
    """
    paired = pair_up(truth, predictions)
    truth, predictions = paired.truth, paired.predictions
    options = CocoOptions() if options is None else options
    order = image_order(predictions.scores, predictions.offsets)
    found = predictions.take(order)
    masks, labels = paired.masks.take(order), paired.labels[order]
    overlaps = overlaps_with_truth(masks, found.offsets, truth, floor=overlap_floor(options), labels=labels)
    matcher = CocoMatcher(options, truth, overlaps, masks.areas(), labels, found.image_rows())
    rows = np.arange(len(found), dtype=np.int32)
    return matcher.evaluation(rows, coco_rank(found), len(found), matcher.truth_counts())


def overlap_floor(options: CocoOptions) -> float:
    """The lowest overlap that any threshold asks for."""
    return min(min(options.iou_thresholds), 1 - 1e-10)


def image_order(scores: NDArray[np.float32], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows by image and descending score, ties in the order in which they stand."""
    images = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return np.asarray(np.lexsort((np.arange(len(scores)), -scores, images)), dtype=np.int64)


def coco_rank(predictions: PredictionSet) -> NDArray[np.int32]:
    """The place of each row (N,) by descending score over all images; ties by original image id, then in order."""
    originals = predictions.images.original_ids
    place = np.empty(len(originals), np.int64)
    place[np.array(sorted(range(len(originals)), key=originals.__getitem__), dtype=np.int64)] = np.arange(
        len(place)
    )
    images = place[predictions.image_rows()] if len(predictions) else np.zeros(0, np.int64)
    order = np.lexsort((np.arange(len(predictions)), images, -predictions.scores))
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return rank


class CocoMatcher:
    """COCO's figures of any rows of one table of overlaps; made once, asked as often as wanted."""

    def __init__(
        self,
        options: CocoOptions,
        truth: Annotations,
        overlaps: Overlaps,
        areas: ArrayLike,
        labels: ArrayLike,
        images: ArrayLike,
    ) -> None:
        """Prepare the words of bits.

        Args:
            options: what will be asked for.
            truth: annotations.
            overlaps: of N predictions by image and descending score, at least ``overlap_floor(options)``, within
            labels.
            areas, labels, images: (N,), pixels, positions in the truth's categories (-1: none), image rows.
        """
        self._options = options
        ids = [category.id for category in truth.categories]
        self._by_id = np.argsort(np.array(ids, np.int64), kind="stable")
        self._categories = tuple(truth.categories[label].name for label in self._by_id.tolist())
        self._areas = np.asarray(areas, np.int64)
        self._labels = np.asarray(labels, np.int32)
        self._images = np.asarray(images, np.int32)
        self._truth_images = truth.image_rows()
        self._truth_labels = truth.labels.astype(np.int64)
        self._starts = overlaps.starts
        self._is_crowd = truth.iscrowd
        limits = np.array(list(options.area_ranges.values()), np.float64).reshape(-1, 2)
        self._limits = limits
        outside = (truth.areas[:, None] < limits[:, 0]) | (truth.areas[:, None] > limits[:, 1])
        self._counted = ~(outside | truth.iscrowd[:, None])  # (truths, A)
        thresholds = np.asarray(options.iou_thresholds, np.float64)
        bits = np.arange(len(thresholds) * len(limits))  # range after range
        self._words = [
            _Word(bits[at : at + _BITS], thresholds, self._counted, overlaps)
            for at in range(0, len(bits), _BITS)
        ]  # fmt: skip

    def truth_counts(self, images: tuple[int, int] | None = None) -> NDArray[np.int64]:
        """Truths that count, by label and area range (K, A), in a run [first, stop) of images or in all."""
        rows = slice(None) if images is None else slice(*np.searchsorted(self._truth_images, images))
        counts = np.zeros((len(self._categories), len(self._limits)), np.int64)
        np.add.at(counts, self._truth_labels[rows], self._counted[rows])
        return counts

    def evaluation(
        self,
        rows: NDArray[np.int32],
        rank: NDArray[np.int32],
        n_ranks: int,
        n_truths: NDArray[np.int64],
    ) -> CocoEvaluation:
        """Return the tables of some images.

        Args:
            rows: int32, ascending, of these images.
            rank: int32 (N,), places by descending score of all rows of these images, in [0, n_ranks).
            n_ranks: how many rows these images have.
            n_truths: (K, A), as ``truth_counts`` gives them for these images.
        """
        options, n_labels = self._options, len(self._categories)
        thresholds, n_ranges = len(options.iou_thresholds), len(self._limits)
        most = np.asarray(options.max_detections, np.int64)
        order = in_order(rows, rank, n_ranks)
        parts = []
        for word in self._words:
            places, hit, gone = coco_matches(
                rows, self._images, self._labels, self._starts, word.truths, word.reach, word.ignored, self._is_crowd,
                n_labels, most[-1],
            )  # fmt: skip
            parts.append(
                coco_curves(
                    order, rows, self._labels, self._areas, places, hit, gone, self._limits, word.ranges, n_truths,
                    most, RECALLS,
                )
            )  # fmt: skip
        precision = np.concatenate([part[0] for part in parts], axis=1).reshape(
            n_labels, n_ranges, thresholds, -1
        )
        recall = np.concatenate([part[1] for part in parts], axis=1).reshape(
            n_labels, n_ranges, thresholds, -1
        )
        precision, recall = precision[self._by_id], recall[self._by_id]
        return CocoEvaluation(
            options, self._categories, precision.transpose(2, 3, 0, 1), recall.transpose(2, 0, 1, 3)
        )


class _Word:
    """What at most 64 pairs of a threshold and an area range ask of the table."""

    def __init__(
        self,
        bits: NDArray[np.int64],
        thresholds: NDArray[np.float64],
        counted: NDArray[np.bool_],
        overlaps: Overlaps,
    ) -> None:
        self.ranges, threshold_of = np.divmod(bits, len(thresholds))
        self.truths, self.reach = coco_candidates(
            overlaps.starts, overlaps.truths, overlaps.values, thresholds[threshold_of]
        )
        shifts = np.arange(len(bits), dtype=np.uint64)
        ignored = (~counted[:, self.ranges]).astype(np.uint64) << shifts
        self.ignored: NDArray[np.uint64] = np.bitwise_or.reduce(ignored, axis=1)


def _mean(values: NDArray[Any]) -> float:
    known = values[values > -1]  # one row after the other, as pycocotools' own mean goes through them
    return float(np.mean(known)) if len(known) else -1.0
