"""Tiny detectors and data for tests: mmdet's real heads with a handful of channels."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hubmap_ml.instances import Annotations, Category, Images

CHANNELS = 8
NORMALISE = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True}
VESSEL = (Category(0, "blood_vessel"),)


def mask_rcnn(*, class_agnostic: bool = False) -> dict[str, Any]:
    """A Mask R-CNN member."""
    return member(
        {
            "type": "MaskRCNN",
            **_trunk(),
            "roi_head": {
                "type": "StandardRoIHead",
                "bbox_roi_extractor": _extractor(7),
                "bbox_head": _box_head(agnostic=class_agnostic),
                "mask_roi_extractor": _extractor(14),
                "mask_head": {**_mask_head("FCNMaskHead"), "class_agnostic": class_agnostic},
            },
            "train_cfg": {"rpn": _rpn_train(), "rpn_proposal": _proposals(50), "rcnn": _rcnn_train(0.5)},
            "test_cfg": {"rpn": _proposals(50), "rcnn": _rcnn_test()},
        }
    )


def cascade() -> dict[str, Any]:
    """A Cascade Mask R-CNN member."""
    return member(_cascade("CascadeRCNN", "CascadeRoIHead", "FCNMaskHead", {}))


def htc(*, semantic: bool = False) -> dict[str, Any]:
    """A Hybrid Task Cascade member, without or with its semantic branch."""
    extra: dict[str, Any] = {"interleaved": True, "mask_info_flow": True}
    if semantic:
        extra |= {
            "semantic_roi_extractor": {
                "type": "SingleRoIExtractor",
                "roi_layer": {"type": "RoIAlign", "output_size": 14, "sampling_ratio": 0},
                "out_channels": CHANNELS,
                "featmap_strides": [8],
            },
            "semantic_head": {
                "type": "FusedSemanticHead",
                "num_ins": 4,
                "fusion_level": 1,
                "num_convs": 1,
                "in_channels": CHANNELS,
                "conv_out_channels": CHANNELS,
                "num_classes": 5,
            },
        }
    return member(_cascade("HybridTaskCascade", "HybridTaskCascadeRoIHead", "HTCMaskHead", extra))


def mask_scoring() -> dict[str, Any]:
    """Mask Scoring R-CNN: a head that predicts how good a mask is."""
    config = mask_rcnn()
    model = config["model"]
    model["type"] = "MaskScoringRCNN"
    model["roi_head"] |= {
        "type": "MaskScoringRoIHead",
        "mask_iou_head": {
            "type": "MaskIoUHead",
            "num_convs": 4,
            "num_fcs": 2,
            "roi_feat_size": 14,
            "in_channels": CHANNELS,
            "conv_out_channels": CHANNELS,
            "fc_out_channels": 16,
        },
    }
    model["train_cfg"]["rcnn"]["mask_thr_binary"] = 0.5
    return config


def point_rend() -> dict[str, Any]:
    """PointRend: a coarse mask, refined at its uncertain points."""
    config = mask_rcnn()
    model = config["model"]
    model["type"] = "PointRend"
    model["roi_head"] |= {
        "type": "PointRendRoIHead",
        "mask_roi_extractor": {
            "type": "GenericRoIExtractor",
            "aggregation": "concat",
            "roi_layer": {"type": "SimpleRoIAlign", "output_size": 14},
            "out_channels": CHANNELS,
            "featmap_strides": [4],
        },
        "mask_head": {
            "type": "CoarseMaskHead",
            "num_fcs": 2,
            "in_channels": CHANNELS,
            "conv_out_channels": CHANNELS,
            "fc_out_channels": 32,
            "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 1.0},
        },
        "point_head": {
            "type": "MaskPointHead",
            "num_fcs": 3,
            "in_channels": CHANNELS,
            "fc_channels": CHANNELS,
            "coarse_pred_each_layer": True,
            "loss_point": {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 1.0},
        },
    }
    model["train_cfg"]["rcnn"] |= {
        "mask_size": 7,
        "num_points": 14 * 14,
        "oversample_ratio": 3,
        "importance_sample_ratio": 0.75,
    }
    model["test_cfg"]["rcnn"] |= {
        "subdivision_steps": 5,
        "subdivision_num_points": 28 * 28,
        "scale_factor": 2,
    }
    return config


def member(model: dict[str, Any]) -> dict[str, Any]:
    """A member around a model: 64 pixels, one epoch, AdamW."""
    return {
        "model": model,
        "train_pipeline": [
            {"type": "LoadImageFromFile"},
            {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
            {"type": "Resize", "img_scale": (64, 64), "keep_ratio": True},
            {"type": "RandomFlip", "flip_ratio": 0.5},
            {
                "type": "Albu",
                "transforms": [
                    {"type": "RandomBrightnessContrast", "p": 0.5},
                    {"type": "RandomRotate90", "p": 0.5},
                ],
                "bbox_params": {
                    "type": "BboxParams",
                    "format": "pascal_voc",
                    "label_fields": ["gt_labels"],
                    "filter_lost_elements": True,
                },
            },
            {"type": "Normalize", **NORMALISE},
            {"type": "Pad", "size_divisor": 32},
            {"type": "DefaultFormatBundle"},
            {"type": "Collect", "keys": ["img", "gt_bboxes", "gt_labels", "gt_masks"]},
        ],
        "test_pipeline": [
            {"type": "LoadImageFromFile"},
            {
                "type": "MultiScaleFlipAug",
                "img_scale": (64, 64),
                "flip": False,
                "transforms": [
                    {"type": "Resize", "keep_ratio": True},
                    {"type": "RandomFlip"},
                    {"type": "Normalize", **NORMALISE},
                    {"type": "Pad", "size_divisor": 32},
                    {"type": "ImageToTensor", "keys": ["img"]},
                    {"type": "Collect", "keys": ["img"]},
                ],
            },
        ],
        "optimizer": {"type": "AdamW", "lr": 1e-3},
        "optimizer_config": {"grad_clip": {"max_norm": 10}},
        "lr_config": {
            "policy": "step",
            "warmup": "linear",
            "warmup_iters": 2,
            "warmup_ratio": 0.1,
            "step": [1],
        },
        "runner": {"type": "EpochBasedRunner", "max_epochs": 1},
        "batch": {"global": 2},
    }


def vessels(folder: Path, count: int, *, size: int = 64, empty: int = 0, seed: int = 0) -> Annotations:
    """Bright ellipses on a dark ground as PNG files, and their truth; the last `empty` images hold none."""
    draws = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    masks: list[list[np.ndarray]] = []
    for number in range(count):
        image = draws.integers(20, 60, (size, size, 3)).astype(np.uint8)
        found = []
        for _ in range(0 if number >= count - empty else 2):
            mask = np.zeros((size, size), np.uint8)
            centre = tuple(int(value) for value in draws.integers(size // 4, 3 * size // 4, 2))
            axes = tuple(int(value) for value in draws.integers(size // 10, size // 5, 2))
            cv2.ellipse(mask, centre, axes, float(draws.integers(0, 180)), 0, 360, 1, -1)
            image[mask > 0] = image[mask > 0] // 2 + np.array([120, 60, 90], np.uint8)
            found.append(mask)
        cv2.imwrite(str(folder / f"tile_{number}.png"), image)
        masks.append(found)
    names = [f"tile_{number}" for number in range(count)]
    images = Images.build(ids=names, heights=size, widths=size, file_names=[f"{name}.png" for name in names])
    return Annotations.from_dense(images, VESSEL, masks)


def _trunk() -> dict[str, Any]:
    return {
        "backbone": {
            "type": "ResNet",
            "depth": 18,
            "base_channels": CHANNELS,
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
            "norm_cfg": {"type": "SyncBN", "requires_grad": True},
            "style": "pytorch",
        },
        "neck": {
            "type": "FPN",
            "in_channels": [CHANNELS, 2 * CHANNELS, 4 * CHANNELS, 8 * CHANNELS],
            "out_channels": CHANNELS,
            "num_outs": 4,
        },
        "rpn_head": {
            "type": "RPNHead",
            "in_channels": CHANNELS,
            "feat_channels": CHANNELS,
            "anchor_generator": {
                "type": "AnchorGenerator",
                "scales": [4],
                "ratios": [0.5, 1.0, 2.0],
                "strides": [4, 8, 16, 32],
            },
            "bbox_coder": {
                "type": "DeltaXYWHBBoxCoder",
                "target_means": [0.0] * 4,
                "target_stds": [1.0] * 4,
            },
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
            "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
        },
    }


def _cascade(detector: str, head: str, mask_head: str, extra: dict[str, Any]) -> dict[str, Any]:
    stages = 3
    return {
        "type": detector,
        **_trunk(),
        "roi_head": {
            "type": head,
            "num_stages": stages,
            "stage_loss_weights": [1, 0.5, 0.25],
            "bbox_roi_extractor": _extractor(7),
            "bbox_head": [_box_head(agnostic=True, stds=0.1 / (stage + 1)) for stage in range(stages)],
            "mask_roi_extractor": _extractor(14),
            "mask_head": [
                {
                    **_mask_head(mask_head),
                    **({"with_conv_res": stage > 0} if mask_head == "HTCMaskHead" else {}),
                }
                for stage in range(stages)
            ],
            **extra,
        },
        "train_cfg": {
            "rpn": _rpn_train(),
            "rpn_proposal": _proposals(50),
            "rcnn": [_rcnn_train(0.5 + stage / 10) for stage in range(stages)],
        },
        "test_cfg": {"rpn": _proposals(50), "rcnn": _rcnn_test()},
    }


def _extractor(size: int) -> dict[str, Any]:
    return {
        "type": "SingleRoIExtractor",
        "roi_layer": {"type": "RoIAlign", "output_size": size, "sampling_ratio": 0},
        "out_channels": CHANNELS,
        "featmap_strides": [4, 8, 16, 32],
    }


def _box_head(*, agnostic: bool, stds: float = 0.1) -> dict[str, Any]:
    return {
        "type": "Shared2FCBBoxHead",
        "in_channels": CHANNELS,
        "fc_out_channels": 16,
        "roi_feat_size": 7,
        "bbox_coder": {
            "type": "DeltaXYWHBBoxCoder",
            "target_means": [0.0] * 4,
            "target_stds": [stds, stds, 2 * stds, 2 * stds],
        },
        "reg_class_agnostic": agnostic,
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
        "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
    }


def _mask_head(kind: str) -> dict[str, Any]:
    return {
        "type": kind,
        "num_convs": 1,
        "in_channels": CHANNELS,
        "conv_out_channels": CHANNELS,
        "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 1.0},
    }


def _assigner(iou: float, low: float) -> dict[str, Any]:
    return {
        "type": "MaxIoUAssigner",
        "pos_iou_thr": iou,
        "neg_iou_thr": low,
        "min_pos_iou": low,
        "match_low_quality": low < iou,
        "ignore_iof_thr": -1,
    }


def _rpn_train() -> dict[str, Any]:
    return {
        "assigner": _assigner(0.7, 0.3),
        "sampler": {
            "type": "RandomSampler",
            "num": 32,
            "pos_fraction": 0.5,
            "neg_pos_ub": -1,
            "add_gt_as_proposals": False,
        },
        "allowed_border": -1,
        "pos_weight": -1,
        "debug": False,
    }


def _rcnn_train(iou: float) -> dict[str, Any]:
    return {
        "assigner": _assigner(iou, iou),
        "sampler": {
            "type": "RandomSampler",
            "num": 32,
            "pos_fraction": 0.25,
            "neg_pos_ub": -1,
            "add_gt_as_proposals": True,
        },
        "mask_size": 28,
        "pos_weight": -1,
        "debug": False,
    }


def _proposals(count: int) -> dict[str, Any]:
    return {
        "nms_pre": 200,
        "max_per_img": count,
        "nms": {"type": "nms", "iou_threshold": 0.7},
        "min_bbox_size": 0,
    }


def _rcnn_test() -> dict[str, Any]:
    return {
        "score_thr": 0.05,
        "nms": {"type": "nms", "iou_threshold": 0.5},
        "max_per_img": 100,
        "mask_thr_binary": 0.5,
    }
