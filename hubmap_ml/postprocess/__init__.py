"""Ordered, named steps from candidates to final instances."""

from hubmap_ml.postprocess.classes import ImageClass
from hubmap_ml.postprocess.components import FillHoles, LargestComponent, RemoveSmallComponents
from hubmap_ml.postprocess.filters import MaxArea, MaxPerImage, MinArea, Score
from hubmap_ml.postprocess.masks import MaskThreshold, TightBoxes
from hubmap_ml.postprocess.morphology import Closing, Dilation, Erosion, Opening
from hubmap_ml.postprocess.overlaps import ExcludeInside, NoOverlaps
from hubmap_ml.postprocess.step import Step
from hubmap_ml.postprocess.steps import (
    STEPS,
    apply_steps,
    by_descending_score,
    candidate_steps,
    check_classes,
    parse_steps,
    steps_to_data,
)
from hubmap_ml.postprocess.suppression import Nms, SoftNms

__all__ = [
    "STEPS",
    "Closing",
    "Dilation",
    "Erosion",
    "ExcludeInside",
    "FillHoles",
    "ImageClass",
    "LargestComponent",
    "MaskThreshold",
    "MaxArea",
    "MaxPerImage",
    "MinArea",
    "Nms",
    "NoOverlaps",
    "Opening",
    "RemoveSmallComponents",
    "Score",
    "SoftNms",
    "Step",
    "TightBoxes",
    "apply_steps",
    "by_descending_score",
    "candidate_steps",
    "check_classes",
    "parse_steps",
    "steps_to_data",
]
