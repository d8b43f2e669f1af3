"""Detections judged once by the OpenImages rule, so that images can be drawn again and again without geometry.

A detection is a hit or none because of its own image alone; drawing images only changes how often each counts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics.curves import area_under
from hubmap_ml.metrics.open_images import OpenImagesMatcher, ranking
from hubmap_ml.metrics.overlaps import overlaps_with_truth
from hubmap_ml.metrics.pairing import pair_up


@dataclass(frozen=True, eq=False)
class Judged:
    """The detections of M images, by category and descending score.

    Attributes:
        n_images: M.
        hits, images: for each category, bool and int64 (D,): whether a detection is a true positive, and its image.
        truths: int64 (categories, M): targets.
    """

    n_images: int
    hits: tuple[NDArray[np.bool_], ...]
    images: tuple[NDArray[np.int64], ...]
    truths: NDArray[np.int64]

    def average_precision(self, draw: NDArray[np.int64] | None = None) -> float:
        """Score a draw of images.

        Args:
            draw: how often each image is drawn, (M,); once each by default, which is ``open_images.average_precision``.

        Returns:
            The mean over categories that have truths in the draw; NaN where none has.
        """
        times = np.ones(self.n_images, np.int64) if draw is None else draw
        values = []
        for hits, images, truths in zip(self.hits, self.images, self.truths, strict=True):
            n_truths = int(truths @ times)
            if n_truths:
                drawn = times[images]
                found, tried = np.cumsum(drawn * hits), np.cumsum(drawn)
                precision = found / np.maximum(tried, 1)
                values.append(area_under(found / n_truths, precision))
        return float(np.mean(values)) if values else float("nan")


def judge(truth: Annotations, predictions: PredictionSet, *, iou_threshold: float) -> Judged:
    """Judge every detection, as ``open_images.average_precision`` does."""
    paired = pair_up(truth, predictions)
    truth, predictions = paired.truth, paired.predictions
    overlaps = overlaps_with_truth(
        paired.masks, predictions.offsets, truth, floor=iou_threshold, labels=paired.labels
    )
    order = ranking(predictions)
    matcher = OpenImagesMatcher(iou_threshold, truth, overlaps, paired.labels)
    hit, counts = matcher.hits(np.arange(len(predictions), dtype=np.int32), order)
    labels, images = paired.labels[order], predictions.image_rows()[order]
    chosen = [counts & (labels == label) for label in range(len(truth.categories))]
    n_images = len(truth.images)
    targets, of_image = ~truth.iscrowd, truth.image_rows()
    truths = [
        np.bincount(of_image[targets & (truth.labels == label)], minlength=n_images)
        for label in range(len(truth.categories))
    ]
    return Judged(
        n_images,
        tuple(hit[rows] for rows in chosen),
        tuple(np.asarray(images[rows], np.int64) for rows in chosen),
        np.array(truths, np.int64).reshape(-1, n_images),
    )
