"""Steps that only drop instances, on row numbers: what a trial does instead of handling masks.

A filter takes the rows that are left (int32, ascending: by image, in each by descending score) and returns those that
stay. It decides as its step decides, to the bit; a step without a filter here goes the lazy way (``scorers``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Category
from hubmap_ml.instances.compiled import compiled
from hubmap_ml.postprocess import MaskThreshold, MaxArea, MaxPerImage, MinArea, Nms, Score, Step

Rows = NDArray[np.int32]


@dataclass(frozen=True)
class PairKey:
    """Which table of overlapping candidates a suppression asks for."""

    by: Literal["box", "mask"]
    measure: str
    across_classes: bool

    @staticmethod
    def of(step: Nms) -> "PairKey":
        return PairKey(step.by, step.measure, step.across_classes)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Candidates that overlap later ones of their image (CSR), each row's by descending overlap.

    Attributes:
        floor: only overlaps greater than this are known.
        starts: int64 (N + 1,).
        columns: int32 (P,), later rows.
        overlaps: float64 (P,).
    """

    floor: float
    starts: NDArray[np.int64]
    columns: NDArray[np.int32]
    overlaps: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """What filters need to know of N candidates, sorted by image and in each by descending score.

    Attributes:
        categories: what labels count through.
        image_offsets: int64 (M + 1,).
        images, labels: int32 (N,).
        scores: float32 (N,).
        thresholds: (T,) mask thresholds that are known, ascending.
        areas: for each threshold int64 (N,), pixels.
        box_pairs: by key.
        mask_pairs: for each threshold, by key.
    """

    categories: tuple[Category, ...]
    image_offsets: NDArray[np.int64]
    images: NDArray[np.int32]
    labels: NDArray[np.int32]
    scores: NDArray[np.float32]
    thresholds: tuple[float, ...]
    areas: Sequence[NDArray[np.int64]]
    box_pairs: Mapping[PairKey, Pairs]
    mask_pairs: Sequence[Mapping[PairKey, Pairs]]

    def pairs(self, step: Nms, level: int) -> Pairs | None:
        """The pairs that a suppression needs, or None if they are not known."""
        tables = self.box_pairs if step.by == "box" else self.mask_pairs[level]
        found = tables.get(PairKey.of(step))
        return None if found is None or step.iou < found.floor else found


def is_filter(step: Step, *, pixels: bool) -> bool:
    """Whether a step only drops instances, in a way that is known here.

    Args:
        step: any.
        pixels: whether the masks are decided before it.
    """
    if type(step) is MaskThreshold:
        return not step.per_class
    if type(step) in (MinArea, MaxArea) or (type(step) is Nms and step.by == "mask"):
        return pixels
    return type(step) in (Score, Nms, MaxPerImage)


def leading_filters(steps: Sequence[Step], *, all_bits: bool) -> int:
    """How many steps at the beginning are filters; ``all_bits``: whether masks are decided from the start."""
    pixels = all_bits
    for count, step in enumerate(steps):
        if not is_filter(step, pixels=pixels):
            return count
        pixels = pixels or isinstance(step, MaskThreshold)
    return len(steps)


def filtered(rows: Rows | None, step: Step, candidates: Candidates, level: int) -> Rows | None:
    """The rows that a step leaves, or None if it asks for something that is not known.

    Args:
        rows: those before it; None for all.
        step: for which ``is_filter`` holds.
        candidates: what is known.
        level: the mask threshold's number.
    """
    left: Rows
    if type(step) is Score:
        limits = _by_label(candidates, step.threshold, step.per_class)
        if limits is None:
            return None
        limits = limits.astype(np.float32)
        if rows is None:
            left = rows_from_score(candidates.image_offsets, candidates.scores, candidates.labels, limits)
        else:
            left = rows[candidates.scores[rows] >= limits[candidates.labels[rows]]]
        return left
    if rows is None:
        rows = np.arange(len(candidates.scores), dtype=np.int32)
    if type(step) is Nms:
        pairs = candidates.pairs(step, level)
        if pairs is None:
            return None
        left = suppressed(rows, pairs.starts, pairs.columns, pairs.overlaps, float(step.iou))
    elif type(step) is MaskThreshold:
        left = rows[candidates.areas[level][rows] > 0]
    elif type(step) is MaxPerImage:
        n_labels = len(candidates.categories) if step.per_class else 0
        left = first_of_images(rows, candidates.images, candidates.labels, n_labels, step.count)
    else:
        assert isinstance(step, MinArea | MaxArea)
        limits = _by_label(candidates, step.pixels, step.per_class)
        if limits is None:
            return None
        areas, limit = candidates.areas[level][rows], limits[candidates.labels[rows]]
        left = rows[areas >= limit] if type(step) is MinArea else rows[areas <= limit]
    return left


def _by_label(candidates: Candidates, default: float, per_class: Mapping[str, float]) -> NDArray[Any] | None:
    """The number of each label (K,); None where a class is named that there is not (the step itself says so)."""
    names = [category.name for category in candidates.categories]
    if not set(per_class) <= set(names):
        return None
    return np.array([per_class.get(name, default) for name in names], np.float64)


@compiled
def rows_from_score(offsets: Any, scores: Any, labels: Any, limits: Any) -> Any:
    """Rows whose score is at least the limit of their label, int32; each image's scores descend."""
    lowest = np.float32(np.inf)
    for limit in limits:
        lowest = min(lowest, limit)
    out = np.empty(len(scores), dtype=np.int32)
    used = 0
    for image in range(len(offsets) - 1):
        for row in range(offsets[image], offsets[image + 1]):
            if scores[row] < lowest:
                break
            if scores[row] >= limits[labels[row]]:
                out[used] = row
                used += 1
    return out[:used]


@compiled
def suppressed(rows: Any, starts: Any, columns: Any, overlaps: Any, threshold: Any) -> Any:
    """Rows that no earlier, kept row overlaps by more than the threshold; pairs as in ``Pairs``."""
    dead = np.zeros(len(starts), dtype=np.bool_)
    out = np.empty(len(rows), dtype=np.int32)
    used = 0
    for row in rows:
        if dead[row]:
            continue
        out[used] = row
        used += 1
        k = starts[row]
        while k < starts[row + 1] and overlaps[k] > threshold:
            dead[columns[k]] = True
            k += 1
    return out[:used]


@compiled
def first_of_images(rows: Any, images: Any, labels: Any, n_labels: Any, count: Any) -> Any:
    """The first ``count`` rows of each image, or with ``n_labels`` > 0 of each image and label."""
    counts = np.zeros(max(n_labels, 1), dtype=np.int64)
    out = np.empty(len(rows), dtype=np.int32)
    used = 0
    image = -1
    for row in rows:
        if images[row] != image:
            image = images[row]
            counts[:] = 0
        label = labels[row] if n_labels > 0 else 0
        if counts[label] < count:
            counts[label] += 1
            out[used] = row
            used += 1
    return out[:used]
