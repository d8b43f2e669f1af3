"""Several opinions on an image made one: suppression, merging of views and folds, fusion of members with masks."""

from hubmap_ml.fusion.agreement import agreement
from hubmap_ml.fusion.boxes import box_iou_matrix, overlapping_pairs
from hubmap_ml.fusion.by_class import fuse_by_class, fuse_weighted
from hubmap_ml.fusion.cluster_masks import MASK_RULES, MaskFusion
from hubmap_ml.fusion.merging import MERGE_RULES, MergeRule, merge_sources
from hubmap_ml.fusion.methods import (
    FUSION_METHODS,
    GEOMETRIES,
    FusionMethod,
    FusionOptions,
    fuse,
    options_from_data,
    options_to_data,
)
from hubmap_ml.fusion.score_maps import ScoreMap, calibration_map, map_from_data, rank_map
from hubmap_ml.fusion.soft_suppression import SOFT_METHODS, SoftMethod, soft_suppression
from hubmap_ml.fusion.stacking import unit_boxes
from hubmap_ml.fusion.suppression import (
    MEASURES,
    Measure,
    decided,
    kept_rows,
    non_maximum_suppression,
    score_order,
)
from hubmap_ml.fusion.weighted_boxes import CONFIDENCE_TYPES, weighted_boxes_fusion
from hubmap_ml.fusion.weighted_suppression import non_maximum_weighted, suppression_of_members

__all__ = [
    "CONFIDENCE_TYPES",
    "FUSION_METHODS",
    "GEOMETRIES",
    "MASK_RULES",
    "MEASURES",
    "MERGE_RULES",
    "SOFT_METHODS",
    "FusionMethod",
    "FusionOptions",
    "MaskFusion",
    "Measure",
    "MergeRule",
    "ScoreMap",
    "SoftMethod",
    "agreement",
    "box_iou_matrix",
    "calibration_map",
    "decided",
    "fuse",
    "fuse_by_class",
    "fuse_weighted",
    "kept_rows",
    "map_from_data",
    "merge_sources",
    "non_maximum_suppression",
    "non_maximum_weighted",
    "options_from_data",
    "options_to_data",
    "overlapping_pairs",
    "rank_map",
    "score_order",
    "soft_suppression",
    "suppression_of_members",
    "unit_boxes",
    "weighted_boxes_fusion",
]
