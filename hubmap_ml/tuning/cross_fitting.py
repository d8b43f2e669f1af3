"""Cross-fitting: the score of a *choice* on images that had no part in it.

For held-out fold k the candidate that does best on the other folds is scored on fold k. What comes out belongs to the
procedure of choosing; the choice itself is made again on all folds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALL = -1
"""In place of a held-out fold: none is held out."""


@dataclass(frozen=True)
class CrossFit:
    """What a cross-fitted choice scores.

    Attributes:
        value: mean of the held-out folds' scores, weighted by images; NaN with fewer than two folds that have a score.
        chosen: (K,) the candidate chosen for each held-out fold; -1 where there was nothing to choose by.
        held_out: (K,) score of each fold with the candidate that the others chose; NaN where there was none.
    """

    value: float
    chosen: NDArray[np.int64]
    held_out: NDArray[np.float64]


def usable_folds(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the folds that have a score with every candidate; one without truths has none."""
    return np.flatnonzero(np.isfinite(scores).all(axis=0))


def objective(
    scores: NDArray[np.float64], weights: NDArray[np.float64], held_out: int = ALL
) -> NDArray[np.float64]:
    """Return what each candidate is judged by: its folds' mean weighted by images, without the held-out fold.

    Args:
        scores: (T, K) score of each candidate on each fold; a fold without a score (NaN) is left out of everything.
        weights: (K,) images of each fold.
        held_out: a fold, or ``ALL``.

    Returns:
        (T,), NaN where no fold is left.
    """
    folds = [k for k in usable_folds(scores) if k != held_out]
    total = float(weights[folds].sum())
    return np.asarray(scores[:, folds] @ weights[folds] / total if total else np.full(len(scores), np.nan))


def cross_fitted(
    scores: NDArray[np.float64],
    weights: NDArray[np.float64],
    candidates: Sequence[NDArray[np.int64]] | None = None,
) -> CrossFit:
    """Choose a candidate for each fold by the other folds, and score it on that fold.

    Exact where a fold's candidates were made without its truths: a list that was fixed beforehand, or one that a
    sampler built by looking at the other folds.

    Args:
        scores, weights: as for ``objective``.
        candidates: for each fold the candidates that it may choose from, ascending; all by default.

    Returns:
        Among candidates that do equally well on the other folds the earliest is chosen.

    Example:
        >>> cross_fitted(np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([1.0, 1.0])).value
        0.3
    """
    n_folds = scores.shape[1]
    usable = usable_folds(scores)
    chosen = np.full(n_folds, -1, np.int64)
    held_out = np.full(n_folds, np.nan)
    if len(usable) < 2 or len(scores) == 0:
        return CrossFit(float("nan"), chosen, held_out)
    for k in usable:
        rows = np.arange(len(scores)) if candidates is None else candidates[k]
        chosen[k] = rows[np.argmax(objective(scores, weights, k)[rows])]
        held_out[k] = scores[chosen[k], k]
    return CrossFit(float(np.average(held_out[usable], weights=weights[usable])), chosen, held_out)
