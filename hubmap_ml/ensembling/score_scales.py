"""Bringing members' scores to one scale before they are fused."""

from typing import Literal

import numpy as np

from hubmap_ml.fusion import ScoreMap, calibration_map, rank_map
from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics import average_precision

ScoreScale = Literal["raw", "rank", "calibrated"]


def fit_score_map(scale: ScoreScale, truth: Annotations, predictions: PredictionSet) -> ScoreMap | None:
    """Return the map that brings a member's scores to a scale; None for ``raw``.

    Args:
        scale: ``rank`` looks at the scores alone; ``calibrated`` at how often they found a truth by the OpenImages rule
            at IoU .6, all categories together.
        truth: annotations of the images.
        predictions: a member's, out of fold.
    """
    if scale == "raw":
        return None
    if scale == "rank":
        return rank_map(predictions.scores)
    found = average_precision(truth, predictions)
    if found.n_truths == 0:
        return calibration_map([], [])
    right = np.diff(np.rint(found.recall * found.n_truths), prepend=0)
    return calibration_map(found.scores, right)
