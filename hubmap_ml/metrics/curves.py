"""Precision, recall and F1 over the score threshold, and where F1 is best."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ScoreCurve:
    """What remains above each score threshold, by descending threshold.

    Attributes:
        thresholds: float64 (C,), each score that occurs; ``score >= threshold`` remains.
        recall, precision, f1: float64 (C,); F1 is 0 where both are.
        best_threshold: the threshold with the highest F1, of equal ones the highest; NaN without detections.
        best_f1: its F1; 0 without detections.
    """

    thresholds: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    f1: NDArray[np.float64]
    best_threshold: float
    best_f1: float


def score_curve(
    recall: NDArray[np.float64], precision: NDArray[np.float64], scores: NDArray[np.float64]
) -> ScoreCurve:
    """The curve over thresholds from recall and precision after each detection (D,), by descending score.

    A threshold cannot cut between equal scores: only the last of them is a point.

    Example:
        >>> score_curve(np.array([0.5, 0.5]), np.array([1.0, 0.5]), np.array([0.9, 0.8])).best_threshold
        0.9
    """
    last = np.flatnonzero(np.diff(scores, append=-np.inf) != 0)
    recall, precision, thresholds = recall[last], precision[last], scores[last].astype(np.float64)
    total = recall + precision
    f1 = np.divide(2 * recall * precision, total, out=np.zeros(len(total)), where=total > 0)
    if len(f1) == 0:
        return ScoreCurve(thresholds, recall, precision, f1, float("nan"), 0.0)
    best = int(np.argmax(f1))
    return ScoreCurve(thresholds, recall, precision, f1, float(thresholds[best]), float(f1[best]))


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
