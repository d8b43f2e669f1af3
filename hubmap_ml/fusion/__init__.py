"""Several opinions on an image made one: suppression, merging of views and folds, fusion of members with masks."""

from hubmap_ml.fusion.boxes import box_iou_matrix, overlapping_pairs
from hubmap_ml.fusion.merging import MERGE_RULES, MergeRule, merge_sources
from hubmap_ml.fusion.methods import FUSION_METHODS, FusionMethod, fuse
from hubmap_ml.fusion.soft_suppression import SOFT_METHODS, SoftMethod, soft_suppression
from hubmap_ml.fusion.suppression import (
    MEASURES,
    Measure,
    decided,
    kept_rows,
    non_maximum_suppression,
    score_order,
)
from hubmap_ml.fusion.weighted_boxes import unit_boxes, weighted_boxes_fusion

__all__ = [
    "FUSION_METHODS",
    "MEASURES",
    "MERGE_RULES",
    "SOFT_METHODS",
    "FusionMethod",
    "Measure",
    "MergeRule",
    "SoftMethod",
    "box_iou_matrix",
    "decided",
    "fuse",
    "kept_rows",
    "merge_sources",
    "non_maximum_suppression",
    "overlapping_pairs",
    "score_order",
    "soft_suppression",
    "unit_boxes",
    "weighted_boxes_fusion",
]
