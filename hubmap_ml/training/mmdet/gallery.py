"""A picture of what a network is shown: samples of the first epoch after augmentation, with their truths."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import BitMasks, Instances, Masks
from hubmap_ml.training.mmdet.dataset import TrainingSamples
from hubmap_ml.viz import draw_instances

SAMPLES = 9
SIDE = 384


def gallery(samples: TrainingSamples, count: int = SAMPLES) -> NDArray[np.uint8]:
    """Draw samples just as the first epoch sees them; nothing is drawn from the training's own generators.

    Args:
        samples: of the training.
        count: how many, evenly spread; fewer where there are not so many.

    Returns:
        (H, W, 3) uint8 RGB: a square grid, row by row, black where there is no sample.
    """
    numbers = np.unique(np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int))
    pictures = [_picture(samples[(0, int(number))]) for number in numbers]
    columns = int(np.ceil(np.sqrt(len(pictures))))
    rows = -(-len(pictures) // columns)
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    grid = np.zeros((rows * height, columns * width, 3), np.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // columns * height, place % columns * width
        grid[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return grid


def _picture(sample: dict[str, Any]) -> NDArray[np.uint8]:
    image = pixels_of(sample)
    count = len(sample["gt_labels"])
    shown = Instances(
        boxes=sample["gt_bboxes"].numpy(),
        scores=np.ones(count, np.float32),
        labels=sample["gt_labels"].numpy().astype(np.int16),
        source=np.zeros(count, np.int16),
        masks=Masks.from_bits(BitMasks.from_dense(sample["gt_masks"].masks)),
        height=image.shape[0],
        width=image.shape[1],
    )
    return draw_instances(image, shown, max_side=SIDE)


def pixels_of(sample: dict[str, Any]) -> NDArray[np.uint8]:
    """A sample's image before it was normalised: (H, W, 3) uint8 RGB."""
    image = sample["img"].numpy().transpose(1, 2, 0)
    normalised = sample["img_metas"]["img_norm_cfg"] or {"mean": 0.0, "std": 1.0, "to_rgb": False}
    image = image * np.asarray(normalised["std"]) + np.asarray(normalised["mean"])
    if not normalised["to_rgb"]:
        image = image[..., ::-1]
    return np.ascontiguousarray(image.round().clip(0, 255).astype(np.uint8))
