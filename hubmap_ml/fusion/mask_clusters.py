"""Clusters by the overlap of masks: each instance joins the seed whose pixels it shares best."""

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion.boxes import overlapping_pairs
from hubmap_ml.instances import PredictionSet
from hubmap_ml.instances.compiled import compiled
from hubmap_ml.spec import InputError

COMPARED_AT = 0.5
"""Where soft masks are decided before they are compared: mmdet's own default for its results."""


def cluster_by_masks(
    predictions: PredictionSet, order: NDArray[np.int64], starts: NDArray[np.int64], iou_threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cluster as ``box_kernels.cluster_by_seed`` does, by the intersection over union of masks.

    Args:
        predictions: with masks; soft ones are compared at ``COMPARED_AT``.
        order: rows by descending confidence, image by image; rows left out belong to no cluster.
        starts: (M + 1,) where each image begins in ``order``.
        iou_threshold: an overlap *greater* than this joins; among several the greatest, a tie to the earlier seed.

    Returns:
        ``(cluster, cluster_counts)`` as there.

    Raises:
        InputError: no masks.
    """
    if predictions.masks is None:
        raise InputError("fusion by mask needs masks and these predictions have boxes only; fuse by box")
    images = predictions.image_rows()[order]
    pixels = predictions.masks.take(order).binarize(
        COMPARED_AT, predictions.images.heights[images], predictions.images.widths[images]
    )
    ends, columns, _ = overlapping_pairs(pixels.tight_boxes(), predictions.labels[order], starts, floor=0.0)
    pairs = np.stack([np.repeat(np.arange(len(order)), np.diff(ends)), columns], axis=1)
    shared = pixels.intersections(pixels, pairs)
    areas = pixels.areas()
    overlaps = shared / (areas[pairs[:, 0]] + areas[pairs[:, 1]] - shared)
    of_position, counts = assign_to_seeds(ends, columns, overlaps, starts, float(iou_threshold))
    cluster = np.full(len(predictions), -1, np.int64)
    cluster[order] = of_position
    return cluster, counts


@compiled
def assign_to_seeds(
    ends: NDArray[np.int64],
    columns: NDArray[np.int32],
    overlaps: NDArray[np.float64],
    starts: NDArray[np.int64],
    iou_threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Let each position join the earlier seed that it overlaps best, or be a seed.

    Args:
        ends: (N + 1,) CSR offsets: position ``i`` overlaps the later positions ``columns[ends[i]:ends[i + 1]]``.
        columns, overlaps: of each pair.
        starts: (M + 1,) first position of each image.
        iou_threshold: an overlap *greater* than this joins.

    Returns:
        ``(cluster, cluster_counts)``: (N,) numbered over all images in order of their seeds; (M,).
    """
    n = len(ends) - 1
    cluster = np.full(n, -1, np.int64)
    best = np.full(n, iou_threshold, np.float64)
    counts = np.zeros(len(starts) - 1, np.int64)
    total = 0
    for image in range(len(starts) - 1):
        for i in range(starts[image], starts[image + 1]):
            if cluster[i] >= 0:
                continue  # a seed before it overlaps it enough
            cluster[i] = total
            for k in range(ends[i], ends[i + 1]):
                if overlaps[k] > best[columns[k]]:
                    best[columns[k]] = overlaps[k]
                    cluster[columns[k]] = total
            total += 1
            counts[image] += 1
    return cluster, counts
