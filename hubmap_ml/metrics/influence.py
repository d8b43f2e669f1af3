"""How much each image pulls a score down: the score without it, less the score with it."""

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.metrics.intervals import Folded
from hubmap_ml.metrics.resampling_kernels import LANES

_GROUPS_AT_ONCE = 16


def influence(sets: Folded) -> NDArray[np.float64]:
    """Score all images but one, for each.

    Returns:
        float64 (sets, M): the headline without the image less the headline with all; positive where the image costs
        score, NaN where nothing is left to score.
    """
    n_images = len(sets.images)
    found = []
    for first in range(0, n_images, _GROUPS_AT_ONCE * LANES):
        left_out = np.arange(first, min(first + _GROUPS_AT_ONCE * LANES, n_images))
        weights = np.ones((-(-len(left_out) // LANES), n_images, LANES), np.int32)
        place = left_out - first
        weights[place // LANES, left_out, place % LANES] = 0
        found.append(sets.headlines(weights).reshape(len(sets.judged), -1)[:, : len(left_out)])
    return np.asarray(np.concatenate(found, axis=1) - sets.once()[:, None])
