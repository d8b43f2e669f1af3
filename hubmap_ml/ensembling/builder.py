"""Building an ensemble: members fused, the ensemble's own post-processing tuned, its boxes checked.

A member brings its candidates after its own tuned score and suppression by box, with masks still soft; thresholds on
pixels are the ensemble's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from hubmap_ml.ensembling.recheck import recheck_boxes
from hubmap_ml.fusion import FusionMethod, fuse
from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.postprocess import Step, apply_steps, candidate_steps
from hubmap_ml.tuning import Progress, Study, run_study


@dataclass(frozen=True)
class EnsembleStudy:
    """An ensemble on out-of-fold predictions.

    Attributes:
        fused: the members' fused candidates, masks soft.
        study: the study of the ensemble's own post-processing on them.
        box_difference: largest difference of the fused boxes and scores to ensemble-boxes' (see ``recheck_boxes``).
    """

    fused: PredictionSet
    study: Study
    box_difference: float


def member_input(candidates: PredictionSet, steps: Sequence[Step]) -> PredictionSet:
    """Return what a member brings to a fusion.

    Args:
        candidates: its candidates, views and folds merged.
        steps: its tuned post-processing; only its leading steps without pixels are applied.
    """
    return apply_steps(candidates, candidate_steps(steps))


def ensemble_study(
    truth: Annotations,
    members: Sequence[PredictionSet],
    *,
    base_steps: Sequence[Step],
    space: Mapping[str, Any],
    metric: str = "ap60",
    trials: int = 30,
    seed: int = 0,
    folds: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    method: FusionMethod = "wbf",
    weights: Sequence[float] | None = None,
    iou_threshold: float = 0.6,
    skip_score: float = 0.001,
    progress: Progress | None = None,
) -> EnsembleStudy:
    """Fuse members' out-of-fold predictions and tune what comes after.

    The study's cross-fitted value cross-fits the ensemble's own thresholds; the members' were chosen before, on all
    folds.

    Args:
        truth: annotations that hold the members' images.
        members: as ``member_input`` gives them, over the same images.
        base_steps, space, metric, trials, seed, progress: as for ``run_study``.
        folds: of the first member's images.
        names, method, weights, iou_threshold, skip_score: as for ``fusion.fuse``.

    Raises:
        InputError: what ``fuse`` and ``run_study`` refuse.
        FusionMismatch: the boxes are not ensemble-boxes'.
    """
    fused = fuse(
        members,
        method=method,
        weights=weights,
        iou_threshold=iou_threshold,
        skip_score=skip_score,
        names=names,
    )
    difference = recheck_boxes(
        fused, members, weights=weights, iou_threshold=iou_threshold, skip_score=skip_score
    )
    study = run_study(
        truth, fused, base_steps=base_steps, space=space, metric=metric, trials=trials, seed=seed, folds=folds,
        progress=progress,
    )  # fmt: skip
    return EnsembleStudy(fused, study, difference)
