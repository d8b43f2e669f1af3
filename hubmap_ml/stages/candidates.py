"""Candidates of a member, put together: views merged per network, fold networks merged on images all of them saw."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion import MERGE_RULES, merge_sources
from hubmap_ml.instances import PredictionSet, read_predictions
from hubmap_ml.spec import InputError
from hubmap_ml.tracking import FoundRun

MERGE = "merge_views"
"""The property of candidates that names the rule for their views."""


def merge_views(candidates: PredictionSet, iou_threshold: float) -> PredictionSet:
    """Merge the views of one network by the rule that their properties name; a single view stays as it is."""
    rule = candidates.properties.get(MERGE, "match_mean")
    if rule not in MERGE_RULES:
        raise InputError(f"these candidates ask for their views to be merged by {rule!r}; predict them again")
    return merge_sources(
        candidates,
        n_sources=max(1, len(candidates.sources)),
        iou_threshold=iou_threshold,
        rule=rule,
    )


def out_of_fold(runs: Sequence[FoundRun], iou_threshold: float) -> tuple[PredictionSet, NDArray[np.int16]]:
    """Return a member's out-of-fold candidates, each image seen by the one network that it was held out from.

    Args:
        runs: prediction runs, one a fold.
        iou_threshold: of the merging of views.

    Returns:
        Candidates of all held-out images, and (M,) the fold of each image.
    """
    sets = [merge_views(read_predictions(run.artifact("out_of_fold")), iou_threshold) for run in runs]
    together = PredictionSet.concatenate(sets)
    return together, np.asarray(together.images.folds, np.int16)


def on_test_images(runs: Sequence[FoundRun], iou_threshold: float) -> PredictionSet:
    """Return a member's candidates of the test images: all fold networks' merged into one."""
    sets = [merge_views(read_predictions(run.artifact("test")), iou_threshold) for run in runs]
    if len(sets) == 1:
        return sets[0]
    stacked = PredictionSet.stack_sources(sets, [f"fold{i}" for i in range(len(sets))])
    return merge_sources(stacked, n_sources=len(sets), iou_threshold=iou_threshold)
