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

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics.curves import precision_recall
from hubmap_ml.metrics.matching import areas_under, best_truths, open_images_hits
from hubmap_ml.metrics.overlaps import Overlaps, overlaps_with_truth
from hubmap_ml.metrics.pairing import pair_up
from hubmap_ml.spec import InputError


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
    truth, predictions = paired.truth, paired.predictions
    overlaps = overlaps_with_truth(
        paired.masks, predictions.offsets, truth, floor=iou_threshold, labels=paired.labels
    )
    matcher = OpenImagesMatcher(iou_threshold, truth, overlaps, paired.labels)
    rows = np.arange(len(predictions), dtype=np.int32)
    order = ranking(predictions)
    hit, counts = matcher.hits(rows, order)
    n_truths = target_counts(truth)
    areas = areas_under(order, rows, matcher.labels, hit, counts, n_truths)
    recall, precision = precision_recall(hit[counts], int(n_truths.sum()))
    return AveragePrecision(
        value=mean_of_known(areas),
        per_category={c.name: float(area) for c, area in zip(truth.categories, areas, strict=True)},
        n_truths=int(n_truths.sum()),
        n_images=len(truth.images),
        recall=recall,
        precision=precision,
        scores=predictions.scores[order[counts]].astype(np.float64),
    )


class OpenImagesMatcher:
    """True positives among any rows of one table of overlaps; made once, asked as often as wanted."""

    def __init__(
        self, iou_threshold: float, truth: Annotations, overlaps: Overlaps, labels: NDArray[np.int64]
    ) -> None:
        """Choose each row's truth.

        Args:
            iou_threshold: in (0, 1].
            truth: annotations.
            overlaps: of N predictions, at least ``iou_threshold``, within labels.
            labels: (N,), positions in the truth's categories; -1: none.
        """
        self.labels: NDArray[np.int32] = np.asarray(labels, np.int32)
        self._n_truths = len(truth)
        self._best, self._in_crowd = best_truths(
            overlaps.starts, overlaps.truths, overlaps.values, truth.iscrowd, float(iou_threshold)
        )

    def hits(
        self, rows: NDArray[np.int32], order: NDArray[np.int32]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which of some rows are true positives, and which count at all, both by descending score.

        Args:
            rows: (D,).
            order: (D,), positions in ``rows`` by descending score.
        """
        hit, counts = open_images_hits(order, rows, self.labels, self._best, self._in_crowd, self._n_truths)
        return hit, counts

    def average_precisions(
        self, rows: NDArray[np.int32], order: NDArray[np.int32], n_truths: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Average precision of each category (K,) over some rows, where ``n_truths`` (K,) can be found; NaN for 0."""
        hit, counts = self.hits(rows, order)
        return np.asarray(areas_under(order, rows, self.labels, hit, counts, n_truths))


def target_counts(truth: Annotations) -> NDArray[np.int64]:
    """Truths of each category that can be found (K,): crowds are none."""
    return np.bincount(truth.labels[~truth.iscrowd], minlength=len(truth.categories)).astype(np.int64)


def mean_of_known(values: NDArray[np.float64]) -> float:
    """The mean of what is not NaN; NaN if all is."""
    known = values[~np.isnan(values)]
    return float(np.mean(known)) if len(known) else float("nan")


def ranking(predictions: PredictionSet) -> NDArray[np.int32]:
    """Rows by descending score; equal scores in the order of the file."""
    ties = np.arange(len(predictions)) if predictions.file_order is None else predictions.file_order
    return np.asarray(np.lexsort((ties, -predictions.scores)), dtype=np.int32)
