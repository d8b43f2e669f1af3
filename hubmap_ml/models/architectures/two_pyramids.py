"""Two-stage detectors that learn from both pyramids of a composite backbone (CBNetV2, arXiv 2107.00420, section 3.3).

In evaluation they are mmdet's own: the neck gives the lead's pyramid alone.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.builder import DETECTORS
from mmdet.models.detectors import CascadeRCNN, HybridTaskCascade, MaskRCNN, TwoStageDetector
from torch import Tensor

ASSISTANT_AND_LEAD = (0.5, 1.0)
NECK = "CBFPN"
COMPOSITES = {
    "MaskRCNN": "TwoPyramidMaskRCNN",
    "CascadeRCNN": "TwoPyramidCascadeRCNN",
    "HybridTaskCascade": "TwoPyramidHybridTaskCascade",
}
"""Which detector of this module stands for one of mmdet's where the neck gives two pyramids: published configurations
name mmdet's.
"""


class TwoPyramids(TwoStageDetector):
    """Put before a detector of mmdet: its heads learn from assistant and lead, both on the lead's proposals."""

    def forward_train(
        self,
        img: Tensor,
        img_metas: list[dict[str, Any]],
        gt_bboxes: list[Tensor],
        gt_labels: list[Tensor],
        gt_bboxes_ignore: list[Tensor] | None = None,
        gt_masks: Any = None,
        proposals: list[Tensor] | None = None,
        loss_weights: Sequence[float] = ASSISTANT_AND_LEAD,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Losses of all pyramids.

        Args:
            loss_weights: one for each pyramid, the lead last; every value of a pyramid, accuracies too, is multiplied.

        Returns:
            Values named as mmdet does, with the pyramid's number behind, and the weight of a loss where it is not 1:
            ``loss_rpn_cls0_w0.5``, ``s0.acc0``, ``s0.loss_cls1``. A single pyramid changes no name and has no weight.
        """
        pyramids = self.extract_feat(img)
        weights: list[float | None] = list(loss_weights)
        if torch.is_tensor(pyramids[0]):
            pyramids, weights = [pyramids], [None]
        losses: dict[str, Any] = {}
        if self.with_rpn:
            settings = self.train_cfg.get("rpn_proposal", self.test_cfg.rpn)
            for number, (maps, weight) in enumerate(zip(pyramids, weights, strict=True)):
                found, proposals = self.rpn_head.forward_train(
                    maps,
                    img_metas,
                    gt_bboxes,
                    gt_labels=None,
                    gt_bboxes_ignore=gt_bboxes_ignore,
                    proposal_cfg=settings,
                    **kwargs,
                )
                losses |= _weighted(found, number, weight)
        for number, (maps, weight) in enumerate(zip(pyramids, weights, strict=True)):
            found = self.roi_head.forward_train(
                maps, img_metas, proposals, gt_bboxes, gt_labels, gt_bboxes_ignore, gt_masks, **kwargs
            )
            losses |= _weighted(found, number, weight)
        return losses


@DETECTORS.register_module()
class TwoPyramidMaskRCNN(TwoPyramids, MaskRCNN):
    """Mask R-CNN on a composite backbone."""


@DETECTORS.register_module()
class TwoPyramidCascadeRCNN(TwoPyramids, CascadeRCNN):
    """Cascade R-CNN on a composite backbone."""


@DETECTORS.register_module()
class TwoPyramidHybridTaskCascade(TwoPyramids, HybridTaskCascade):
    """Hybrid Task Cascade on a composite backbone."""


def _weighted(values: dict[str, Any], number: int, weight: float | None) -> dict[str, Any]:
    if weight is None:
        return values
    return {
        f"{key}{number}" + (f"_w{weight}" if weight != 1 and "loss" in key else ""): (
            [one * weight for one in value] if isinstance(value, list | tuple) else value * weight
        )
        for key, value in values.items()
    }
