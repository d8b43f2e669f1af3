"""A threshold study: search the values of post-processing steps that score best on out-of-fold candidates."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics import METRICS, Score, headline
from hubmap_ml.postprocess import Step, apply_steps, by_descending_score, steps_to_data
from hubmap_ml.spec import InputError
from hubmap_ml.tuning.cross_fitting import ALL, cross_fitted, objective, usable_folds
from hubmap_ml.tuning.folding import fold_rows
from hubmap_ml.tuning.interpolation import around, interpolated
from hubmap_ml.tuning.recheck import recheck
from hubmap_ml.tuning.sampling import SAMPLERS
from hubmap_ml.tuning.scorers import CachedScorer, DirectScorer, FoldScorer
from hubmap_ml.tuning.searching import Found, Progress, plan_trials, search
from hubmap_ml.tuning.space import DEDUPLICATED_AT, MASK_THRESHOLD, Space, parse_space
from hubmap_ml.tuning.step_values import Setting, Value, setting_of, with_setting

log = logging.getLogger(__name__)

TOLERANCE = 1e-9
"""How far the direct path may be from a trial's score. It is 0 unless a cache is wrong."""

EXACT_CANDIDATES = 3
"""How many of the best by interpolated mask threshold are scored exactly before one is chosen."""


class ScoreMismatch(RuntimeError):
    """The winner's score is not what the direct path or an independent reference finds: a kernel is wrong."""


@dataclass(frozen=True)
class Study:
    """What a study found.

    Attributes:
        metric: its name.
        sampler: what proposed the settings.
        best_setting: the searched values with the best headline on all folds.
        best_steps: the base steps with these values, as data.
        value: headline of the best steps (mean of the folds' scores weighted by images): what is registered, and too
            hopeful, because the values were chosen on these very images.
        cross_fitted: the score of the procedure: each fold scored with the values that the other folds choose; NaN with
            one fold.
        base_value: headline of the base steps.
        fold_values: the best steps' score of each fold, NaN for a fold without truths.
        base_fold_values: that of the base steps.
        chosen: for each fold the values that the other folds choose; None where there was nothing to choose by.
        held_out_values: score of each fold with those values; NaN where there were none.
        trials: one row a trial: ``number``, ``part`` (whose it is: ``fixed`` for all, ``all`` for the choice on all
            folds, ``without_K`` for the choice that fold K does not see), the searched values, ``value``, ``exact``
            (whether the value is exact or interpolated between mask thresholds), and ``fold_K`` for each fold. Row 0 is
            the base steps.
        folds: the folds' numbers.
        fold_images: images of each fold.
        n_truths: truths of all images, crowds included.
        mismatch: largest difference of the best trial's scores to the direct path's, and of those to an independent
            reference's (see ``recheck``).
        interpolation_error: largest difference between the interpolated and the exact score of a fold, of those that
            were scored both ways.
    """

    metric: str
    sampler: str
    best_setting: dict[str, Value]
    best_steps: list[dict[str, Any]]
    value: float
    cross_fitted: float
    base_value: float
    fold_values: tuple[float, ...]
    base_fold_values: tuple[float, ...]
    chosen: tuple[dict[str, Value] | None, ...]
    held_out_values: tuple[float, ...]
    trials: pd.DataFrame
    folds: tuple[int, ...]
    fold_images: tuple[int, ...]
    n_truths: int
    mismatch: float
    interpolation_error: float = 0.0


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
    sampler: str = "tpe",
    storage: str | None = None,
    name: str = "study",
    deduplicated_at: float = DEDUPLICATED_AT,
    progress: Progress | None = None,
) -> Study:
    """Search a space of post-processing values.

    The first trial is the base steps, so a study never ends below them; the others are proposed as ``sampler`` says.
    What a fold is scored with in ``cross_fitted`` was chosen from trials that its truth did not steer: the list that
    was fixed beforehand and, with an adaptive sampler, trials made by the other folds (see ``searching``). Where a
    cache knows metric and steps, trials are scored from cached geometry, else by the direct path; either way the winner
    is scored again by the direct path and by an independent reference.

    Args:
        truth: annotations that hold the predictions' images; further ones are not looked at.
        predictions: candidates with masks, views merged.
        base_steps: the whole post-processing, with its present values.
        space: what is varied, see ``space.parse_space``.
        metric: as ``metrics.evaluate`` names it.
        trials: of which each choice is made, at least 1; the base steps count. With an adaptive sampler and K folds to
            cross-fit the last of them (at most half, see ``sampling.OWN_TRIALS``) are made K + 1 times.
        seed: same seed, same study.
        folds: fold of each of the predictions' images; by default ``predictions.images.folds``.
        sampler: one of ``SAMPLERS``.
        storage: an Optuna storage that other workers share, or that a broken study goes on from; in memory by default.
        name: the study's name there.
        deduplicated_at: as for ``parse_space``.
        progress: see ``Progress``.

    Raises:
        InputError: a bad space, an unknown metric or sampler, images that the truth lacks, no truths, images of no fold
            beside images of folds, or a storage that cannot be opened.
        ScoreMismatch: see there.
    """
    if metric not in METRICS:
        raise InputError(f"there is no metric {metric!r} (there are {', '.join(METRICS)})")
    if sampler not in SAMPLERS:
        raise InputError(f"there is no sampler {sampler!r} (there are {', '.join(SAMPLERS)})")
    if trials < 1:
        raise InputError(f"a study of {trials} trials: at least 1 is needed")
    searched = parse_space(space, base_steps, deduplicated_at=deduplicated_at)
    truth = truth.take_images(truth.images.rows_of(list(predictions.images.ids)))
    if truth.iscrowd.all():
        raise InputError(
            f"none of the {len(truth.images)} predicted images has a truth: there is nothing to tune by"
        )
    predictions = by_descending_score(predictions)
    numbers, rows = fold_rows(predictions.images.folds if folds is None else folds, len(predictions.images))
    direct = DirectScorer(truth, predictions, rows, metric)
    scores = _Scores(truth, predictions, rows, base_steps, searched, metric, direct)

    weights = np.array([len(part) for part in rows], np.float64)
    base = setting_of(base_steps, searched.names)
    base_scores = scores.exact(base)
    held_out = usable_folds(np.array([base_scores]))
    plan = plan_trials(searched, sampler, trials, seed, held_out.tolist() if len(held_out) > 1 else ())
    found = search(
        scores.while_searching, base, searched, plan, weights,
        sampler=sampler, seed=seed, storage=storage, name=name, progress=progress,
    )  # fmt: skip
    by_fold, exact, error = _with_exact(found, scores, weights, plan.parts)
    best = _best(found, by_fold, exact, weights, ALL)
    best_steps = with_setting(base_steps, found.settings[best])
    checked = direct.scores(best_steps)
    what = f"trial {best} {dict(found.settings[best])}"
    mismatch = max(
        check_scores(by_fold[best], checked, what),
        scores.check_cache(found.settings[best]),
        _check_by_reference(truth, predictions, rows, best_steps, metric),
    )
    fitted = cross_fitted(by_fold, weights, [_exact_of(found, exact, k) for k in range(len(rows))])
    return Study(
        metric=metric,
        sampler=sampler,
        best_setting=dict(found.settings[best]),
        best_steps=steps_to_data(best_steps),
        value=headline(checked),
        cross_fitted=fitted.value,
        base_value=headline(
            [dataclasses.replace(s, value=v) for s, v in zip(checked, base_scores, strict=True)]
        ),
        fold_values=tuple(by_fold[best].tolist()),
        base_fold_values=tuple(base_scores),
        chosen=tuple(None if k < 0 else dict(found.settings[k]) for k in fitted.chosen.tolist()),
        held_out_values=tuple(fitted.held_out.tolist()),
        trials=_frame(searched, found, by_fold, exact, weights, numbers),
        folds=numbers,
        fold_images=tuple(len(part) for part in rows),
        n_truths=len(truth),
        mismatch=mismatch,
        interpolation_error=error,
    )


class _Scores:
    """Scores a setting on each fold: fast while searching, and exactly."""

    def __init__(
        self,
        truth: Annotations,
        predictions: PredictionSet,
        rows: list[NDArray[np.int64]],
        base_steps: Sequence[Step],
        space: Space,
        metric: str,
        direct: FoldScorer,
    ) -> None:
        self._base_steps = base_steps
        self._direct = direct
        self._cached, pixel_free = _cached_scorer(truth, predictions, rows, base_steps, space, metric)
        self._grid = _grid(space, base_steps) if pixel_free else ()
        self._known: dict[tuple[tuple[str, Value], ...], list[float]] = {}
        fast = self.exact if self._cached is None else interpolated(self._of_cache, self._grid)
        self.while_searching = fast

    def exact(self, setting: Setting) -> list[float]:
        """Return a setting's scores, not interpolated."""
        key = tuple(setting.items())
        if key not in self._known:
            steps = with_setting(self._base_steps, setting)
            scorer = self._direct if self._cached is None else self._cached
            self._known[key] = [score.value for score in scorer.scores(steps)]
        return self._known[key]

    def is_exact(self, setting: Setting) -> bool:
        """Whether the search scores a setting without interpolating."""
        return self._cached is None or not self._grid or around(setting, self._grid) is None

    def check_cache(self, setting: Setting) -> float:
        """Compare the cache with the direct path, at the thresholds that a setting's score was interpolated between.

        Returns:
            The largest difference.

        Raises:
            ScoreMismatch: it is more than rounding.
        """
        if self._cached is None:
            return 0.0
        ends = around(setting, self._grid) if self._grid else None
        settings = [setting] if ends is None else [{**setting, MASK_THRESHOLD: end} for end in ends]
        differences = []
        for one in settings:
            direct = self._direct.scores(with_setting(self._base_steps, one))
            differences.append(check_scores(self._of_cache(one), direct, str(dict(one))))
        return max(differences)

    def _of_cache(self, setting: Setting) -> list[float]:
        assert self._cached is not None
        return [score.value for score in self._cached.scores(with_setting(self._base_steps, setting))]


def _cached_scorer(
    truth: Annotations,
    predictions: PredictionSet,
    rows: list[NDArray[np.int64]],
    base_steps: Sequence[Step],
    space: Space,
    metric: str,
) -> tuple[FoldScorer | None, bool]:
    """Return the cached scorer (None without masks), and whether its trials touch no pixel."""
    if predictions.masks is None:
        return None, False
    variants = [tuple(base_steps), *(with_setting(base_steps, corner) for corner in space.corners)]
    all_bits = predictions.masks.all_bits
    pixel_free = all(CachedScorer.can_score(steps, metric, all_bits=all_bits) for steps in variants)
    if not pixel_free:
        log.info("these steps or %s need masks in each trial: slower", metric)
    scorer = CachedScorer(
        truth, predictions, rows, metric=metric, variants=variants, mask_thresholds=space.mask_grid
    )
    return scorer, pixel_free


def _grid(space: Space, base_steps: Sequence[Step]) -> tuple[float, ...]:
    """Return the mask thresholds that a cache holds: the space's, and that of the base steps."""
    own = setting_of(base_steps, [MASK_THRESHOLD]) if space.mask_grid else {}
    return tuple(sorted({*space.mask_grid, *(float(value) for value in own.values())}))


def _with_exact(
    found: Found, scores: _Scores, weights: NDArray[np.float64], parts: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], float]:
    """Score the best of each part exactly.

    Returns:
        (T, K) scores, (T,) which of them are exact, and the largest difference that this made.
    """
    exact = np.array([scores.is_exact(setting) for setting in found.settings])
    result, error = found.scores.copy(), 0.0
    for part in parts:
        rows = found.candidates(part)
        values = objective(found.scores, weights, part)[rows]
        for row in rows[np.argsort(-values, kind="stable")[:EXACT_CANDIDATES]]:
            if not exact[row]:
                result[row] = scores.exact(found.settings[row])
                exact[row] = True
                error = max(error, float(np.nanmax(np.abs(result[row] - found.scores[row]), initial=0.0)))
    return result, exact, error


def _exact_of(found: Found, exact: NDArray[np.bool_], part: int) -> NDArray[np.int64]:
    rows = found.candidates(part)
    kept: NDArray[np.int64] = rows[exact[rows]]
    return kept


def _best(
    found: Found,
    by_fold: NDArray[np.float64],
    exact: NDArray[np.bool_],
    weights: NDArray[np.float64],
    part: int,
) -> int:
    rows = _exact_of(found, exact, part)
    return int(rows[np.argmax(objective(by_fold, weights, part)[rows])])


def check_scores(trial: Sequence[float] | NDArray[np.float64], direct: Sequence[Score], what: str) -> float:
    """Return the largest difference between two scorings of the folds.

    Raises:
        ScoreMismatch: it is more than rounding.
    """
    a, b = np.asarray(trial, np.float64), np.array([score.value for score in direct])
    difference = float(np.nanmax(np.abs(a - b), initial=0.0))
    if difference > TOLERANCE or not np.array_equal(np.isnan(a), np.isnan(b)):
        raise ScoreMismatch(
            f"{what}: scored {a.tolist()} by fold in the study and {b.tolist()} by the direct path"
        )
    return difference


def _check_by_reference(
    truth: Annotations,
    predictions: PredictionSet,
    rows: Sequence[NDArray[np.int64]],
    steps: Sequence[Step],
    metric: str,
) -> float:
    """Return the largest difference of a fold's score to an independent reference's.

    Raises:
        ScoreMismatch: it is more than rounding.
    """
    difference = max(
        recheck(metric, truth.take_images(part), apply_steps(predictions.take_images(part), steps))
        for part in rows
    )
    if difference > TOLERANCE:
        raise ScoreMismatch(
            f"the chosen steps' {metric} differs from an independent reference by {difference:g}"
        )
    return difference


def _frame(
    space: Space,
    found: Found,
    by_fold: NDArray[np.float64],
    exact: NDArray[np.bool_],
    weights: NDArray[np.float64],
    numbers: Sequence[int],
) -> pd.DataFrame:
    words: dict[int | None, str] = {None: "fixed", ALL: "all"}
    words |= {k: f"without_{number}" for k, number in enumerate(numbers)}
    columns: dict[str, Any] = {"number": np.arange(len(found.settings))}
    columns["part"] = [words[part] for part in found.parts]
    columns |= {name: [setting[name] for setting in found.settings] for name in space.names}
    columns["value"] = objective(by_fold, weights)
    columns["exact"] = exact
    columns |= {f"fold_{number}": by_fold[:, k] for k, number in enumerate(numbers)}
    return pd.DataFrame(columns)
