"""Scoring the candidates that a trial keeps, fold by fold, from overlaps that are known: the cached metrics.

Each rule gives what ``metrics.evaluate`` gives for the same instances, to the bit: it runs the same kernels on a table
of all candidates, with the rows that are left.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics.coco import CocoMatcher, CocoOptions, coco_rank, overlap_floor
from hubmap_ml.metrics.data_science_bowl import FLOOR, THRESHOLDS, scores_of_counts, value_of_scores
from hubmap_ml.metrics.matching import dsb_counts, in_order
from hubmap_ml.metrics.open_images import OpenImagesMatcher, mean_of_known, ranking, target_counts
from hubmap_ml.metrics.overlaps import Overlaps
from hubmap_ml.tuning.filters import Rows

AP60_IOU = 0.6
"""Mask IoU of the metric ``ap60``."""


@dataclass(frozen=True)
class Figures:
    """A fold's value and further figures by name."""

    value: float
    details: Mapping[str, float]


@dataclass(frozen=True)
class Setting:
    """What a rule is made for.

    Attributes:
        truth: annotations of M images, the images of a fold together.
        found: N candidates of these images.
        labels: int64 (N,), their labels among the truth's categories; -1 for none.
        folds: each fold's run [first, stop) of images.
    """

    truth: Annotations
    found: PredictionSet
    labels: NDArray[np.int64]
    folds: Sequence[tuple[int, int]]


class Rule(Protocol):
    """A metric on cached overlaps (see ``geometry.OverlapUser``)."""

    floor: float
    any_label: bool

    def add_level(self, overlaps: Overlaps, areas: NDArray[np.int64]) -> None:
        """Take the overlaps with the truth and the areas at the next mask threshold."""
        ...

    def figures(self, level: int, rows: Rows) -> list[Figures]:
        """Score each fold's part of the rows with the masks of a threshold."""
        ...


class _Folds:
    """The folds' images, candidates, and places by score."""

    def __init__(self, setting: Setting, rank: Callable[[PredictionSet], NDArray[np.int32]]) -> None:
        offsets = setting.found.offsets
        self.images = list(setting.folds)
        self.bounds = np.array([[offsets[a], offsets[b]] for a, b in setting.folds], np.int64).reshape(-1, 2)
        self.truths = [setting.truth.take_images(np.arange(a, b)) for a, b in setting.folds]
        self.rank = np.zeros(len(setting.found), np.int32)
        for first, stop in setting.folds:
            part = setting.found.take_images(np.arange(first, stop)).replace(masks=None)
            self.rank[offsets[first] : offsets[stop]] = rank(part)

    def parts(self, rows: Rows) -> list[Rows]:
        """The rows of each fold."""
        return [rows[a:b] for a, b in np.searchsorted(rows, self.bounds)]


class OpenImagesRule:
    """``metrics.average_precision`` at one IoU."""

    any_label = False

    def __init__(self, setting: Setting, iou_threshold: float = AP60_IOU) -> None:
        self.floor = iou_threshold
        self._setting = setting
        self._folds = _Folds(setting, _place_by_score)
        self._n_truths = [target_counts(truth) for truth in self._folds.truths]
        self._matchers: list[OpenImagesMatcher] = []

    def add_level(self, overlaps: Overlaps, areas: NDArray[np.int64]) -> None:
        self._matchers.append(
            OpenImagesMatcher(self.floor, self._setting.truth, overlaps, self._setting.labels)
        )

    def figures(self, level: int, rows: Rows) -> list[Figures]:
        matcher, rank = self._matchers[level], self._folds.rank
        out = []
        for part, n_truths, (first, stop) in zip(
            self._folds.parts(rows), self._n_truths, self._folds.bounds.tolist(), strict=True
        ):
            order = in_order(part, rank, stop - first)
            out.append(Figures(mean_of_known(matcher.average_precisions(part, order, n_truths)), {}))
        return out


class CocoRule:
    """``metrics.coco_evaluation``; the value is the mean precision, the details are the twelve figures if asked for."""

    any_label = False

    def __init__(self, setting: Setting, options: CocoOptions | None = None, *, twelve: bool = True) -> None:
        self._options = CocoOptions() if options is None else options
        self._twelve = twelve
        self.floor = overlap_floor(self._options)
        self._setting = setting
        self._folds = _Folds(setting, coco_rank)
        self._n_truths: list[NDArray[np.int64]] = []
        self._matchers: list[CocoMatcher] = []

    def add_level(self, overlaps: Overlaps, areas: NDArray[np.int64]) -> None:
        images = self._setting.found.image_rows()
        matcher = CocoMatcher(
            self._options, self._setting.truth, overlaps, areas, self._setting.labels, images
        )
        self._matchers.append(matcher)
        if not self._n_truths:
            self._n_truths = [matcher.truth_counts(images) for images in self._folds.images]

    def figures(self, level: int, rows: Rows) -> list[Figures]:
        matcher, rank = self._matchers[level], self._folds.rank
        out = []
        for part, n_truths, (first, stop) in zip(
            self._folds.parts(rows), self._n_truths, self._folds.bounds.tolist(), strict=True
        ):
            tables = matcher.evaluation(part, rank, stop - first, n_truths)
            figures = tables.twelve() if self._twelve else {}
            value = tables.average_precision()
            known = {name: figure for name, figure in figures.items() if figure != -1}
            out.append(Figures(float("nan") if value == -1 else value, known))
        return out


class DsbRule:
    """``metrics.dsb_map``."""

    floor = FLOOR
    any_label = True

    def __init__(self, setting: Setting) -> None:
        self._truth, self._images = setting.truth, setting.found.image_rows().astype(np.int32)
        self._folds = _Folds(setting, _place_by_score)
        self._levels: list[tuple[Overlaps, NDArray[np.int64]]] = []

    def add_level(self, overlaps: Overlaps, areas: NDArray[np.int64]) -> None:
        self._levels.append((overlaps, areas))

    def figures(self, level: int, rows: Rows) -> list[Figures]:
        overlaps, areas = self._levels[level]
        counts = dsb_counts(
            rows[areas[rows] > 0], self._images, overlaps.starts, overlaps.truths, overlaps.values,
            self._truth.offsets, self._truth.iscrowd, np.array(THRESHOLDS),
        )  # fmt: skip
        scores = scores_of_counts(counts)
        return [
            Figures(value_of_scores(scores[first:stop], truth), {})
            for (first, stop), truth in zip(self._folds.images, self._folds.truths, strict=True)
        ]


RULES: Mapping[str, Callable[[Setting], Rule]] = {
    "ap60": OpenImagesRule,
    "coco_segm": CocoRule,
    "dsb_map": DsbRule,
}
"""The metrics that are scored from overlaps; others are scored from masks."""


def _place_by_score(found: PredictionSet) -> NDArray[np.int32]:
    rank = np.empty(len(found), np.int32)
    rank[ranking(found)] = np.arange(len(found), dtype=np.int32)
    return rank
