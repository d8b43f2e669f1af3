"""What a two-stage detector of mmdet proposes before class NMS, and its masks for chosen boxes.

Follows `simple_test` of mmdet 2.28.2's StandardRoIHead (roi_heads/test_mixins.py), CascadeRoIHead and
HybridTaskCascadeRoIHead up to the call of `multiclass_nms`: a cascade's class logits are the mean over its
stages, its boxes the last stage's, its masks the mean of the stages' probabilities. PointRend's masks are the refined
ones; Mask Scoring R-CNN's head also says how good a mask is.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.core import bbox2roi
from numpy.typing import NDArray
from torch import Tensor, nn

from hubmap_ml.spec import InputError

# Boxes whose masks are computed at once: at 256 channels of 28 x 28 floats some 200 MB.
MASKS_AT_ONCE = 256

SINGLE_STAGE_HEADS = (
    "StandardRoIHead",
    "DoubleHeadRoIHead",
    "DynamicRoIHead",
    "PISARoIHead",
    "MaskScoringRoIHead",
    "PointRendRoIHead",
)
CASCADE_HEADS = ("CascadeRoIHead", "HybridTaskCascadeRoIHead")


def check_supported(model: nn.Module) -> None:
    """Refuse a network whose candidates this module cannot give.

    Raises:
        InputError: no two-stage detector, no mask head, or a region head with a test procedure of its own.
    """
    head: Any = getattr(model, "roi_head", None)
    name = type(head).__name__
    if name not in SINGLE_STAGE_HEADS + CASCADE_HEADS:
        known = ", ".join(SINGLE_STAGE_HEADS + CASCADE_HEADS)
        raise InputError(
            f"candidates of {type(model).__name__} with {name} cannot be predicted; known: {known}"
        )
    if not head.with_mask:
        raise InputError(f"{type(model).__name__} has no mask head: members predict instance masks")


class ForwardPass:
    """The features of a batch of inputs, asked first for boxes, then for the masks of some.

    Args:
        model: in evaluation mode, on `images`' device.
        images: (B, 3, H, W) float32, normalised and padded.
        metas: mmdet's meta data of each.
    """

    def __init__(self, model: nn.Module, images: Tensor, metas: Sequence[dict[str, Any]]) -> None:
        self._head = model.roi_head
        self._metas = list(metas)
        self._features = model.extract_feat(images)
        self._semantic = None
        if getattr(self._head, "with_semantic", False):
            self._semantic = self._head.semantic_head(self._features)[1]
        self._proposals = model.rpn_head.simple_test_rpn(self._features, self._metas)

    def proposals(self, number: int) -> Tensor:
        """Regions and their scores (n, 5) of one input, in pixels of the input."""
        return self._proposals[number]

    def use_proposals(self, proposals: Sequence[Tensor]) -> None:
        """Look at these regions, (n, 4) or (n, 5) for each input in its pixels, instead of the network's own."""
        self._proposals = list(proposals)

    def boxes(self) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Propose boxes and scores for each input.

        Returns:
            Of each input the boxes (n, C, 4) float32 in pixels of the image before resizing, one for each
            class, and the scores (n, C), the background's column left out.
        """
        if sum(len(proposals) for proposals in self._proposals) == 0:
            classes = _last(self._head.bbox_head).num_classes
            return [(np.zeros((0, classes, 4), np.float32), np.zeros((0, classes), np.float32))] * len(
                self._metas
            )
        if type(self._head).__name__ in CASCADE_HEADS:
            decoded = self._cascade()
        else:
            decoded = list(
                zip(
                    *self._head.simple_test_bboxes(
                        self._features, self._metas, self._proposals, None, rescale=True
                    ),
                    strict=True,
                )
            )
        return [_by_class(boxes, scores) for boxes, scores in decoded]

    def masks(
        self, number: int, boxes: NDArray[np.float32], labels: NDArray[Any]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        """Mask probabilities over boxes of one input.

        Args:
            number: which input of the batch.
            boxes: (n, 4) float32 in pixels of the image before resizing.
            labels: (n,) class of each.

        Returns:
            Of each box the mask, (n, h, w) uint8 at the mask head's own size, in steps of 1/255, and the quality (n,)
            that a mask scoring head expects of it; None without such a head.
        """
        crops, quality = self.probabilities(number, boxes, labels)
        return quantised(crops), quality

    def probabilities(
        self, number: int, boxes: NDArray[np.float32], labels: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Mask probabilities, and their qualities, as ``masks`` gives them, before they are rounded."""
        parts = [
            self._mask_chunk(
                number, boxes[start : start + MASKS_AT_ONCE], labels[start : start + MASKS_AT_ONCE]
            )
            for start in range(0, len(boxes), MASKS_AT_ONCE)
        ]
        if not parts:
            return np.zeros((0, 1, 1), np.float32), None
        crops, qualities = zip(*parts, strict=True)
        return np.concatenate(crops), None if qualities[0] is None else np.concatenate(qualities)

    def _cascade(self) -> list[tuple[Tensor, Tensor]]:
        head = self._head
        counts = [len(proposals) for proposals in self._proposals]
        rois = bbox2roi(self._proposals)
        logits: list[Tensor] = []
        for stage in range(head.num_stages):
            result = head._bbox_forward(stage, self._features, rois, **self._semantic_argument())
            logits.append(result["cls_score"])
            if stage < head.num_stages - 1:
                rois = self._refined(stage, rois, result, counts)
        mean = sum(logits) / float(len(logits))
        decoded = []
        splits = (rois.split(counts), mean.split(counts), result["bbox_pred"].split(counts))
        for one_rois, one_score, one_delta, meta in zip(*splits, self._metas, strict=True):
            decoded.append(
                head.bbox_head[-1].get_bboxes(
                    one_rois,
                    one_score,
                    one_delta,
                    meta["img_shape"],
                    meta["scale_factor"],
                    rescale=True,
                    cfg=None,
                )
            )
        return decoded

    def _refined(self, stage: int, rois: Tensor, result: dict[str, Tensor], counts: list[int]) -> Tensor:
        """The next stage's regions: each regressed for its most likely class."""
        box_head = self._head.bbox_head[stage]
        scores = result["cls_score"]
        if getattr(box_head, "custom_activation", False):
            scores = box_head.loss_cls.get_activation(scores)
        labels = scores[:, :-1].argmax(dim=1)
        split = zip(
            rois.split(counts),
            labels.split(counts),
            result["bbox_pred"].split(counts),
            self._metas,
            strict=True,
        )
        return torch.cat([box_head.regress_by_class(*part) for part in split if len(part[0])])

    def _semantic_argument(self) -> dict[str, Any]:
        return {} if self._semantic is None else {"semantic_feat": self._semantic}

    def _mask_chunk(
        self, number: int, boxes: NDArray[np.float32], labels: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        device = self._features[0].device
        scaled = torch.from_numpy(boxes).to(device) * torch.as_tensor(
            self._metas[number]["scale_factor"], device=device
        )
        rois = torch.cat([scaled.new_full((len(scaled), 1), number), scaled], dim=1)
        classes = torch.as_tensor(labels, device=device).long()
        stages, quality = self._mask_logits(rois, classes)
        mean = sum(logits.sigmoid() for logits in stages) / float(len(stages))
        if _last(self._head.mask_head).class_agnostic:
            chosen = mean[:, 0]
        else:
            chosen = mean[torch.arange(len(mean), device=device), classes]
        if not bool(torch.isfinite(chosen).all()):
            raise InputError("the network's masks are not numbers: its training diverged")
        return chosen.float().cpu().numpy(), None if quality is None else quality.float().cpu().numpy()

    def _mask_logits(self, rois: Tensor, classes: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Logits (n, classes or 1, h, w) of each stage, and the expected quality (n,) of each mask."""
        head = self._head
        kind = type(head).__name__
        if kind == "HybridTaskCascadeRoIHead":
            return self._hybrid_mask_logits(rois), None
        if kind == "CascadeRoIHead":
            stages = range(head.num_stages)
            return [head._mask_forward(stage, self._features, rois)["mask_pred"] for stage in stages], None
        result = head._mask_forward(self._features, rois)
        logits = result["mask_pred"]
        if kind == "PointRendRoIHead":
            refined = head._mask_point_forward_test(self._features, rois, classes, logits, self._metas)
            return [refined], None
        if kind == "MaskScoringRoIHead":
            every = torch.arange(len(rois), device=rois.device)
            expected = head.mask_iou_head(result["mask_feats"], logits[every, classes])
            return [logits], expected[every, classes]
        return [logits], None

    def _hybrid_mask_logits(self, rois: Tensor) -> list[Tensor]:
        """HTC: all stages look at the last stage's regions, each handing its features to the next."""
        head = self._head
        extractor = head.mask_roi_extractor[-1]
        features = extractor(self._features[: len(extractor.featmap_strides)], rois)
        if self._semantic is not None and "mask" in head.semantic_fusion:
            semantic = head.semantic_roi_extractor([self._semantic], rois)
            if semantic.shape[-2:] != features.shape[-2:]:
                semantic = F.adaptive_avg_pool2d(semantic, features.shape[-2:])
            features = features + semantic
        logits = []
        last = None
        for mask_head in head.mask_head:
            if head.mask_info_flow:
                prediction, last = mask_head(features, last)
            else:
                prediction = mask_head(features)
            logits.append(prediction)
        return logits


def quantised(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probabilities in steps of 1/255, halves to even as torch rounds them."""
    return np.rint(probabilities * np.float32(255.0)).astype(np.uint8)


def _by_class(boxes: Tensor, scores: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes (n, 4) or (n, 4C) and scores (n, C + 1) as one box and score for each class."""
    foreground = scores[:, :-1]
    if not bool(torch.isfinite(foreground).all()):
        raise InputError("the network's scores are not numbers: its training diverged")
    n, classes = foreground.shape
    spread = boxes.view(n, -1, 4) if boxes.shape[1] > 4 else boxes[:, None].expand(n, classes, 4)
    return (
        np.ascontiguousarray(spread.cpu().numpy(), dtype=np.float32),
        np.ascontiguousarray(foreground.cpu().numpy(), dtype=np.float32),
    )


def _last(heads: Any) -> Any:
    return heads[-1] if isinstance(heads, nn.ModuleList) else heads
