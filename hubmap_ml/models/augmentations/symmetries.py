"""The eight symmetries of a square (the dihedral group D4): microscopy has no up and down."""

from typing import Any

import numpy as np
from mmdet.core import BitmapMasks
from mmdet.datasets.builder import PIPELINES
from numpy.typing import NDArray

from hubmap_ml.models.augmentations.drawing import Drawing, image_fields

COUNT = 8


def turned(pixels: NDArray[Any], number: int, *, axes: tuple[int, int] = (0, 1)) -> NDArray[Any]:
    """Return an image after a symmetry (0 is none): number // 2 quarter turns to the left, then mirrored if odd."""
    pixels = np.rot90(pixels, number // 2, axes)
    return np.ascontiguousarray(np.flip(pixels, axes[1]) if number % 2 else pixels)


def turned_boxes(boxes: NDArray[np.float32], number: int, height: int, width: int) -> NDArray[np.float32]:
    """Return boxes (n, 4), x1 y1 x2 y2 half-open, of an image of this size after a symmetry."""
    for _ in range(number // 2):
        x1, y1, x2, y2 = boxes.T
        boxes = np.stack([y1, width - x2, y2, width - x1], axis=1)
        height, width = width, height
    if number % 2:
        x1, y1, x2, y2 = boxes.T
        boxes = np.stack([width - x2, y1, width - x1, y2], axis=1)
    return boxes


@PIPELINES.register_module()
class D4(Drawing):
    """Bring an image into one of the square's eight symmetries, each as likely as the others.

    An image that is not square may change its sides.

    Args:
        prob: how likely it is that anything is done.
    """

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Turn pixels, masks and boxes together."""
        happens, number = self._happens(), int(self._draws.integers(COUNT))
        if not happens or number == 0:
            return results
        height, width = results["img"].shape[:2]
        for key in image_fields(results):
            results[key] = turned(results[key], number)
        for key in results.get("bbox_fields", []):
            results[key] = turned_boxes(results[key], number, height, width)
        for key in results.get("mask_fields", []):
            masks = turned(results[key].masks, number, axes=(1, 2))
            results[key] = BitmapMasks(masks, *masks.shape[1:])
        if number // 2 % 2 and results.get("scale_factor") is not None:
            results["scale_factor"] = np.asarray(results["scale_factor"])[[1, 0, 3, 2]]
        results["img_shape"] = results["pad_shape"] = results["img"].shape
        return results
