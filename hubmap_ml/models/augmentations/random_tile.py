"""A tile of fixed size anywhere in an image, for networks that learn from small pieces of large images."""

from typing import Any

import numpy as np
from mmdet.core import BitmapMasks
from mmdet.datasets.builder import PIPELINES

from hubmap_ml.models.augmentations.drawing import Drawing, image_fields


@PIPELINES.register_module()
class RandomTile(Drawing):
    """Cut a tile out of an image, each place as likely as the others.

    An instance stays where enough of it can be seen. Without one the sample is given up, and another image takes its
    place (as with mmdet's ``RandomCrop``, which keeps instances however little of them is left).

    Args:
        size: (height, width) in pixels; of a smaller image the whole side is taken.
        min_visibility: share of an instance's pixels that must lie in the tile, from 0 to 1.
    """

    def __init__(self, size: tuple[int, int], min_visibility: float = 0.25) -> None:
        super().__init__()
        if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
            raise ValueError(f"size must be (height, width) in pixels, not {size!r}")
        if not 0 <= min_visibility <= 1:
            raise ValueError(f"min_visibility must be from 0 to 1, not {min_visibility!r}")
        self._size, self._least = size, min_visibility

    def __call__(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Cut pixels, masks and boxes; None where no instance is left."""
        shape = results["img"].shape[:2]
        height, width = (min(side, full) for side, full in zip(self._size, shape, strict=True))
        top = int(self._draws.integers(shape[0] - height + 1))
        left = int(self._draws.integers(shape[1] - width + 1))
        rows, columns = slice(top, top + height), slice(left, left + width)
        masks = results["gt_masks"].masks
        cut = masks[:, rows, columns]
        areas, seen = (np.count_nonzero(stack, axis=(1, 2)) for stack in (masks, cut))
        kept = np.flatnonzero((seen > 0) & (seen >= self._least * areas))
        if len(kept) == 0:
            return None
        for key in image_fields(results):
            results[key] = np.ascontiguousarray(results[key][rows, columns])
        corner = np.array([left, top, left, top], np.float32)
        for key in results.get("bbox_fields", []):
            boxes = results[key] - corner
            boxes = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
            results[key] = (
                boxes[kept] if key == "gt_bboxes" else boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
            )
        results["gt_labels"] = results["gt_labels"][kept]
        results["gt_masks"] = BitmapMasks(np.ascontiguousarray(cut[kept]), height, width)
        results["img_shape"] = results["pad_shape"] = results["img"].shape
        return results
