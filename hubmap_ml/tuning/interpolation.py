"""Scores at any mask threshold from scores at the thresholds of a grid.

A scorer makes masks once for each threshold of the grid. In between AP is smooth enough to be interpolated while one
searches; what is chosen is scored exactly.
"""

import bisect
from collections.abc import Callable, Sequence

import numpy as np

from hubmap_ml.tuning.space import MASK_THRESHOLD
from hubmap_ml.tuning.step_values import Setting

FoldScores = Callable[[Setting], Sequence[float]]
"""Returns a setting's score on each fold."""


def interpolated(score: FoldScores, grid: Sequence[float]) -> FoldScores:
    """Return a scorer for any mask threshold between the ends of the grid; exact on it, and outside.

    Args:
        score: exact at the grid's thresholds.
        grid: ascending; empty leaves ``score`` as it is.
    """
    if not grid:
        return score

    def between(setting: Setting) -> Sequence[float]:
        neighbours = around(setting, grid)
        if neighbours is None:
            return score(setting)
        low, high = neighbours
        share = (float(setting[MASK_THRESHOLD]) - low) / (high - low)
        below, above = (
            np.asarray(score({**setting, MASK_THRESHOLD: end}), np.float64) for end in (low, high)
        )
        return [float(value) for value in (1 - share) * below + share * above]

    return between


def around(setting: Setting, grid: Sequence[float]) -> tuple[float, float] | None:
    """Return the grid's thresholds on both sides of the setting's; None where it lies on the grid or outside."""
    wanted = float(setting[MASK_THRESHOLD])
    place = bisect.bisect_left(grid, wanted)
    if place == len(grid) or place == 0 or grid[place] == wanted:
        return None
    return grid[place - 1], grid[place]
