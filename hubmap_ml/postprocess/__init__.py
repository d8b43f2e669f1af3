"""Ordered, named steps from candidates to final instances."""

from hubmap_ml.postprocess.filters import MaxPerImage, MinArea, Score
from hubmap_ml.postprocess.masks import MaskThreshold
from hubmap_ml.postprocess.step import Step
from hubmap_ml.postprocess.steps import (
    STEPS,
    apply_steps,
    by_descending_score,
    candidate_steps,
    parse_steps,
    steps_to_data,
)
from hubmap_ml.postprocess.suppression import Nms

__all__ = [
    "STEPS",
    "MaskThreshold",
    "MaxPerImage",
    "MinArea",
    "Nms",
    "Score",
    "Step",
    "apply_steps",
    "by_descending_score",
    "candidate_steps",
    "parse_steps",
    "steps_to_data",
]
