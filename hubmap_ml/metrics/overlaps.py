"""Which predictions overlap which truths, and how much: the only thing about pixels that a matching rule asks for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Annotations, BitMasks
from hubmap_ml.instances.compiled import compiled

_INSTANCES_AT_ONCE = 4000
"""Rows whose pairs are listed in one go; a few MB."""


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Pairs of a prediction and a truth of one image that overlap, by prediction (CSR).

    Attributes:
        starts: int64 (N + 1,); prediction ``i`` has the pairs ``starts[i]`` to ``starts[i + 1]``.
        truths: int32 (P,), ascending for each prediction.
        values: float64 (P,): intersection over union, with a crowd intersection over the prediction's area (as
            ``pycocotools.mask.iou``); quotients of whole numbers.
    """

    starts: NDArray[np.int64]
    truths: NDArray[np.int32]
    values: NDArray[np.float64]


def overlaps_with_truth(
    masks: BitMasks,
    offsets: NDArray[np.int64],
    truth: Annotations,
    *,
    floor: float,
    labels: NDArray[np.int64] | None = None,
) -> Overlaps:
    """Find the pairs of each image whose overlap is at least ``floor``.

    Args:
        masks: N predictions, sorted by image.
        offsets: int64 (M + 1,), each image's predictions.
        truth: annotations of the same M images in the same order.
        floor: greater than 0.
        labels: (N,), positions in the truth's categories; only pairs of one label are looked at (-1 has none). By
            default labels do not matter.
    """
    areas, true_areas = masks.areas(), truth.masks.bits.areas()
    boxes, true_boxes = masks.tight_boxes(), truth.masks.bits.tight_boxes()
    any_label = labels is None
    of_found = np.zeros(len(masks), np.int64) if labels is None else labels.astype(np.int64)
    of_truth = truth.labels.astype(np.int64)
    counts = np.zeros(len(masks) + 1, np.int64)
    truths, values = [np.zeros(0, np.int32)], [np.zeros(0, np.float64)]
    for first, stop in runs_of_images(offsets, _INSTANCES_AT_ONCE):
        pairs = _meeting_pairs(
            offsets, truth.offsets, first, stop, boxes, true_boxes, areas, true_areas, of_found, of_truth,
            truth.iscrowd, any_label, float(floor),
        )  # fmt: skip
        shared = masks.intersections(truth.masks.bits, pairs)
        found, target = pairs[:, 0], pairs[:, 1]
        union = areas[found] + true_areas[target] - shared
        value = shared / np.where(truth.iscrowd[target], areas[found], union)
        enough = value >= floor
        of_run = slice(int(offsets[first]), int(offsets[stop]))
        counts[1:][of_run] = np.bincount(found[enough] - of_run.start, minlength=of_run.stop - of_run.start)
        truths.append(target[enough].astype(np.int32))
        values.append(value[enough])
    return Overlaps(np.cumsum(counts), np.concatenate(truths), np.concatenate(values))


def runs_of_images(offsets: NDArray[np.int64], rows: int) -> Iterator[tuple[int, int]]:
    """Cut images into runs [first, stop) of at most so many rows, or of one image."""
    first = 0
    while first < len(offsets) - 1:
        stop = max(first + 1, int(np.searchsorted(offsets, offsets[first] + rows, side="right")) - 1)
        stop = min(stop, len(offsets) - 1)
        yield first, stop
        first = stop


@compiled
def _meeting_pairs(
    offsets: Any,
    true_offsets: Any,
    first: Any,
    stop: Any,
    boxes: Any,
    true_boxes: Any,
    areas: Any,
    true_areas: Any,
    labels: Any,
    true_labels: Any,
    is_crowd: Any,
    any_label: Any,
    floor: Any,
) -> Any:
    """Pairs of images [first, stop) whose boxes and areas allow an overlap of ``floor``, in order, int64 (P, 2)."""
    out = np.empty((1024, 2), dtype=np.int64)
    used = 0
    for image in range(first, stop):
        for i in range(offsets[image], offsets[image + 1]):
            for j in range(true_offsets[image], true_offsets[image + 1]):
                if not any_label and labels[i] != true_labels[j]:
                    continue
                width = min(boxes[i, 2], true_boxes[j, 2]) - max(boxes[i, 0], true_boxes[j, 0])
                height = min(boxes[i, 3], true_boxes[j, 3]) - max(boxes[i, 1], true_boxes[j, 1])
                if width <= 0 or height <= 0:
                    continue
                most = min(np.int64(width) * np.int64(height), min(areas[i], true_areas[j]))
                whole = areas[i] if is_crowd[j] else areas[i] + true_areas[j] - most
                if most < 1 or most / whole < floor:
                    continue
                if used == len(out):
                    grown = np.empty((2 * used, 2), dtype=np.int64)
                    grown[:used] = out
                    out = grown
                out[used, 0], out[used, 1] = i, j
                used += 1
    return out[:used].copy()
