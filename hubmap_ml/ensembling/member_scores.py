"""What an ensemble of some members would score, fold by fold: fused once for each distinct ratio of weights.

While members are compared, post-processing is the base steps'. Metrics that count false positives at whatever score
(``dsb_map``, ``dice``) are also looked at with other score thresholds, a list that no truth has steered; to an average
precision a lower threshold does no harm.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.fusion import FusionOptions, fuse_weighted
from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.postprocess import Step
from hubmap_ml.tuning import DirectScorer, parse_space, with_setting
from hubmap_ml.tuning.folding import fold_rows

THRESHOLDED = ("dsb_map", "dice")
SCORE_LEVELS = 5


class MemberScores:
    """Tables of scores of ensembles of the same members on the same images.

    Attributes:
        n_members: how many members there are.
    """

    def __init__(
        self,
        truth: Annotations,
        members: Sequence[PredictionSet],
        *,
        folds: ArrayLike,
        metric: str,
        base_steps: Sequence[Step],
        space: Mapping[str, Any],
    ) -> None:
        """Take what is compared.

        Args:
            truth, members: over the same images in the same order.
            folds: of each image.
            metric, base_steps, space: as for ``run_study``.
        """
        self._truth, self._members, self._metric = truth, members, metric
        _, self._rows = fold_rows(folds, len(truth.images))
        self.n_members = len(members)
        self._settings = _settings(base_steps, space, metric)
        self._known: dict[tuple[tuple[float, ...], FusionOptions], NDArray[np.float64]] = {}

    @property
    def fold_images(self) -> tuple[int, ...]:
        """Images of each fold."""
        return tuple(len(rows) for rows in self._rows)

    def table(self, weights: Sequence[float], options: FusionOptions) -> NDArray[np.float64]:
        """Return the score at each setting on each fold, (S, K).

        Args:
            weights: of each member, 0 for one that is not in it; only their ratios matter.
        """
        greatest = max(weights)
        ratios = tuple(weight / greatest for weight in weights)
        if (ratios, options) not in self._known:
            self._known[ratios, options] = self._scored(fuse_weighted(self._members, ratios, options))
        return self._known[ratios, options]

    def value(self, weights: Sequence[float], options: FusionOptions) -> float:
        """Return the best setting's mean over the folds that have truths, weighted by images."""
        return self._best(self.table(weights, options))

    def value_of(self, fused: PredictionSet) -> float:
        """As ``value``, of members that were fused elsewhere."""
        return self._best(self._scored(fused))

    def _scored(self, fused: PredictionSet) -> NDArray[np.float64]:
        scorer = DirectScorer(self._truth, fused, self._rows, self._metric)
        return np.array([[score.value for score in scorer.scores(steps)] for steps in self._settings])

    def _best(self, table: NDArray[np.float64]) -> float:
        usable = np.isfinite(table).all(axis=0)
        images = np.asarray(self.fold_images, np.float64)[usable]
        return float(np.max(table[:, usable] @ images / images.sum())) if usable.any() else float("nan")


def _settings(
    base_steps: Sequence[Step], space: Mapping[str, Any], metric: str
) -> tuple[tuple[Step, ...], ...]:
    found = [tuple(base_steps)]
    score = next((p for p in parse_space(space, base_steps).parameters if p.name == "score"), None)
    if metric in THRESHOLDED and score is not None and not score.fixed and not score.choices:
        levels = np.linspace(score.low, score.high, SCORE_LEVELS)
        found += [with_setting(base_steps, {"score": float(level)}) for level in levels]
    return tuple(found)
