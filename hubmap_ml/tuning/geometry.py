"""What a threshold study computes once: which candidates overlap each other and the truth, and their areas.

A trial then only filters, suppresses and counts; masks are not looked at again. Masks at all thresholds of the grid are
made in one pass over the candidates, some images at a time, and forgotten; what stays is a few bytes a pair.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion import overlapping_pairs
from hubmap_ml.instances import Annotations, BitMasks, Masks, PredictionSet
from hubmap_ml.instances.compiled import compiled
from hubmap_ml.metrics.overlaps import Overlaps, overlaps_with_truth, runs_of_images
from hubmap_ml.tuning.filters import Candidates, PairKey, Pairs

_INSTANCES_AT_ONCE = 4000
"""Masks pasted in one go; about 5 KB each at each threshold."""


class OverlapUser(Protocol):
    """A rule that matches candidates with truths: what it needs of the overlaps, and where they go."""

    floor: float
    any_label: bool

    def add_level(self, overlaps: Overlaps, areas: NDArray[np.int64]) -> None:
        """Take the overlaps with the truth and the areas at the next mask threshold."""
        ...


def build_candidates(
    truth: Annotations,
    found: PredictionSet,
    labels: NDArray[np.int64],
    rule: OverlapUser | None,
    *,
    thresholds: Sequence[float],
    floors: Mapping[PairKey, float],
) -> Candidates:
    """Compute the geometry of a study.

    Args:
        truth: annotations of the candidates' images, in the same order.
        found: candidates with masks, by descending score in each image.
        labels: (N,) each candidate's label among the truth's categories; -1 for none.
        rule: gets its overlaps with the truth, threshold after threshold; None: nobody asks for them.
        thresholds: mask thresholds that will be asked for, ascending.
        floors: for each kind of suppression, the lowest threshold that will be asked for.
    """
    assert found.masks is not None
    mask_floors = {key: floor for key, floor in floors.items() if key.by == "mask"}
    levels = [_Level(mask_floors) for _ in thresholds]
    heights, widths = found.heights_of_instances(), found.widths_of_instances()
    for first, stop in runs_of_images(found.offsets, _INSTANCES_AT_ONCE) if levels else ():
        rows = slice(int(found.offsets[first]), int(found.offsets[stop]))
        offsets = found.offsets[first : stop + 1] - rows.start
        part = found.masks.take(np.arange(rows.start, rows.stop))
        of_truth = truth.take_images(np.arange(first, stop))
        for level, bits in zip(levels, bits_at(part, thresholds, heights[rows], widths[rows]), strict=True):
            level.add_masks(bits, offsets, found.labels[rows])
            if rule is not None:
                own = None if rule.any_label else labels[rows]
                overlaps = overlaps_with_truth(bits, offsets, of_truth, floor=rule.floor, labels=own)
                level.add_overlaps(overlaps, int(truth.offsets[first]))
    areas = [level.areas() for level in levels]
    if rule is not None:
        for level, pixels in zip(levels, areas, strict=True):
            rule.add_level(level.overlaps(), pixels)
    return Candidates(
        categories=found.categories,
        image_offsets=found.offsets.astype(np.int64),
        images=found.image_rows().astype(np.int32),
        labels=found.labels.astype(np.int32),
        scores=found.scores,
        thresholds=tuple(thresholds),
        areas=areas,
        box_pairs={key: _box_pairs(found, key, floor) for key, floor in floors.items() if key.by == "box"},
        mask_pairs=[level.pairs() for level in levels],
    )


def bits_at(
    masks: Masks, thresholds: Sequence[float], heights: NDArray[np.int64], widths: NDArray[np.int64]
) -> list[BitMasks]:
    """The masks at each threshold; soft ones are sampled once for all thresholds."""
    if masks.all_bits:
        return [masks.bits] * len(thresholds)
    if len(masks.bits) == 0:
        return masks.soft.paste_many(np.asarray(thresholds), heights, widths)
    return [masks.binarize(threshold, heights, widths) for threshold in thresholds]


class _Level:
    """What is known at one mask threshold, gathered run of images by run of images."""

    def __init__(self, floors: Mapping[PairKey, float]) -> None:
        self._floors = floors
        self._areas: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        self._truths: list[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]] = []
        self._pairs: dict[PairKey, list[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]]] = {
            key: [] for key in floors
        }
        self._rows = 0

    def add_overlaps(self, overlaps: Overlaps, first_truth: int) -> None:
        self._truths.append(
            (np.diff(overlaps.starts), overlaps.truths + np.int32(first_truth), overlaps.values)
        )

    def add_masks(self, bits: BitMasks, offsets: NDArray[np.int64], labels: NDArray[np.int16]) -> None:
        areas = bits.areas()
        self._areas.append(areas)
        for key, floor in self._floors.items():
            counts, columns, values = _mask_pairs(bits, areas, offsets, labels, key, floor)
            self._pairs[key].append((counts, columns + np.int32(self._rows), values))
        self._rows += len(bits)

    def areas(self) -> NDArray[np.int64]:
        return np.concatenate(self._areas)

    def overlaps(self) -> Overlaps:
        return Overlaps(*_joined(self._truths))

    def pairs(self) -> dict[PairKey, Pairs]:
        return {key: Pairs(self._floors[key], *_joined(parts)) for key, parts in self._pairs.items()}


def _joined(
    parts: list[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]],
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    if not parts:
        return np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float64)
    counts = np.concatenate([np.zeros(1, np.int64), *(part[0] for part in parts)])
    return (
        np.cumsum(counts),
        np.concatenate([part[1] for part in parts]),
        np.concatenate([part[2] for part in parts]),
    )


def _box_pairs(found: PredictionSet, key: PairKey, floor: float) -> Pairs:
    labels = np.zeros(len(found), np.int64) if key.across_classes else found.labels
    starts, columns, overlaps = overlapping_pairs(
        found.boxes, labels, found.offsets, floor=floor, over_smaller=key.measure == "ios"
    )
    sort_by_overlap(starts, columns, overlaps)
    return Pairs(floor, starts, columns, overlaps)


def _mask_pairs(
    bits: BitMasks,
    areas: NDArray[np.int64],
    offsets: NDArray[np.int64],
    labels: NDArray[np.int16],
    key: PairKey,
    floor: float,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Pairs of later rows by mask: how many each row has, the rows, the overlaps."""
    compared = np.zeros(len(bits), np.int64) if key.across_classes else labels.astype(np.int64)
    over_smaller = key.measure == "ios"
    pairs = meeting_rows(offsets, bits.tight_boxes(), areas, compared, over_smaller, float(floor))
    shared = bits.intersections(bits, pairs)
    first, second = areas[pairs[:, 0]], areas[pairs[:, 1]]
    whole = np.minimum(first, second) if over_smaller else first + second - shared
    values = np.divide(shared, whole, out=np.zeros(len(pairs)), where=shared > 0)
    enough = values > floor
    counts = np.bincount(pairs[enough, 0], minlength=len(bits))
    columns, values = pairs[enough, 1].astype(np.int32), values[enough]
    sort_by_overlap(np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]), columns, values)
    return counts.astype(np.int64), columns, values


@compiled
def meeting_rows(offsets: Any, boxes: Any, areas: Any, labels: Any, over_smaller: Any, floor: Any) -> Any:
    """Pairs i < j of one image and label whose tight boxes and areas allow an overlap above ``floor``, int64 (P, 2)."""
    out = np.empty((4096, 2), dtype=np.int64)
    used = 0
    for image in range(len(offsets) - 1):
        for i in range(offsets[image], offsets[image + 1]):
            for j in range(i + 1, offsets[image + 1]):
                if labels[i] != labels[j]:
                    continue
                width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
                height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
                if width <= 0 or height <= 0:
                    continue
                smaller = min(areas[i], areas[j])
                most = min(np.int64(width) * np.int64(height), smaller)
                whole = smaller if over_smaller else areas[i] + areas[j] - most
                if most < 1 or most / whole <= floor:
                    continue
                if used == len(out):
                    grown = np.empty((2 * used, 2), dtype=np.int64)
                    grown[:used] = out
                    out = grown
                out[used, 0], out[used, 1] = i, j
                used += 1
    return out[:used].copy()


@compiled
def sort_by_overlap(starts: Any, columns: Any, overlaps: Any) -> None:
    """Bring each row's pairs into the order of descending overlap, in place."""
    for row in range(len(starts) - 1):
        for k in range(starts[row] + 1, starts[row + 1]):
            column, overlap = columns[k], overlaps[k]
            j = k
            while j > starts[row] and overlaps[j - 1] < overlap:
                columns[j], overlaps[j] = columns[j - 1], overlaps[j - 1]
                j -= 1
            columns[j], overlaps[j] = column, overlap
