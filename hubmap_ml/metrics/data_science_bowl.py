"""Mean average precision as Data Science Bowl 2018 and Sartorius 2021 word it.

At each IoU threshold 0.50, 0.55, … 0.95 an image scores TP / (TP + FP + FN); an image's score is the mean over the
thresholds, the score the mean over the images. A true mask and a predicted one match where their IoU is *greater*
than the threshold. TP are truths with exactly one match, FN truths without any, FP predictions without any plus truths
with more than one (the Sartorius 11th-place code; with masks that do not overlap no truth has two). Classes do not
matter, and neither do scores: what is predicted is counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics.matching import dsb_counts
from hubmap_ml.metrics.overlaps import overlaps_with_truth
from hubmap_ml.metrics.pairing import Paired, pair_up
from hubmap_ml.spec import InputError

THRESHOLDS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
FLOOR = min(THRESHOLDS)
"""Overlaps up to here match nothing."""


@dataclass(frozen=True, eq=False)
class DsbScore:
    """A score and what it is made of.

    Attributes:
        value: mean over the scored images; NaN if no image has a truth.
        per_image: float64 (M,), the score of each predicted image; NaN for one with nothing to count
            (0 / 0: no truth, and no prediction outside a crowd), which is left out of every mean.
        per_category: mean over the images that hold this category's truths more than any other's (the first of equal
            ones); NaN without such an image.
        per_threshold: mean over the images by IoU threshold.
        n_images: images scored.
    """

    value: float
    per_image: NDArray[np.float64]
    per_category: Mapping[str, float]
    per_threshold: Mapping[float, float]
    n_images: int


def dsb_map(truth: Annotations, predictions: PredictionSet, *, refuse_overlaps: bool = False) -> DsbScore:
    """Score predictions by the rule above.

    Images are those that both know. Soft masks are cut at 0.5; predictions without a pixel are none. A crowd truth
    is no target: a prediction that matches no truth and has more than the threshold of its own pixels in one is left
    out.

    Args:
        refuse_overlaps: refuse predictions of which two share a pixel, as the competitions do.

    Raises:
        InputError: what ``pair_up`` refuses, and overlapping predictions where they are refused.
    """
    paired = pair_up(truth, predictions)
    truth, found = paired.truth, paired.predictions
    if refuse_overlaps:
        _check_no_overlap(paired)
    overlaps = overlaps_with_truth(paired.masks, found.offsets, truth, floor=FLOOR)
    rows = np.flatnonzero(paired.masks.areas() > 0).astype(np.int32)
    counts = dsb_counts(
        rows, found.image_rows().astype(np.int32), overlaps.starts, overlaps.truths, overlaps.values, truth.offsets,
        truth.iscrowd, np.array(THRESHOLDS),
    )  # fmt: skip
    scores = scores_of_counts(counts)
    kinds = _kinds(truth)
    seen = ~np.isnan(scores).any(axis=1)
    return DsbScore(
        value=value_of_scores(scores, truth),
        per_image=scores.mean(axis=1),
        per_category={
            category.name: _mean(scores[seen & (kinds == label)])
            for label, category in enumerate(truth.categories)
        },
        per_threshold={t: _mean(scores[seen, k]) for k, t in enumerate(THRESHOLDS)},
        n_images=int(seen.sum()),
    )


def scores_of_counts(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """TP / (TP + FP + FN) of each image and threshold (M, T) from ``matching.dsb_counts``; NaN for 0 / 0."""
    total = counts.sum(axis=2)
    return np.divide(counts[:, :, 0], total, out=np.full(total.shape, np.nan), where=total > 0)


def value_of_scores(scores: NDArray[np.float64], truth: Annotations) -> float:
    """The mean over images and thresholds of scores (M, T); NaN where no image has a truth."""
    if truth.iscrowd.all():
        return float("nan")
    return _mean(scores[~np.isnan(scores).any(axis=1)])


def _check_no_overlap(paired: Paired) -> None:
    found = paired.predictions
    for row in range(len(found.images)):
        masks = paired.masks.take(np.arange(*found.offsets[row : row + 2]))
        shared = np.triu(masks.intersection_matrix(), k=1)
        if shared.any():
            first, second = (int(place) for place in np.argwhere(shared)[0])
            raise InputError(
                f"image {found.images.ids[row]!r}: predictions {first} and {second} share "
                f"{shared[first, second]} pixels, which this metric's competitions refuse; add a no_overlaps step"
            )


def _kinds(truth: Annotations) -> NDArray[np.int64]:
    """The most frequent label of each image, -1 without truths."""
    counts = np.zeros((len(truth.images), len(truth.categories)), np.int64)
    targets = ~truth.iscrowd
    np.add.at(counts, (truth.image_rows()[targets], truth.labels[targets]), 1)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), -1)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")
