"""Scores of predictions against the truth. Nothing here needs torch."""

from hubmap_ml.metrics.coco import CocoEvaluation, CocoOptions, coco_evaluation, coco_segm
from hubmap_ml.metrics.comparison import (
    Comparison,
    Gain,
    ScoredSet,
    SlideScores,
    common_folds,
    common_images,
    compare_sets,
    score_interval,
)
from hubmap_ml.metrics.curves import ScoreCurve, area_under, precision_recall, score_curve
from hubmap_ml.metrics.data_science_bowl import DsbScore, dsb_map
from hubmap_ml.metrics.dice import DiceScore, dice
from hubmap_ml.metrics.error_anatomy import (
    ErrorAnatomy,
    ErrorKind,
    SortedDetections,
    error_anatomy,
    found_from,
    sort_detections,
)
from hubmap_ml.metrics.influence import influence
from hubmap_ml.metrics.intervals import Folded, Interval
from hubmap_ml.metrics.judging import judge
from hubmap_ml.metrics.open_images import AveragePrecision, average_precision
from hubmap_ml.metrics.paired_gain import PairedGain, paired_gain
from hubmap_ml.metrics.rank_agreement import RankAgreement, rank_agreement
from hubmap_ml.metrics.score_log import ScoreLogFindings, read_score_log
from hubmap_ml.metrics.scores import METRICS, Score, evaluate, headline
from hubmap_ml.metrics.worst_images import WorstImage, worst_images

__all__ = [
    "METRICS",
    "AveragePrecision",
    "CocoEvaluation",
    "CocoOptions",
    "Comparison",
    "DiceScore",
    "DsbScore",
    "ErrorAnatomy",
    "ErrorKind",
    "Folded",
    "Gain",
    "Interval",
    "PairedGain",
    "RankAgreement",
    "Score",
    "ScoreCurve",
    "ScoreLogFindings",
    "ScoredSet",
    "SlideScores",
    "SortedDetections",
    "WorstImage",
    "area_under",
    "average_precision",
    "coco_evaluation",
    "coco_segm",
    "common_folds",
    "common_images",
    "compare_sets",
    "dice",
    "dsb_map",
    "error_anatomy",
    "evaluate",
    "found_from",
    "headline",
    "influence",
    "judge",
    "paired_gain",
    "precision_recall",
    "rank_agreement",
    "read_score_log",
    "score_curve",
    "score_interval",
    "sort_detections",
    "worst_images",
]
