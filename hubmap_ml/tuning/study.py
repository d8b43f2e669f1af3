"""A threshold study: search the values of post-processing steps that score best on out-of-fold candidates."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics import METRICS, Score, headline
from hubmap_ml.postprocess import Step, by_descending_score, steps_to_data
from hubmap_ml.spec import InputError
from hubmap_ml.tuning.cross_fitting import cross_fitted
from hubmap_ml.tuning.sampling import Sampler
from hubmap_ml.tuning.scorers import CachedScorer, DirectScorer, FoldScorer
from hubmap_ml.tuning.space import Setting, Space, parse_space, setting_of, with_setting

log = logging.getLogger(__name__)

TOLERANCE = 1e-9
"""How far the direct path may be from a trial's score. It is 0 unless a cache is wrong."""

Progress = Callable[[int, int, float], None]
"""Called after each trial with trials done, trials in all, and the best value so far."""


class ScoreMismatch(RuntimeError):
    """The winner's score by the direct path is not its trial's: a bug in the cached geometry."""


@dataclass(frozen=True)
class Study:
    """What a study found.

    Attributes:
        metric: its name.
        best_setting: the searched values with the best headline on all folds.
        best_steps: the base steps with these values, as data.
        value: headline of the best steps (mean of the folds' scores weighted by images): what is registered, and too
            hopeful, because the values were chosen on these very images.
        cross_fitted: the score of the procedure: each fold scored with the values that the other folds choose; NaN with
            one fold.
        base_value: headline of the base steps.
        fold_values: the best steps' score of each fold, NaN for a fold without truths.
        chosen: for each fold the values that the other folds choose; None where there was nothing to choose by.
        held_out_values: score of each fold with those values; NaN where there were none.
        trials: one row a trial: ``number``, the searched values, ``value``, and ``fold_K`` for each fold. Row 0 is the
            base steps.
        folds: the folds' numbers.
        fold_images: images of each fold.
        n_truths: truths of all images, crowds included.
        mismatch: largest difference between the best trial's scores and the direct path's.
    """

    metric: str
    best_setting: dict[str, float]
    best_steps: list[dict[str, Any]]
    value: float
    cross_fitted: float
    base_value: float
    fold_values: tuple[float, ...]
    chosen: tuple[dict[str, float] | None, ...]
    held_out_values: tuple[float, ...]
    trials: pd.DataFrame
    folds: tuple[int, ...]
    fold_images: tuple[int, ...]
    n_truths: int
    mismatch: float


def run_study(
    truth: Annotations,
    predictions: PredictionSet,
    *,
    base_steps: Sequence[Step],
    space: Mapping[str, Any],
    metric: str = "ap60",
    trials: int = 300,
    seed: int = 0,
    folds: ArrayLike | None = None,
    progress: Progress | None = None,
) -> Study:
    """Search a space of post-processing values.

    The first trial is the base steps, so a study never ends below them; the others are proposed by Optuna's TPE. The
    metric ``ap60`` with steps that the cache knows is scored from cached geometry, anything else by the direct path;
    either way the winner is scored again by the direct path.

    Args:
        truth: annotations that hold the predictions' images; further ones are not looked at.
        predictions: candidates with masks, views merged.
        base_steps: the whole post-processing, with its present values.
        space: what is varied, see ``space.parse_space``.
        metric: as ``metrics.evaluate`` names it.
        trials: at least 1; the base steps count.
        seed: same seed, same study.
        folds: fold of each of the predictions' images; by default ``predictions.images.folds``.
        progress: see ``Progress``.

    Raises:
        InputError: a bad space, an unknown metric, images that the truth lacks, no truths, or images of no fold beside
            images of folds.
        ScoreMismatch: see there.
    """
    if metric not in METRICS:
        raise InputError(f"there is no metric {metric!r} (there are {', '.join(METRICS)})")
    if trials < 1:
        raise InputError(f"a study of {trials} trials: at least 1 is needed")
    searched = parse_space(space, base_steps)
    truth = truth.take_images(truth.images.rows_of(list(predictions.images.ids)))
    if truth.iscrowd.all():
        raise InputError(
            f"none of the {len(truth.images)} predicted images has a truth: there is nothing to tune by"
        )
    predictions = by_descending_score(predictions)
    numbers, rows = _fold_rows(predictions.images.folds if folds is None else folds, len(predictions.images))
    direct = DirectScorer(truth, predictions, rows, metric)
    scorer = _scorer(truth, predictions, rows, base_steps, searched, metric) or direct

    names = list(searched.ranges)
    base = setting_of(base_steps, names)
    sampler = Sampler(searched, seed)
    settings: list[Setting] = []
    table: list[list[Score]] = []
    values: list[float] = []
    for number in range(trials):
        setting = base if number == 0 else sampler.ask()
        scores = scorer.scores(with_setting(base_steps, setting))
        settings.append(setting)
        table.append(scores)
        values.append(headline(scores))
        sampler.tell(setting, values[-1])
        if progress is not None:
            progress(number + 1, trials, max(values))

    best = int(np.argmax(values))
    best_steps = with_setting(base_steps, settings[best])
    mismatch = _check(table[best], direct.scores(best_steps), f"trial {best} {dict(settings[best])}")
    by_fold = np.array([[score.value for score in scores] for scores in table])
    fitted = cross_fitted(by_fold, np.array([len(part) for part in rows], dtype=np.float64))
    return Study(
        metric=metric,
        best_setting=dict(settings[best]),
        best_steps=steps_to_data(best_steps),
        value=values[best],
        cross_fitted=fitted.value,
        base_value=values[0],
        fold_values=tuple(by_fold[best].tolist()),
        chosen=tuple(None if k < 0 else dict(settings[k]) for k in fitted.chosen.tolist()),
        held_out_values=tuple(fitted.held_out.tolist()),
        trials=_frame(names, settings, values, by_fold, numbers),
        folds=numbers,
        fold_images=tuple(len(part) for part in rows),
        n_truths=len(truth),
        mismatch=mismatch,
    )


def _fold_rows(folds: ArrayLike, n_images: int) -> tuple[tuple[int, ...], list[NDArray[np.int64]]]:
    """Return the folds' numbers, and the image rows of each; images of no fold (-1) are one fold if all are."""
    of_image = np.asarray(folds, dtype=np.int64)
    if of_image.shape != (n_images,):
        raise InputError(f"{of_image.size} fold numbers for {n_images} images")
    numbers = tuple(int(number) for number in np.unique(of_image))
    if -1 in numbers and len(numbers) > 1:
        raise InputError(
            f"{int((of_image == -1).sum())} of {n_images} images are in no fold; tune on out-of-fold images only"
        )
    return numbers, [np.flatnonzero(of_image == number) for number in numbers]


def _scorer(
    truth: Annotations,
    predictions: PredictionSet,
    rows: list[NDArray[np.int64]],
    base_steps: Sequence[Step],
    space: Space,
    metric: str,
) -> FoldScorer | None:
    """Return the cached scorer, or None where only the direct path will do."""
    all_bits = predictions.masks is not None and predictions.masks.all_bits
    if predictions.masks is None or not CachedScorer.can_score(base_steps, metric, all_bits=all_bits):
        log.info("these steps or %s are not cached: each trial goes the direct, slower way", metric)
        return None
    lowest = {name: low for name, (low, _) in space.ranges.items()}
    if "mask_threshold" in lowest:
        lowest["mask_threshold"] = space.mask_grid[0]
    return CachedScorer(
        truth, predictions, rows, variants=[base_steps, with_setting(base_steps, lowest)],
        mask_thresholds=space.mask_grid,
    )  # fmt: skip


def _check(trial: Sequence[Score], direct: Sequence[Score], what: str) -> float:
    """Return the largest difference between two scorings of the folds; raise where it is more than rounding."""
    a, b = (np.array([score.value for score in scores]) for scores in (trial, direct))
    difference = float(np.nanmax(np.abs(a - b), initial=0.0))
    if difference > TOLERANCE or not np.array_equal(np.isnan(a), np.isnan(b)):
        raise ScoreMismatch(
            f"{what}: scored {a.tolist()} by fold in the study and {b.tolist()} by the direct path"
        )
    return difference


def _frame(
    names: Sequence[str],
    settings: Sequence[Setting],
    values: Sequence[float],
    by_fold: NDArray[np.float64],
    numbers: Sequence[int],
) -> pd.DataFrame:
    columns: dict[str, Any] = {"number": np.arange(len(values))}
    columns |= {name: [setting[name] for setting in settings] for name in names}
    columns["value"] = values
    columns |= {f"fold_{number}": by_fold[:, k] for k, number in enumerate(numbers)}
    return pd.DataFrame(columns)
