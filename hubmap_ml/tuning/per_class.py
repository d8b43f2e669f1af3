"""Values of each class's own: one study a class, on that class's truths and candidates alone.

The score is the mean of the classes' scores weighted by how many images hold a truth of the class. (Sartorius 2021: one
cell type an image, thresholds and score by type.)
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics import METRICS, evaluate
from hubmap_ml.postprocess import Step, apply_steps, steps_to_data
from hubmap_ml.spec import InputError
from hubmap_ml.tuning.folding import fold_rows
from hubmap_ml.tuning.searching import Progress
from hubmap_ml.tuning.space import DEDUPLICATED_AT, parse_space
from hubmap_ml.tuning.step_values import (
    Setting,
    Value,
    name_of_class,
    require_per_class,
    with_setting,
)
from hubmap_ml.tuning.study import Study, run_study

Set = TypeVar("Set", Annotations, PredictionSet)


def run_study_per_class(
    truth: Annotations,
    predictions: PredictionSet,
    *,
    base_steps: Sequence[Step],
    space: Mapping[str, Any],
    metric: str = "ap60",
    folds: ArrayLike | None = None,
    name: str = "study",
    deduplicated_at: float = DEDUPLICATED_AT,
    progress: Progress | None = None,
    **options: Any,
) -> Study:
    """Search the values of each class that has truths; classes without any keep the base steps' values.

    Args:
        truth, predictions, base_steps, space, metric, folds, name, deduplicated_at, progress, options: as for
            ``run_study``; every value of the space must be one that its step holds per class.

    Returns:
        A study as of ``run_study``: settings name values by class (``score.astro``), all scores are weighted over
        classes, and ``trials`` has a column ``class``. Scores are those of all classes' values together, so that steps
        across classes (``max_per_image``) count.

    Raises:
        InputError: as ``run_study``, or a value that cannot differ by class.
        ScoreMismatch: as ``run_study``.
    """
    if metric not in METRICS:
        raise InputError(f"there is no metric {metric!r} (there are {', '.join(METRICS)})")
    searched = parse_space(space, base_steps, deduplicated_at=deduplicated_at)
    truth = truth.take_images(truth.images.rows_of(list(predictions.images.ids)))
    of_image = predictions.images.folds if folds is None else np.asarray(folds)
    numbers, rows = fold_rows(of_image, len(predictions.images))
    targets = ~truth.iscrowd
    present = [label for label in range(len(truth.categories)) if (targets & (truth.labels == label)).any()]
    if not present:
        raise InputError(
            f"none of the {len(truth.images)} predicted images has a truth: there is nothing to tune by"
        )
    classes = [truth.categories[label].name for label in present]
    require_per_class(base_steps, searched.names, classes[0])

    studies = []
    for k, class_name in enumerate(classes):
        told = None if progress is None else _part_of(progress, k, len(classes))
        studies.append(
            run_study(
                of_class(truth, class_name), of_class(predictions, class_name), base_steps=base_steps, space=space,
                metric=metric, folds=of_image, name=f"{name}.{class_name}", deduplicated_at=deduplicated_at,
                progress=told, **options,
            )
        )  # fmt: skip
    best = _by_class(classes, [study.best_setting for study in studies])
    chosen = tuple(
        None
        if all(study.chosen[k] is None for study in studies)
        else _by_class(classes, [study.chosen[k] or study.best_setting for study in studies])
        for k in range(len(numbers))
    )

    def scored(settings: Sequence[Setting | None]) -> NDArray[np.float64]:
        return np.array(
            [
                np.nan if setting is None else _score(
                    truth.take_images(part), predictions.take_images(part), with_setting(base_steps, setting), classes,
                    metric,
                ) for setting, part in zip(settings, rows, strict=True)
            ]
        )  # fmt: skip

    sizes = np.array([len(part) for part in rows], np.float64)
    base_values = scored([{}] * len(rows))
    fold_values = scored([best] * len(rows))
    held_out = scored(chosen)
    tables = [study.trials.assign(**{"class": name}) for study, name in zip(studies, classes, strict=True)]
    return Study(
        metric=metric,
        sampler=studies[0].sampler,
        best_setting=best,
        best_steps=steps_to_data(with_setting(base_steps, best)),
        value=_mean(fold_values, sizes),
        cross_fitted=_mean(held_out, sizes),
        base_value=_mean(base_values, sizes),
        fold_values=tuple(fold_values.tolist()),
        base_fold_values=tuple(base_values.tolist()),
        chosen=chosen,
        held_out_values=tuple(held_out.tolist()),
        trials=pd.concat(tables, ignore_index=True),
        folds=numbers,
        fold_images=tuple(len(part) for part in rows),
        n_truths=len(truth),
        mismatch=max(study.mismatch for study in studies),
        interpolation_error=max(study.interpolation_error for study in studies),
    )


def of_class(some: Set, name: str) -> Set:
    """Return the same images and classes with only the instances of one class."""
    label = next((k for k, category in enumerate(some.categories) if category.name == name), -1)
    return some.take(np.flatnonzero(some.labels == label))


def _score(
    truth: Annotations, predictions: PredictionSet, steps: Sequence[Step], classes: Sequence[str], metric: str
) -> float:
    """Score a fold: the classes' mean, weighted by images that hold a truth of the class."""
    final = apply_steps(predictions, steps)
    values, weights = [], []
    for name in classes:
        targets = of_class(truth, name)
        value = evaluate(metric, targets, of_class(final, name)).value
        if np.isfinite(value):
            values.append(value)
            weights.append(len(np.unique(targets.image_rows()[~targets.iscrowd])))
    return float(np.average(values, weights=weights)) if values else float("nan")


def _mean(values: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    known = np.isfinite(values)
    return float(np.average(values[known], weights=sizes[known])) if known.any() else float("nan")


def _by_class(classes: Sequence[str], settings: Sequence[Setting]) -> dict[str, Value]:
    return {
        name_of_class(name, class_name): value
        for class_name, setting in zip(classes, settings, strict=True)
        for name, value in setting.items()
    }


def _part_of(progress: Progress, k: int, count: int) -> Progress:
    return lambda done, total, best: progress(k * total + done, count * total, best)
