"""Scores of predictions against the truth. Nothing here needs torch."""

from hubmap_ml.metrics.coco import coco_segm
from hubmap_ml.metrics.data_science_bowl import DsbScore, dsb_map
from hubmap_ml.metrics.open_images import (
    AveragePrecision,
    area_under,
    average_precision,
    precision_recall,
)
from hubmap_ml.metrics.paired_gain import PairedGain, paired_gain
from hubmap_ml.metrics.scores import METRICS, Score, evaluate, headline

__all__ = [
    "METRICS",
    "AveragePrecision",
    "DsbScore",
    "PairedGain",
    "Score",
    "area_under",
    "average_precision",
    "coco_segm",
    "dsb_map",
    "evaluate",
    "headline",
    "paired_gain",
    "precision_recall",
]
