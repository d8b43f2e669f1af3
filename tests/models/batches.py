"""A batch of one image with one object, as a detector learns from it."""

from typing import Any

import numpy as np
import torch
from mmdet.core import BitmapMasks


def batch() -> dict[str, Any]:
    draws = torch.Generator().manual_seed(3)
    mask = np.zeros((1, 64, 64), np.uint8)
    mask[0, 10:40, 8:30] = 1
    meta = {
        "img_shape": (64, 64, 3),
        "pad_shape": (64, 64, 3),
        "ori_shape": (64, 64, 3),
        "scale_factor": np.ones(4, np.float32),
        "flip": False,
    }
    return {
        "img": torch.randn(1, 3, 64, 64, generator=draws),
        "img_metas": [meta],
        "gt_bboxes": [torch.tensor([[8.0, 10.0, 30.0, 40.0]])],
        "gt_labels": [torch.tensor([0])],
        "gt_masks": [BitmapMasks(mask, 64, 64)],
    }
