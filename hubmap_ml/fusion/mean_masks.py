"""The mask of a cluster: the mean of its members' masks, never at the size of the image.

Bit masks are read as probabilities 0 and 1. Not for thresholds: what comes out is soft again.
"""

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion.clusters import Clusters
from hubmap_ml.fusion.crop_kernels import mean_on_crops
from hubmap_ml.fusion.mask_kernels import mean_on_windows, mean_windows
from hubmap_ml.instances import Masks, SoftMasks


def mean_pixel_masks(
    masks: Masks,
    clusters: Clusters,
    weights: NDArray[np.float64],
    frames: NDArray[np.int64],
) -> SoftMasks:
    """Return each cluster's weighted mean of masks, at the resolution of the image's pixels.

    Args:
        masks: of the set whose rows the clusters hold.
        clusters: C clusters.
        weights: (E,) of each entry of ``clusters.rows``, > 0; only their ratios inside a cluster matter.
        frames: (C, 4) x0, y0, x1, y1, the pixels of the image that the result may reach; not negative.

    Returns:
        C crops, each over the window of whole pixels that its members reach, with one value a pixel: pasting such a
        crop gives its values back. A cluster whose members reach no pixel has an empty crop.
    """
    soft, bits = masks.soft, masks.bits
    members = (clusters.offsets, clusters.rows)
    soft_boxes = np.ascontiguousarray(soft.boxes)
    solid = _solid(soft)
    windows = mean_windows(
        masks.kind, masks.index, solid, soft.shapes, soft_boxes, bits.windows, *members, np.ascontiguousarray(frames),
    )  # fmt: skip
    shapes = np.stack([windows[:, 3] - windows[:, 1], windows[:, 2] - windows[:, 0]], axis=1)
    offsets = np.concatenate([[0], np.cumsum(shapes.prod(axis=1))]).astype(np.int64)
    values = mean_on_windows(
        masks.kind, masks.index, solid,
        np.ascontiguousarray(soft.values), soft.offsets, soft.shapes, soft_boxes,
        np.ascontiguousarray(bits.words), bits.offsets, bits.windows,
        *members, np.asarray(weights, np.float64), windows, offsets,
    )  # fmt: skip
    return SoftMasks(values, offsets, shapes.astype(np.int32), windows.astype(np.float32))


def mean_crop_masks(
    masks: SoftMasks, index: NDArray[np.int64], clusters: Clusters, boxes: NDArray[np.float32]
) -> SoftMasks:
    """Return each cluster's plain mean of soft masks, on a grid of its seed's shape over a new box.

    Args:
        masks: the soft masks.
        index: (N,) row in ``masks`` of each row that the clusters hold.
        clusters: C clusters.
        boxes: (C, 4) where the new crops lie.

    Returns:
        C crops. The value of a cell is the mean of its members' pasted probabilities at its centre; members that all
        lie over the new box with the seed's shape are averaged value by value, so equal members give that very mask.
    """
    shapes = masks.shapes[index[clusters.seeds]].astype(np.int32).reshape(-1, 2)
    offsets = np.concatenate([[0], np.cumsum(shapes.astype(np.int64).prod(axis=1))]).astype(np.int64)
    values = mean_on_crops(
        index, _solid(masks),
        np.ascontiguousarray(masks.values), masks.offsets, masks.shapes, np.ascontiguousarray(masks.boxes),
        clusters.offsets, clusters.rows, shapes, np.ascontiguousarray(boxes), offsets,
    )  # fmt: skip
    return SoftMasks(values, offsets, shapes, np.ascontiguousarray(boxes))


def _solid(masks: SoftMasks) -> NDArray[np.bool_]:
    """Which masks have any pixel: a finite box of some extent, and a crop that is not empty (N,)."""
    boxes = masks.boxes
    extended = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (masks.shapes > 0).all(axis=1)
    return np.asarray(extended & np.isfinite(boxes).all(axis=1))
