"""What a study is worth: gains with intervals, stability over folds, importance of values, precision over recall."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics import PairedGain, average_precision, paired_gain
from hubmap_ml.postprocess import Step, apply_steps
from hubmap_ml.tuning.folding import fold_rows
from hubmap_ml.tuning.sampling import distributions_of, silent
from hubmap_ml.tuning.space import Space
from hubmap_ml.tuning.step_values import name_of_class, with_setting
from hubmap_ml.tuning.study import Study

log = logging.getLogger(__name__)

CURVE_POINTS = 200

FEWEST_TRIALS = 20
"""Of fewer trials no importance is told."""


@dataclass(frozen=True)
class Curve:
    """Precision over recall at mask IoU 0.6, all classes together; at most ``CURVE_POINTS`` points."""

    recall: tuple[float, ...]
    precision: tuple[float, ...]


@dataclass(frozen=True)
class Assessment:
    """What a study's choice is worth.

    Attributes:
        in_sample: gain of the values chosen on all folds over the base steps, on the images that they were chosen on.
        cross_fitted: gain of the values that the other folds chose, on each fold; None where nothing was cross-fitted.
        curves: by ``before``, ``after`` (cross-fitted where there is one) the curve over all images.
        stability: for each searched value what the folds chose.
        importance: for each searched value its share in what makes trials differ; empty where that cannot be told.
    """

    in_sample: PairedGain
    cross_fitted: PairedGain | None
    curves: Mapping[str, Curve]
    stability: Mapping[str, "Spread"]
    importance: Mapping[str, float]


@dataclass(frozen=True)
class Spread:
    """What the folds chose for one value.

    Attributes:
        values: of each fold that chose.
        best: chosen on all folds.
        share: how much of the searched range lies between the lowest and the highest of ``values``; of choices the
            share of folds that chose otherwise than most.
    """

    values: tuple[float | int | str | bool, ...]
    best: float | int | str | bool
    share: float


def assess(
    study: Study,
    truth: Annotations,
    predictions: PredictionSet,
    *,
    base_steps: Sequence[Step],
    space: Space,
    folds: ArrayLike | None = None,
    seed: int = 0,
) -> Assessment:
    """Assess a study on what it was made from.

    Args:
        study: of ``run_study`` or ``run_study_per_class`` with the other arguments.
        truth, predictions, base_steps, folds: as given to it.
        space: as it was parsed.
        seed: of the bootstrap and of the importance's forest.
    """
    of_image = np.asarray(predictions.images.folds if folds is None else folds)
    _, rows = fold_rows(of_image, len(predictions.images))
    in_folds = predictions.replace(images=predictions.images.replace(folds=of_image.astype(np.int16)))
    before = apply_steps(in_folds, base_steps)
    after = apply_steps(in_folds, with_setting(base_steps, study.best_setting))
    gains = [paired_gain(study.metric, truth, before, after, seed=seed)]
    honest = None
    chosen = [
        (setting, part) for setting, part in zip(study.chosen, rows, strict=True) if setting is not None
    ]
    if chosen:
        parts = [
            apply_steps(in_folds.take_images(part), with_setting(base_steps, setting))
            for setting, part in chosen
        ]
        honest = PredictionSet.concatenate(parts)
        gains.append(paired_gain(study.metric, truth, before, honest, seed=seed))
    return Assessment(
        in_sample=gains[0],
        cross_fitted=gains[1] if honest is not None else None,
        curves={"before": _curve(truth, before), "after": _curve(truth, honest or after)},
        stability=stability(study, space),
        importance=importance(study, space, seed),
    )


def stability(study: Study, space: Space) -> dict[str, Spread]:
    """Return for each searched value what the folds chose; values by class are named so."""
    found = {}
    for name, best in study.best_setting.items():
        parameter = next(
            (p for p in space.parameters if p.name == name),
            next((p for p in space.parameters if name.startswith(f"{p.name}.")), None),
        )
        if parameter is None or parameter.fixed:
            continue
        values = tuple(setting[name] for setting in study.chosen if setting is not None)
        if parameter.choices:
            usual = max(values, key=values.count) if values else best
            share = float(np.mean([value != usual for value in values])) if values else 0.0
        else:
            numbers = [float(value) for value in values]
            share = (max(numbers) - min(numbers)) / (parameter.high - parameter.low) if numbers else 0.0
        found[name] = Spread(values, best, share)
    return found


def importance(study: Study, space: Space, seed: int = 0) -> dict[str, float]:
    """Return each value's share in the variance of the trials' scores: Optuna's fANOVA over the fixed list.

    The fixed list is spread evenly over the space; what an adaptive sampler added crowds around the best and would
    say less of values that matter. Empty with fewer than 20 such trials, or equal scores. Values by class are each
    class's own shares.
    """
    trials = study.trials[(study.trials["part"] == "fixed") & (study.trials["number"] > 0)]
    if "class" not in trials:
        return _importance(trials, space, seed)
    return {
        name_of_class(name, str(own)): share
        for own, some in trials.groupby("class", sort=False)
        for name, share in _importance(some, space, seed).items()
    }


def _importance(trials: pd.DataFrame, space: Space, seed: int) -> dict[str, float]:
    import optuna

    distributions = distributions_of(space)
    if len(trials) < FEWEST_TRIALS or trials["value"].nunique() < 2:
        return {}
    if len(distributions) == 1:
        return dict.fromkeys(distributions, 1.0)
    with silent():
        made = optuna.create_study(direction="maximize")
        made.add_trials(
            [
                optuna.create_trial(
                    params={name: row[name] for name in distributions},
                    distributions=distributions,
                    value=row["value"],
                )
                for row in trials.to_dict("records")
            ]
        )
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=32, seed=seed)
        found = optuna.importance.get_param_importances(made, evaluator=evaluator, params=list(distributions))
    return {name: float(found[name]) for name in sorted(found, key=found.__getitem__, reverse=True)}


def _curve(truth: Annotations, predictions: PredictionSet) -> Curve:
    found = average_precision(truth, predictions)
    kept: NDArray[np.int64] = np.unique(np.linspace(0, len(found.recall) - 1, CURVE_POINTS).astype(int))
    kept = kept if len(found.recall) else np.zeros(0, np.int64)
    return Curve(tuple(found.recall[kept].tolist()), tuple(found.precision[kept].tolist()))
