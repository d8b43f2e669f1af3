"""Box kernels: overlap of pairs, greedy suppression, and the two clusterings that fusion needs.

Kernels over plain arrays; the functions that speak about instances are in `boxes`, `suppression`, `merging` and
`weighted_boxes`. They stand in one file because numba's disk cache looks only at the file a kernel stands in.
"""

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances.compiled import compiled


@compiled
def pair_iou(
    ax1: float, ay1: float, ax2: float, ay2: float, bx1: float, by1: float, bx2: float, by2: float
) -> float:
    """Return intersection over union of two boxes; 0 where the union has no area."""
    width = min(ax2, bx2) - max(ax1, bx1)
    height = min(ay2, by2) - max(ay1, by1)
    if width <= 0.0 or height <= 0.0:
        return 0.0
    intersection = width * height
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - intersection
    return intersection / union if union > 0.0 else 0.0


@compiled
def pair_ios(
    ax1: float, ay1: float, ax2: float, ay2: float, bx1: float, by1: float, bx2: float, by2: float
) -> float:
    """Return intersection over the smaller of two boxes; 0 where that has no area."""
    width = min(ax2, bx2) - max(ax1, bx1)
    height = min(ay2, by2) - max(ay1, by1)
    smaller = min((ax2 - ax1) * (ay2 - ay1), (bx2 - bx1) * (by2 - by1))
    if width <= 0.0 or height <= 0.0 or smaller <= 0.0:
        return 0.0
    return width * height / smaller


@compiled
def iou_matrix(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of every box of ``a`` with every box of ``b``, (A, B)."""
    out = np.empty((len(a), len(b)), np.float64)
    for i in range(len(a)):
        for j in range(len(b)):
            out[i, j] = pair_iou(
                a[i, 0], a[i, 1], a[i, 2], a[i, 3], b[j, 0], b[j, 1], b[j, 2], b[j, 3]
            )  # fmt: skip
    return out


@compiled
def overlapping_box_pairs(
    boxes: NDArray[np.float64],
    labels: NDArray[np.int64],
    offsets: NDArray[np.int64],
    floor: float,
    over_smaller: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Pairs of one image and label with an overlap greater than ``floor`` (see ``boxes.overlapping_pairs``)."""
    n = len(boxes)
    starts = np.zeros(n + 1, np.int64)
    capacity = max(16, 4 * n)
    columns = np.empty(capacity, np.int32)
    values = np.empty(capacity, np.float64)
    count = 0
    for image in range(len(offsets) - 1):
        for i in range(offsets[image], offsets[image + 1]):
            for j in range(i + 1, offsets[image + 1]):
                if labels[i] != labels[j]:
                    continue
                if over_smaller:
                    overlap = pair_ios(
                        boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3],
                        boxes[j, 0], boxes[j, 1], boxes[j, 2], boxes[j, 3],
                    )  # fmt: skip
                else:
                    overlap = pair_iou(
                        boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3],
                        boxes[j, 0], boxes[j, 1], boxes[j, 2], boxes[j, 3],
                    )  # fmt: skip
                if overlap > floor:
                    if count == capacity:
                        capacity *= 2
                        more_columns = np.empty(capacity, np.int32)
                        more_values = np.empty(capacity, np.float64)
                        more_columns[:count] = columns
                        more_values[:count] = values
                        columns, values = more_columns, more_values
                    columns[count] = j
                    values[count] = overlap
                    count += 1
            starts[i + 1] = count
    return starts, columns[:count].copy(), values[:count].copy()


@compiled
def suppress_boxes(
    boxes: NDArray[np.float64],
    labels: NDArray[np.int64],
    order: NDArray[np.int64],
    order_offsets: NDArray[np.int64],
    iou_threshold: float,
    over_smaller: bool,
) -> NDArray[np.bool_]:
    """Greedy suppression, image by image.

    Args:
        boxes: (N, 4)
        labels: (N,)
        order: rows by descending score within an image; rows left out are not kept.
        order_offsets: (M + 1,) where each image begins in ``order``.
        iou_threshold: an overlap *greater* than this with a kept, earlier row of the label suppresses.
        over_smaller: measure overlap over the smaller box instead of the union.

    Returns:
        (N,) which rows are kept.
    """
    keep = np.zeros(len(boxes), np.bool_)
    kept = np.empty(len(order), np.int64)
    for image in range(len(order_offsets) - 1):
        count = 0
        for position in range(order_offsets[image], order_offsets[image + 1]):
            row = order[position]
            alone = True
            for k in range(count):
                other = kept[k]
                if labels[other] != labels[row]:
                    continue
                if over_smaller:
                    overlap = pair_ios(
                        boxes[other, 0], boxes[other, 1], boxes[other, 2], boxes[other, 3],
                        boxes[row, 0], boxes[row, 1], boxes[row, 2], boxes[row, 3],
                    )  # fmt: skip
                else:
                    overlap = pair_iou(
                        boxes[other, 0], boxes[other, 1], boxes[other, 2], boxes[other, 3],
                        boxes[row, 0], boxes[row, 1], boxes[row, 2], boxes[row, 3],
                    )  # fmt: skip
                if overlap > iou_threshold:
                    alone = False
                    break
            if alone:
                keep[row] = True
                kept[count] = row
                count += 1
    return keep


@compiled
def match_sources(
    boxes: NDArray[np.float64],
    labels: NDArray[np.int64],
    sources: NDArray[np.int64],
    order: NDArray[np.int64],
    order_offsets: NDArray[np.int64],
    n_sources: int,
    iou_threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Match instances of several sources, at most one of each source to a cluster.

    Args:
        boxes: (N, 4).
        labels: (N,)
        sources: (N,) in [0, n_sources).
        order: (N,) rows in the order in which they are processed, image by image.
        order_offsets: (M + 1,) where each image begins in ``order``.
        n_sources: how many sources there are.
        iou_threshold: an overlap *greater* than this with a cluster's seed joins. Equal boxes overlap fully, also
            when they have no area.

    Returns:
        ``(cluster, cluster_counts)``: (N,) cluster of each row, numbered over all images in order of their seeds;
        (M,) clusters an image.
    """
    n = len(boxes)
    cluster = np.empty(n, np.int64)
    counts = np.zeros(len(order_offsets) - 1, np.int64)
    largest = 0
    for image in range(len(order_offsets) - 1):
        largest = max(largest, order_offsets[image + 1] - order_offsets[image])
    seeds = np.empty(largest, np.int64)
    taken = np.empty((largest, n_sources), np.bool_)
    first = 0
    for image in range(len(order_offsets) - 1):
        count = 0
        for position in range(order_offsets[image], order_offsets[image + 1]):
            row = order[position]
            best, best_overlap = -1, iou_threshold
            for k in range(count):
                seed = seeds[k]
                if taken[k, sources[row]] or labels[seed] != labels[row]:
                    continue
                if (
                    boxes[seed, 0] == boxes[row, 0] and boxes[seed, 1] == boxes[row, 1]
                    and boxes[seed, 2] == boxes[row, 2] and boxes[seed, 3] == boxes[row, 3]
                ):  # fmt: skip
                    overlap = 1.0
                else:
                    overlap = pair_iou(
                        boxes[seed, 0], boxes[seed, 1], boxes[seed, 2], boxes[seed, 3],
                        boxes[row, 0], boxes[row, 1], boxes[row, 2], boxes[row, 3],
                    )  # fmt: skip
                if overlap > best_overlap:
                    best, best_overlap = k, overlap
            if best < 0:
                best = count
                seeds[count] = row
                taken[count, :] = False
                count += 1
            taken[best, sources[row]] = True
            cluster[row] = first + best
        counts[image] = count
        first += count
    return cluster, counts


@compiled
def cluster_weighted(
    boxes: NDArray[np.float64],
    labels: NDArray[np.int64],
    confidences: NDArray[np.float64],
    order: NDArray[np.int64],
    order_offsets: NDArray[np.int64],
    iou_threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Cluster boxes around their running weighted mean, as ensemble-boxes does.

    The reference keeps a cluster's box as a float32 sum to which each member adds, and its mean confidence as float32;
    both are repeated here to the bit, because the next box is compared with that rounded box.

    Args:
        boxes: (N, 4) divided by the image's size.
        labels: (N,)
        confidences: (N,) score times its model's weight, > 0.
        order: rows to process, by descending confidence within an image; rows left out belong to no cluster.
        order_offsets: (M + 1,) where each image begins in ``order``.
        iou_threshold: an overlap *greater* than this joins.

    Returns:
        ``(cluster, cluster_counts, boxes, mean confidences, sizes)``: (N,) cluster of each row, -1 for rows left out;
        (M,); and for each cluster, in order of creation, (C, 4), (C,), (C,).
    """
    cluster = np.full(len(boxes), -1, np.int64)
    counts = np.zeros(len(order_offsets) - 1, np.int64)
    means = np.empty((len(order), 4), np.float64)
    sums = np.zeros((len(order), 4), np.float32)
    confidence_sums = np.zeros(len(order), np.float64)
    mean_confidences = np.empty(len(order), np.float64)
    sizes = np.zeros(len(order), np.int64)
    cluster_labels = np.empty(len(order), np.int64)
    total = 0
    for image in range(len(order_offsets) - 1):
        first = total
        for position in range(order_offsets[image], order_offsets[image + 1]):
            row = order[position]
            best, best_overlap = -1, iou_threshold
            for k in range(first, total):
                if cluster_labels[k] != labels[row]:
                    continue
                overlap = pair_iou(
                    means[k, 0], means[k, 1], means[k, 2], means[k, 3],
                    boxes[row, 0], boxes[row, 1], boxes[row, 2], boxes[row, 3],
                )  # fmt: skip
                if overlap > best_overlap:
                    best, best_overlap = k, overlap
            confidence = confidences[row]
            if best < 0:
                best = total
                total += 1
                cluster_labels[best] = labels[row]
                mean_confidences[best] = confidence
                for axis in range(4):
                    means[best, axis] = boxes[row, axis]
            cluster[row] = best
            sizes[best] += 1
            confidence_sums[best] += confidence
            for axis in range(4):
                sums[best, axis] = np.float32(np.float64(sums[best, axis]) + confidence * boxes[row, axis])
            if sizes[best] > 1:
                mean_confidences[best] = np.float64(np.float32(confidence_sums[best] / sizes[best]))
                for axis in range(4):
                    means[best, axis] = np.float64(sums[best, axis] / np.float32(confidence_sums[best]))
        counts[image] = total - first
    return cluster, counts, means[:total].copy(), mean_confidences[:total].copy(), sizes[:total].copy()
