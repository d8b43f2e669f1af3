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
from hubmap_ml.metrics.pairing import Paired, pair_up

THRESHOLDS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))


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


def dsb_map(truth: Annotations, predictions: PredictionSet) -> DsbScore:
    """Score predictions by the rule above.

    Images are those that both know. Soft masks are cut at 0.5; predictions without a pixel are none. A crowd truth
    is no target: a prediction that matches no truth and has more than the threshold of its own pixels in one is left
    out.

    Raises:
        InputError: what ``pair_up`` refuses.
    """
    paired = pair_up(truth, predictions)
    truth = paired.truth
    scores = np.stack([_of_image(paired, row) for row in range(len(truth.images))])  # (M, T)
    kinds = _kinds(truth)
    seen = ~np.isnan(scores).any(axis=1)
    any_truth = bool((~truth.iscrowd).any())
    return DsbScore(
        value=_mean(scores[seen]) if any_truth else float("nan"),
        per_image=scores.mean(axis=1),
        per_category={
            category.name: _mean(scores[seen & (kinds == label)])
            for label, category in enumerate(truth.categories)
        },
        per_threshold={t: _mean(scores[seen, k]) for k, t in enumerate(THRESHOLDS)},
        n_images=int(seen.sum()),
    )


def _of_image(paired: Paired, row: int) -> NDArray[np.float64]:
    """TP / (TP + FP + FN) at each threshold, (T,); NaN where all three are 0."""
    found = paired.masks.take(np.arange(*paired.predictions.offsets[row : row + 2]))
    found = found.take(found.areas() > 0)
    image = paired.truth.image(row)
    targets = image.masks.bits.take(~image.iscrowd)
    iou = targets.iou_matrix(found)
    held = found.iou_matrix(image.masks.bits.take(image.iscrowd), np.ones(int(image.iscrowd.sum()), np.bool_))
    in_crowd = held.max(axis=1, initial=0.0)
    out = np.full(len(THRESHOLDS), np.nan)
    for k, threshold in enumerate(THRESHOLDS):
        matches = iou > threshold
        of_truth, of_found = matches.sum(axis=1), matches.any(axis=0)
        hits = int((of_truth == 1).sum())
        extra = int((~of_found & ~(in_crowd > threshold)).sum()) + int((of_truth > 1).sum())
        missed = int((of_truth == 0).sum())
        if hits + extra + missed:
            out[k] = hits / (hits + extra + missed)
    return out


def _kinds(truth: Annotations) -> NDArray[np.int64]:
    """The most frequent label of each image, -1 without truths."""
    counts = np.zeros((len(truth.images), len(truth.categories)), np.int64)
    targets = ~truth.iscrowd
    np.add.at(counts, (truth.image_rows()[targets], truth.labels[targets]), 1)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), -1)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")
