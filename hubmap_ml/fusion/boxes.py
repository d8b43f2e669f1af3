"""Overlap of boxes. Boxes are xyxy in pixels, half-open: a box one pixel wide has x2 = x1 + 1.

Everything is computed in float64 from the float32 boxes and compared with float64 thresholds, so that an overlap of
exactly 2/5 is not greater than 0.4 (in float32 it would be). This is what ``torchvision.ops`` gives on doubles.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion.box_kernels import iou_matrix, overlapping_box_pairs


def box_iou_matrix(
    boxes: NDArray[np.floating[Any]], others: NDArray[np.floating[Any]] | None = None
) -> NDArray[np.float64]:
    """Return the intersection over union of every pair of boxes.

    Args:
        boxes: (N, 4) xyxy, pixels, half-open.
        others: (M, 4); ``boxes`` themselves by default.

    Returns:
        (N, M) float64; 0 where two boxes have no area together.

    Example:
        >>> box_iou_matrix(np.float32([[0, 0, 2, 2]]), np.float32([[1, 0, 3, 2]])).round(4).tolist()
        [[0.3333]]
    """
    first = as_float64(boxes)
    return iou_matrix(first, first if others is None else as_float64(others))


def overlapping_pairs(
    boxes: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    offsets: NDArray[np.int64],
    *,
    floor: float,
    over_smaller: bool = False,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Return the pairs of one image and one label that overlap, for work that asks again and again.

    Args:
        boxes: (N, 4) xyxy of all images, image by image.
        labels: (N,)
        offsets: (M + 1,) first row of each image.
        floor: only pairs with an overlap *greater* than this.
        over_smaller: measure overlap over the smaller box instead of the union.

    Returns:
        ``(starts, columns, values)``: row ``i`` overlaps rows ``columns[starts[i]:starts[i + 1]]``, all of them later
        than ``i``, by ``values[...]`` (float64).
    """
    return overlapping_box_pairs(
        as_float64(boxes), labels.astype(np.int64), offsets.astype(np.int64), float(floor), over_smaller
    )


def as_float64(boxes: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return boxes as a C-ordered float64 array (N, 4), also where there are none."""
    return np.ascontiguousarray(boxes, dtype=np.float64).reshape(-1, 4)
