"""Scoring a list of steps on each fold: the direct way, and the same figures from cached geometry."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Annotations, BitMasks, Masks, PredictionSet
from hubmap_ml.instances.ragged import offsets_of
from hubmap_ml.metrics import Score, evaluate
from hubmap_ml.metrics.pairing import MASK_THRESHOLD, pair_up
from hubmap_ml.postprocess import MaskThreshold, Nms, Step, apply_steps
from hubmap_ml.postprocess import Score as ScoreStep
from hubmap_ml.tuning.filters import PairKey, Rows, filtered, leading_filters
from hubmap_ml.tuning.geometry import build_candidates
from hubmap_ml.tuning.rules import RULES, Rule, Setting


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


class CachedScorer:
    """The figures of ``DirectScorer`` to the bit, in a fraction of the time.

    Steps that only drop instances (score, suppression, mask threshold, areas, count) are applied to row numbers, and
    the metric is counted from overlaps, without touching a pixel. From the first step on that the cache does not know
    (morphology, soft suppression, a mask threshold outside of the grid, …) the way is lazy: the steps before have
    chosen the rows, only their masks are made, and the rest is what ``DirectScorer`` does.

    Attributes:
        candidates: what the filters know of the candidates, images fold after fold.
    """

    def __init__(
        self,
        truth: Annotations,
        predictions: PredictionSet,
        folds: Sequence[NDArray[np.int64]],
        *,
        metric: str,
        variants: Sequence[Sequence[Step]],
        mask_thresholds: Sequence[float] = (),
        rule: Callable[[Setting], Rule] | None = None,
    ) -> None:
        """Compute the geometry.

        Args:
            truth, predictions, folds: as for ``DirectScorer``.
            metric: as ``metrics.evaluate`` names it.
            variants: lists of steps whose scores, NMS thresholds and mask thresholds bound what will be asked for (what
                lies outside is scored all the same, slower).
            mask_thresholds: further mask thresholds that will be asked for.
            rule: how the metric is counted; by default the metric's own of ``RULES``.
        """
        self._metric, self._predictions = metric, predictions
        self._images = np.concatenate([np.zeros(0, np.int64), *folds])
        stops = offsets_of([len(rows) for rows in folds]).tolist()
        self._folds = list(pairwise(stops))
        self._truth = truth.take_images(self._images)
        self._all_bits = predictions.masks is not None and predictions.masks.all_bits
        leading = [steps[: leading_filters(steps, all_bits=self._all_bits)] for steps in variants]
        self._score_floor = min(map(_lowest_score, leading), default=0.0)
        self._found = apply_steps(predictions.take_images(self._images), [ScoreStep(self._score_floor)])
        unmasked = self._found.replace(masks=Masks.from_bits(BitMasks.empty(len(self._found))))
        setting = Setting(self._truth, self._found, pair_up(self._truth, unmasked).labels, self._folds)
        made_by = RULES.get(metric) if rule is None else rule
        self._rule: Rule | None = None if made_by is None else made_by(setting)
        self.candidates = build_candidates(
            self._truth, self._found, setting.labels, self._rule, floors=_lowest_overlaps(leading),
            thresholds=self._thresholds(variants, mask_thresholds),
        )  # fmt: skip
        self._bounds = np.array([self._found.offsets[[a, b]] for a, b in self._folds]).reshape(-1, 2)

    @staticmethod
    def can_score(steps: Sequence[Step], metric: str, *, all_bits: bool) -> bool:
        """Whether a trial of these steps touches no pixel: the cache knows the metric and every step, in this order."""
        return metric in RULES and leading_filters(steps, all_bits=all_bits) == len(steps)

    def scores(self, steps: Sequence[Step]) -> list[Score]:
        """Return the score of each fold, with COCO's twelve figures as details where they are counted."""
        if _lowest_score(steps[: leading_filters(steps, all_bits=self._all_bits)]) < self._score_floor:
            return self._from_masks(self._predictions.take_images(self._images), steps)
        rows, done = self._filtered(steps)
        level = self._level(steps)
        if done < len(steps) or level is None or self._rule is None:
            cut = [step for step in steps[:done] if isinstance(step, MaskThreshold)]
            return self._from_masks(self._found.take(rows), [*cut, *steps[done:]])
        figures = self._rule.figures(level, rows)
        counts = np.diff(np.searchsorted(rows, self._bounds), axis=1)[:, 0]
        return [
            Score(self._metric, figure.value, stop - first, int(count), figure.details)
            for figure, (first, stop), count in zip(figures, self._folds, counts, strict=True)
        ]

    def _filtered(self, steps: Sequence[Step]) -> tuple[Rows, int]:
        """Apply the leading steps that are known; return the rows that are left, and how many steps that were."""
        level = self._level(steps)
        rows: Rows | None = None
        done = 0
        for step in steps[: leading_filters(steps, all_bits=self._all_bits)]:
            if level is None and isinstance(step, MaskThreshold):
                break
            left = filtered(rows, step, self.candidates, level or 0)
            if left is None:
                break
            rows, done = left, done + 1
        return np.arange(len(self._found), dtype=np.int32) if rows is None else rows, done

    def _level(self, steps: Sequence[Step]) -> int | None:
        """The number of the mask threshold that the steps end with; None where its masks are not known."""
        if self._all_bits:
            return 0
        threshold, known = threshold_of(steps), self.candidates.thresholds
        return known.index(threshold) if threshold in known else None

    def _thresholds(self, variants: Sequence[Sequence[Step]], further: Sequence[float]) -> Sequence[float]:
        """The mask thresholds at which masks are made beforehand: none if every trial has to make its own."""
        if self._all_bits:
            return [MASK_THRESHOLD]
        if self._rule is None or not all(leading_filters(s, all_bits=False) == len(s) for s in variants):
            return []
        return sorted({threshold_of(steps) for steps in variants} | set(further))

    def _from_masks(self, found: PredictionSet, steps: Sequence[Step]) -> list[Score]:
        final = apply_steps(found, steps)
        return [
            evaluate(
                self._metric,
                self._truth.take_images(np.arange(first, stop)),
                final.take_images(np.arange(first, stop)),
            )
            for first, stop in self._folds
        ]


def threshold_of(steps: Sequence[Step]) -> float:
    """Return the mask threshold that the steps apply; the metrics' own where they apply none."""
    return next((step.threshold for step in steps if isinstance(step, MaskThreshold)), MASK_THRESHOLD)


def _lowest_score(steps: Sequence[Step]) -> float:
    """The score under which these steps keep nothing."""
    return max(
        (min([s.threshold, *s.per_class.values()]) for s in steps if isinstance(s, ScoreStep)), default=0.0
    )


def _lowest_overlaps(variants: Sequence[Sequence[Step]]) -> Mapping[PairKey, float]:
    floors: dict[PairKey, float] = {}
    for step in (step for steps in variants for step in steps if isinstance(step, Nms)):
        key = PairKey.of(step)
        floors[key] = min(step.iou, floors.get(key, 1.0))
    return floors
