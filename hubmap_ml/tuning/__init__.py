"""Threshold studies on out-of-fold candidates, and what their choice is worth on images that had no part in it."""

from hubmap_ml.tuning.cross_fitting import CrossFit, cross_fitted
from hubmap_ml.tuning.recheck import recheck
from hubmap_ml.tuning.scorers import CachedScorer, DirectScorer, FoldScorer
from hubmap_ml.tuning.space import PARAMETERS, Space, parse_space, setting_of, with_setting
from hubmap_ml.tuning.study import Progress, ScoreMismatch, Study, run_study

__all__ = [
    "PARAMETERS",
    "CachedScorer",
    "CrossFit",
    "DirectScorer",
    "FoldScorer",
    "Progress",
    "ScoreMismatch",
    "Space",
    "Study",
    "cross_fitted",
    "parse_space",
    "recheck",
    "run_study",
    "setting_of",
    "with_setting",
]
