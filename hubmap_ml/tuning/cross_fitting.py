"""Cross-fitting: the score of a *choice* on images that had no part in it.

For held-out fold k the candidate that does best on the other folds is scored on fold k. What comes out belongs to the
procedure of choosing; the choice itself is made again on all folds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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


def cross_fitted(scores: NDArray[np.float64], weights: NDArray[np.float64]) -> CrossFit:
    """Choose a candidate for each fold by the other folds, and score it on that fold.

    Exact for a list of candidates that was fixed beforehand. A list that a sampler built by looking at all folds keeps
    a small advantage: what was proposed late was proposed because of all folds, the held-out one included.

    Args:
        scores: (T, K) score of each candidate on each fold; a fold without a score (NaN) is left out of everything.
        weights: (K,) images of each fold.

    Returns:
        Among candidates that do equally well on the other folds the earliest is chosen.

    Example:
        >>> cross_fitted(np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([1.0, 1.0])).value
        0.3
    """
    n_folds = scores.shape[1]
    usable = [k for k in range(n_folds) if np.isfinite(scores[:, k]).all()]
    chosen = np.full(n_folds, -1, np.int64)
    if len(usable) < 2 or len(scores) == 0:
        return CrossFit(float("nan"), chosen, np.full(n_folds, np.nan))
    for k in usable:
        others = [j for j in usable if j != k]
        chosen[k] = int(np.argmax(scores[:, others] @ weights[others]))
    held_out = np.array([scores[chosen[k], k] if chosen[k] >= 0 else np.nan for k in range(n_folds)])
    return CrossFit(float(np.average(held_out[usable], weights=weights[usable])), chosen, held_out)
