"""Views merged inside a network: one set of regions, whose boxes, scores and masks are means over all views.

Follows ``aug_test`` of mmdet 2.28.2 up to the call of ``multiclass_nms`` (``dense_heads/dense_test_mixins.py``,
``core/post_processing/merge_augs.py`` and the region heads): regions of all views go through one suppression by the
region network's own test settings; every view then looks at all that are left, and boxes, scores and mask probabilities
are averaged. There is no choice of a rule: an object that one view misses keeps the mean of what all of them say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmcv.ops import nms
from numpy.typing import NDArray

from hubmap_ml.inference.network import Network
from hubmap_ml.inference.two_stage import ForwardPass, quantised
from hubmap_ml.inference.views import boxes_from_view, boxes_in_view, crops_from_view
from hubmap_ml.spec import InputError


@dataclass(frozen=True)
class Shown:
    """One view of an image at one scale, ready for the network.

    Attributes:
        view: its name.
        tensor: (3, H', W') float32.
        meta: mmdet's meta data.
        height, width: of the image, pixels.
    """

    view: str
    tensor: NDArray[np.float32]
    meta: dict[str, Any]
    height: int
    width: int

    def from_image(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (N, 4) of the image as boxes of the view, in its pixels before resizing."""
        return boxes_in_view(boxes, self.view, height=self.height, width=self.width)

    def to_image(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Undo ``from_image``."""
        return boxes_from_view(boxes, self.view, height=self.height, width=self.width)


def merged_in_network(network: Network, shown: Sequence[Shown]) -> "MergedViews":
    """Look at an image through all views, and let every view judge the regions of all."""
    passes = [
        ForwardPass(network.model, torch.from_numpy(one.tensor)[None].to(network.device), [one.meta])
        for one in shown
    ]
    regions = _regions(network, shown, passes)
    for one, forward in zip(shown, passes, strict=True):
        in_view = torch.from_numpy(one.from_image(regions)).to(network.device)
        forward.use_proposals([in_view * torch.as_tensor(one.meta["scale_factor"], device=in_view.device)])
    return MergedViews(shown, passes)


class MergedViews:
    """The means over views, in pixels of the image."""

    def __init__(self, shown: Sequence[Shown], passes: Sequence[ForwardPass]) -> None:
        self._shown = shown
        self._passes = passes

    def boxes(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes (n, C, 4) and scores (n, C) of the regions, as ``ForwardPass.boxes`` gives those of one view."""
        boxes, scores = [], []
        for one, forward in zip(self._shown, self._passes, strict=True):
            [(in_view, judged)] = forward.boxes()
            boxes.append(one.to_image(in_view.reshape(-1, 4)).reshape(in_view.shape))
            scores.append(judged)
        return np.mean(boxes, axis=0, dtype=np.float32), np.mean(scores, axis=0, dtype=np.float32)

    def masks(self, boxes: NDArray[np.float32], labels: NDArray[Any]) -> NDArray[np.uint8]:
        """Mask probabilities (n, h, w) over boxes (n, 4) of the image, in steps of 1/255."""
        crops = []
        for one, forward in zip(self._shown, self._passes, strict=True):
            seen, quality = forward.probabilities(0, one.from_image(boxes), labels)
            if quality is not None:
                raise InputError(
                    "a mask scoring network's views cannot be merged inside it (predict.merge: in_network); merge its "
                    "candidates: match_mean, nms or wbf"
                )
            crops.append(crops_from_view(seen, one.view))
        return quantised(np.mean(crops, axis=0, dtype=np.float32))


def _regions(network: Network, shown: Sequence[Shown], passes: Sequence[ForwardPass]) -> NDArray[np.float32]:
    """Regions of all views after suppression (n, 4), in pixels of the image, by descending score."""
    settings = network.model.rpn_head.test_cfg
    boxes, scores = [], []
    for one, forward in zip(shown, passes, strict=True):
        found = forward.proposals(0).cpu().numpy()
        scale = np.asarray(one.meta["scale_factor"], np.float32)
        boxes.append(one.to_image(np.ascontiguousarray(found[:, :4] / scale, dtype=np.float32)))
        scores.append(found[:, 4])
    all_boxes, all_scores = np.concatenate(boxes), np.concatenate(scores)
    if len(all_boxes) == 0:
        return all_boxes
    _, kept = nms(torch.from_numpy(all_boxes), torch.from_numpy(all_scores), settings.nms.iou_threshold)
    return all_boxes[kept.numpy()[: settings.max_per_img]]
