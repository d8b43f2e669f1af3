"""Scores of predictions against the truth. Nothing here needs torch."""

from hubmap_ml.metrics.coco import CocoEvaluation, CocoOptions, coco_evaluation, coco_segm
from hubmap_ml.metrics.curves import ScoreCurve, area_under, precision_recall, score_curve
from hubmap_ml.metrics.data_science_bowl import DsbScore, dsb_map
from hubmap_ml.metrics.dice import DiceScore, dice
from hubmap_ml.metrics.open_images import AveragePrecision, average_precision
from hubmap_ml.metrics.paired_gain import PairedGain, paired_gain
from hubmap_ml.metrics.scores import METRICS, Score, evaluate, headline

__all__ = [
    "METRICS",
    "AveragePrecision",
    "CocoEvaluation",
    "CocoOptions",
    "DiceScore",
    "DsbScore",
    "PairedGain",
    "Score",
    "ScoreCurve",
    "area_under",
    "average_precision",
    "coco_evaluation",
    "coco_segm",
    "dice",
    "dsb_map",
    "evaluate",
    "headline",
    "paired_gain",
    "precision_recall",
    "score_curve",
]
