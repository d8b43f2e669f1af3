"""Threshold studies on out-of-fold candidates, and what their choice is worth on images that had no part in it."""

from hubmap_ml.tuning.assessment import Assessment, Curve, Spread, assess
from hubmap_ml.tuning.cross_fitting import CrossFit, cross_fitted
from hubmap_ml.tuning.per_class import of_class, run_study_per_class
from hubmap_ml.tuning.recheck import recheck
from hubmap_ml.tuning.sampling import ADAPTIVE, SAMPLERS
from hubmap_ml.tuning.scorers import CachedScorer, DirectScorer, FoldScorer
from hubmap_ml.tuning.searching import Progress
from hubmap_ml.tuning.space import Parameter, Space, parse_space
from hubmap_ml.tuning.step_values import require_per_class, setting_of, value_at, with_setting
from hubmap_ml.tuning.study import ScoreMismatch, Study, run_study

__all__ = [
    "ADAPTIVE",
    "SAMPLERS",
    "Assessment",
    "CachedScorer",
    "CrossFit",
    "Curve",
    "DirectScorer",
    "FoldScorer",
    "Parameter",
    "Progress",
    "ScoreMismatch",
    "Space",
    "Spread",
    "Study",
    "assess",
    "cross_fitted",
    "of_class",
    "parse_space",
    "recheck",
    "require_per_class",
    "run_study",
    "run_study_per_class",
    "setting_of",
    "value_at",
    "with_setting",
]
