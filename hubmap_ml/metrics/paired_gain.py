"""How much better one set of predictions is than another on the same images, with a bootstrap interval over images.

Images are drawn again with replacement inside their fold, the same draw for both sets, and each draw is scored as the
headline is: by fold, folds weighted by images. Images of a slide resemble each other, which this does not see: the
interval is too narrow for a statement about other slides.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics.judged import Judged, judge
from hubmap_ml.metrics.scores import evaluate, headline
from hubmap_ml.spec import InputError

RESAMPLED = "ap60"
IOU = 0.6


@dataclass(frozen=True)
class PairedGain:
    """Two scores on the same images, and how far the second is above the first.

    Attributes:
        low, high: 95 % percentile interval of the gain over resampled images; None where the metric is not resampled.
    """

    metric: str
    n_images: int
    before: float
    after: float
    low: float | None = None
    high: float | None = None

    @property
    def gain(self) -> float:
        """The second score less the first."""
        return self.after - self.before


def paired_gain(
    metric: str,
    truth: Annotations,
    before: PredictionSet,
    after: PredictionSet,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> PairedGain:
    """Compare two sets of final predictions on the images that both predicted.

    Args:
        metric: as ``evaluate`` names it; only ``ap60`` is resampled.
        truth: holds those images.
        before, after: final predictions; folds are those of ``before``'s images, and all images are one fold where the
            two sets disagree on them.
        resamples: bootstrap draws.
        seed: same seed, same interval.

    Raises:
        InputError: no image in common, and what ``evaluate`` refuses.
    """
    shared = after.images.has(list(before.images.ids))
    names = [name for name, both in zip(before.images.ids, shared, strict=True) if both]
    if not names:
        raise InputError("the two have no image in common: there is nothing to compare")
    sets = [item.take_images(item.images.rows_of(names)) for item in (before, after)]
    truth = truth.take_images(truth.images.rows_of(names))
    folds = sets[0].images.folds
    if not np.array_equal(folds, sets[1].images.folds):
        folds = np.zeros(len(names), np.int16)
    groups = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
    scores = [
        headline([evaluate(metric, truth.take_images(rows), item.take_images(rows)) for rows in groups])
        for item in sets
    ]
    result = PairedGain(metric, len(names), scores[0], scores[1])
    if metric != RESAMPLED or not all(map(math.isfinite, scores)):
        return result
    judged = [
        [judge(truth.take_images(rows), item.take_images(rows), iou_threshold=IOU) for rows in groups]
        for item in sets
    ]
    rng = np.random.default_rng(seed)
    gains = [_gain_of_a_draw(judged, rng) for _ in range(resamples)]
    low, high = np.nanpercentile(gains, [2.5, 97.5])
    return PairedGain(metric, len(names), scores[0], scores[1], float(low), float(high))


def _gain_of_a_draw(judged: Sequence[Sequence[Judged]], rng: np.random.Generator) -> float:
    sums, weight = np.zeros(2), 0
    for parts in zip(*judged, strict=True):
        n = parts[0].n_images
        draw: NDArray[np.int64] = np.bincount(rng.integers(0, n, n), minlength=n)
        values = np.array([part.average_precision(draw) for part in parts])
        if not np.isnan(values).any():  # a draw without a truth in this fold says nothing
            sums += n * values
            weight += n
    return float((sums[1] - sums[0]) / weight) if weight else math.nan
