"""An image and its mirror image, one seen through the other: twice the objects, overlapping as cells in culture do.

As the Sartorius challenge's eleventh place did it, for crowded cells only.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.core import BitmapMasks
from mmdet.datasets.builder import PIPELINES

from hubmap_ml.models.augmentations.drawing import Drawing, image_fields
from hubmap_ml.models.augmentations.symmetries import turned, turned_boxes

NUMBERS = {"horizontal": 1, "vertical": 5}  # of the symmetries: mirrored; half a turn, then mirrored


@PIPELINES.register_module()
class FlipPaste(Drawing):
    """Mix an image half and half with its mirror image, and keep the instances of both, one's own first.

    Args:
        prob: how likely that is.
        direction: ``horizontal`` (left and right change places) or ``vertical``.
        labels: only images all of whose instances have these (numbers of classes); None for any.
    """

    def __init__(
        self, prob: float = 0.3, direction: str = "horizontal", labels: Sequence[int] | None = None
    ) -> None:
        super().__init__(prob)
        if direction not in NUMBERS:
            raise ValueError(f"direction must be {' or '.join(NUMBERS)}, not {direction!r}")
        self._number = NUMBERS[direction]
        self._labels = None if labels is None else set(labels)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mix pixels, and double masks, boxes and labels."""
        happens = self._happens()
        if not happens or (
            self._labels is not None and not set(results["gt_labels"].tolist()) <= self._labels
        ):
            return results
        height, width = results["img"].shape[:2]
        for key in image_fields(results):
            image, other = results[key], turned(results[key], self._number)
            # Label maps of a semantic branch: what is something in either.
            mixed = np.maximum(image, other) if key in results.get("seg_fields", []) else _mean(image, other)
            results[key] = mixed
        for key in results.get("bbox_fields", []):
            boxes = results[key]
            results[key] = np.concatenate([boxes, turned_boxes(boxes, self._number, height, width)])
        for key in results.get("mask_fields", []):
            masks = results[key].masks
            both = np.concatenate([masks, turned(masks, self._number, axes=(1, 2))])
            results[key] = BitmapMasks(both, height, width)
        for key in ("gt_labels", "gt_labels_ignore"):
            if key in results:
                results[key] = np.concatenate([results[key], results[key]])
        return results


def _mean(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8:
        return (image + other) / 2
    return ((image.astype(np.uint16) + other + 1) // 2).astype(np.uint8)
