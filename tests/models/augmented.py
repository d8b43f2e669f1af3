"""A small image with objects, and samples of it as a training draws them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from mmdet.core import BitmapMasks

from hubmap_ml.models import TrainPipeline
from hubmap_ml.training.mmdet.draws import SAMPLE, own_draws

SIDE = 96


def loaded(height: int = SIDE, width: int = SIDE) -> dict[str, Any]:
    """Four objects, one of them thin and slanted, one at the border; and a crowd's box."""
    rows, columns = np.mgrid[:height, :width]
    masks = np.stack(
        [
            (rows - 30) ** 2 + (columns - 30) ** 2 < 200,
            abs(rows - columns - 10) < 3,
            (rows > height - 16) & (columns > width - 26),
            (rows - 60) ** 2 + 4 * (columns - 80) ** 2 < 100,
        ]
    ).astype(np.uint8)
    boxes = [bounds(mask) for mask in masks]
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return {
        "img": image,
        "img_fields": ["img"],
        "gt_bboxes": np.array(boxes, np.float32),
        "gt_bboxes_ignore": np.array([[5, 60, 25, 90]], np.float32),
        "gt_labels": np.arange(4),
        "gt_masks": BitmapMasks(masks, height, width),
        "bbox_fields": ["gt_bboxes", "gt_bboxes_ignore"],
        "mask_fields": ["gt_masks"],
        "seg_fields": [],
    }


def drawn(
    pipeline: TrainPipeline, seed: int, count: int, *, size: tuple[int, int] = (SIDE, SIDE)
) -> Iterator[dict[str, Any]]:
    """Samples as a training draws them; those that the pipeline gives up are left out."""
    for number in range(count):
        with own_draws(seed, SAMPLE, 0, number, 0) as own:
            pipeline.reseed(own)
            sample = pipeline(loaded(*size))
        if sample is not None:
            yield sample


def bounds(mask: np.ndarray) -> list[int]:
    """The box of a mask: x1 y1 x2 y2, half-open."""
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
