"""Building an ensemble: members fused, the ensemble's own post-processing tuned, its boxes checked.

A member brings its candidates after its own tuned score and suppression by box, with masks still soft; thresholds on
pixels are the ensemble's own.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hubmap_ml.ensembling.recheck import Recheck, recheck_boxes
from hubmap_ml.ensembling.score_scales import ScoreScale, fit_score_map
from hubmap_ml.fusion import FusionOptions, ScoreMap, fuse
from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.postprocess import Step, apply_steps, candidate_steps
from hubmap_ml.tuning import Progress, Study, run_study


@dataclass(frozen=True)
class MemberSteps:
    """A member's tuned post-processing.

    Attributes:
        steps: fitted on all folds: what is registered.
        held_out: for each fold the steps that the other folds chose; empty where nothing was cross-fitted.
    """

    steps: tuple[Step, ...]
    held_out: Mapping[int, tuple[Step, ...]] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class EnsembleStudy:
    """An ensemble on out-of-fold predictions.

    Attributes:
        fused: the members' fused candidates, masks soft, with steps fitted on all folds.
        study: the study of the ensemble's own post-processing on them. Its ``cross_fitted`` is the whole procedure's:
            members' thresholds and the ensemble's that score a fold were chosen on the other folds; NaN where a member
            has none.
        score_maps: what each member's scores went through, fitted on all folds; () where they stay as they are.
        check: the fused boxes beside ensemble-boxes' (see ``recheck_boxes``).
    """

    fused: PredictionSet
    study: Study
    check: Recheck
    score_maps: tuple[ScoreMap, ...] = ()


def member_input(candidates: PredictionSet, steps: Sequence[Step]) -> PredictionSet:
    """Return what a member brings to a fusion.

    Args:
        candidates: its candidates, views and folds merged.
        steps: its tuned post-processing; only its leading steps without pixels are applied.
    """
    return apply_steps(candidates, candidate_steps(steps))


def ensemble_study(
    truth: Annotations,
    candidates: Sequence[PredictionSet],
    *,
    members: Sequence[MemberSteps],
    base_steps: Sequence[Step],
    space: Mapping[str, Any],
    metric: str = "ap60",
    trials: int = 30,
    seed: int = 0,
    folds: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    options: FusionOptions | None = None,
    weights: Sequence[float] | None = None,
    score_scale: ScoreScale = "raw",
    progress: Progress | None = None,
) -> EnsembleStudy:
    """Fuse members' out-of-fold predictions and tune what comes after.

    Args:
        truth: annotations that hold the members' images.
        candidates: of each member, views merged, over the same images.
        members: their tuned steps, in the same order.
        base_steps, space, metric, trials, seed, folds, progress: as for ``run_study``; folds are the first member's.
        names, options, weights: as for ``fusion.fuse``.
        score_scale: what members' scores are brought to before (see ``fit_score_map``); for the score of a fold it is
            fitted on the others.

    Raises:
        InputError: what ``fuse`` and ``run_study`` refuse.
        FusionMismatch: the boxes are not ensemble-boxes'.
    """

    def fused_by(
        steps: Sequence[Sequence[Step]], held_out: int | None = None
    ) -> tuple[PredictionSet, list[PredictionSet], tuple[ScoreMap, ...]]:
        inputs = [member_input(item, own) for item, own in zip(candidates, steps, strict=True)]
        fitted_on = np.flatnonzero(of_image != held_out) if held_out is not None else np.arange(len(of_image))
        fitted = [fit_score_map(score_scale, truth, item.take_images(fitted_on)) for item in inputs]
        maps = tuple(one for one in fitted if one is not None)
        if maps:
            inputs = [one.apply(item) for one, item in zip(maps, inputs, strict=True)]
        return fuse(inputs, options, weights=weights, names=names), inputs, maps

    def studied(predictions: PredictionSet, told: Progress | None) -> Study:
        return run_study(
            truth, predictions, base_steps=base_steps, space=space, metric=metric, trials=trials, seed=seed,
            folds=of_image, progress=told,
        )  # fmt: skip

    of_image = candidates[0].images.folds if folds is None else np.asarray(folds)
    fused, inputs, maps = fused_by([member.steps for member in members])
    check = recheck_boxes(fused, inputs, options, weights=weights)
    study = studied(fused, progress)
    scores = np.full(len(study.folds), np.nan)
    for k, fold in enumerate(study.folds):
        if all(fold in member.held_out for member in members):
            without, _, _ = fused_by([member.held_out[fold] for member in members], fold)
            scores[k] = studied(without, None).held_out_values[k]
    return EnsembleStudy(fused, dataclasses.replace(study, cross_fitted=_average(scores, study)), check, maps)


def _average(scores: np.ndarray[Any, np.dtype[np.float64]], study: Study) -> float:
    """Mean of the folds' scores weighted by images; NaN where a fold that has a score of its own lacks this one."""
    counted = np.isfinite(study.fold_values)
    if not counted.any():
        return float("nan")
    return float(np.average(scores[counted], weights=np.asarray(study.fold_images, float)[counted]))
