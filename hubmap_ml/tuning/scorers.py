"""Scoring a list of steps on each fold: the direct way, and the same figures from cached geometry."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Annotations, BitMasks, Masks, PredictionSet
from hubmap_ml.metrics import Score, area_under, evaluate, precision_recall
from hubmap_ml.metrics.pairing import MASK_THRESHOLD, pair_up
from hubmap_ml.postprocess import (
    MaskThreshold,
    MaxPerImage,
    MinArea,
    Nms,
    Step,
    apply_steps,
)
from hubmap_ml.postprocess import Score as ScoreStep
from hubmap_ml.tuning.geometry import Geometry, build_geometry, first_hits, keep_first, suppress_pairs

AP60_IOU = 0.6
"""Mask IoU of the metric ``ap60``."""


class FoldScorer(Protocol):
    """Scores candidates after post-processing, fold by fold."""

    def scores(self, steps: Sequence[Step]) -> list[Score]:
        """Return the score of each fold."""
        ...


class DirectScorer:
    """Applies the steps and evaluates, as evaluation and submission do. Any steps, any metric; slow."""

    def __init__(
        self, truth: Annotations, predictions: PredictionSet, folds: Sequence[NDArray[np.int64]], metric: str
    ) -> None:
        """Take the folds apart.

        Args:
            truth, predictions: over the same images, in the same order.
            folds: image rows of each fold.
            metric: as ``metrics.evaluate`` names it.
        """
        self._metric = metric
        self._parts = [(truth.take_images(rows), predictions.take_images(rows)) for rows in folds]

    def scores(self, steps: Sequence[Step]) -> list[Score]:
        return [evaluate(self._metric, truth, apply_steps(found, steps)) for truth, found in self._parts]


@dataclass(frozen=True)
class _Fold:
    n_images: int
    order: NDArray[np.int64]  # its candidates by descending score
    n_truths: tuple[int, ...]  # by category, crowds not counted


class CachedScorer:
    """The metric ``ap60`` from cached geometry: the same figures as ``DirectScorer``, in a fraction of the time."""

    def __init__(
        self,
        truth: Annotations,
        predictions: PredictionSet,
        folds: Sequence[NDArray[np.int64]],
        *,
        variants: Sequence[Sequence[Step]],
        mask_thresholds: Sequence[float] = (),
    ) -> None:
        """Compute the geometry.

        Args:
            truth, predictions, folds: as for ``DirectScorer``.
            variants: lists of steps whose scores, NMS thresholds and mask thresholds bound what will be asked for.
            mask_thresholds: further mask thresholds that will be asked for.
        """
        floors = [
            min((s.threshold for s in steps if isinstance(s, ScoreStep)), default=0.0) for steps in variants
        ]
        found = apply_steps(predictions, [ScoreStep(min(floors))])
        overlaps = [s.iou for steps in variants for s in steps if isinstance(s, Nms)]
        thresholds = {threshold_of(steps) for steps in variants} | set(mask_thresholds)
        unmasked = found.replace(masks=Masks.from_bits(BitMasks.empty(len(found))))
        self._labels = pair_up(truth, unmasked).labels
        self._truth = truth
        self._all_bits = predictions.masks is not None and predictions.masks.all_bits
        self._geometry = build_geometry(
            truth, found, self._labels, thresholds=sorted(thresholds), overlap_floor=min(overlaps, default=1.0),
            match_iou=AP60_IOU,
        )  # fmt: skip
        self._folds = [self._fold(found, rows) for rows in folds]

    @staticmethod
    def can_score(steps: Sequence[Step], metric: str, *, all_bits: bool) -> bool:
        """Whether the cache knows every step of the list, in this order, and the metric."""
        pixels = all_bits
        for step in steps:
            if not isinstance(step, tuple(_RULES)) or getattr(step, "per_class", False):
                return False
            if isinstance(step, Nms) and step != Nms(step.iou):
                return False
            if isinstance(step, MinArea) and not pixels:
                return False
            pixels = pixels or isinstance(step, MaskThreshold)
        return metric == "ap60"

    def scores(self, steps: Sequence[Step]) -> list[Score]:
        geometry = self._geometry
        level = geometry.thresholds.index(threshold_of(steps))
        alive = np.ones(len(geometry.scores), np.bool_)
        for step in steps:
            _RULES[type(step)](step, geometry, level, alive)
        return [self._score(fold, level, alive) for fold in self._folds]

    def _score(self, fold: _Fold, level: int, alive: NDArray[np.bool_]) -> Score:
        order = fold.order[alive[fold.order]]
        hits = first_hits(order, self._geometry.best[level], len(self._truth))
        counts = hits | ~self._geometry.in_crowd[level][order]
        labels = self._labels[order]
        values = []
        for label, n_truths in enumerate(fold.n_truths):
            if n_truths:
                values.append(area_under(*precision_recall(hits[counts & (labels == label)], n_truths)))
        return Score(
            "ap60", float(np.mean(values)) if values else float("nan"), fold.n_images, len(order), {}
        )

    def _fold(self, found: PredictionSet, rows: NDArray[np.int64]) -> _Fold:
        ties = np.arange(len(found)) if found.file_order is None else found.file_order
        by_score = np.lexsort((ties, -found.scores))
        targets = np.isin(self._truth.image_rows(), rows) & ~self._truth.iscrowd
        counts = np.bincount(self._truth.labels[targets], minlength=len(self._truth.categories))
        order = by_score[np.isin(found.image_rows(), rows)[by_score]]
        return _Fold(len(rows), order, tuple(int(count) for count in counts))


def threshold_of(steps: Sequence[Step]) -> float:
    """Return the mask threshold that the steps apply; the metrics' own where they apply none."""
    return next((step.threshold for step in steps if isinstance(step, MaskThreshold)), MASK_THRESHOLD)


def _score_rule(step: ScoreStep, geometry: Geometry, level: int, alive: NDArray[np.bool_]) -> None:
    alive &= geometry.scores >= np.float32(step.threshold)


def _nms_rule(step: Nms, geometry: Geometry, level: int, alive: NDArray[np.bool_]) -> None:
    suppress_pairs(
        alive, geometry.pair_starts, geometry.pair_columns, geometry.pair_overlaps, float(step.iou)
    )


def _mask_threshold_rule(
    step: MaskThreshold, geometry: Geometry, level: int, alive: NDArray[np.bool_]
) -> None:
    alive &= geometry.areas[level] > 0


def _min_area_rule(step: MinArea, geometry: Geometry, level: int, alive: NDArray[np.bool_]) -> None:
    alive &= geometry.areas[level] >= step.pixels


def _max_per_image_rule(step: MaxPerImage, geometry: Geometry, level: int, alive: NDArray[np.bool_]) -> None:
    keep_first(alive, geometry.image_offsets, step.count)


_RULES: dict[type, Callable[..., None]] = {
    ScoreStep: _score_rule,
    Nms: _nms_rule,
    MaskThreshold: _mask_threshold_rule,
    MinArea: _min_area_rule,
    MaxPerImage: _max_per_image_rule,
}
