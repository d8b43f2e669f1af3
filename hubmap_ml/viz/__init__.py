"""Pictures and pages: overlays of outlines on tiles, and the self-contained HTML report."""

from hubmap_ml.viz.comparison import render_comparison, write_comparison
from hubmap_ml.viz.overlays import draw_instances, truth_and_prediction
from hubmap_ml.viz.report import (
    ReportData,
    ReportFigure,
    ReportRow,
    ReportStage,
    render_page,
    write_page,
)
from hubmap_ml.viz.score_page import render_score_page, write_score_page
from hubmap_ml.viz.study_page import StudyGain, StudyPage, StudyValue, render_study_page, write_study_page

__all__ = [
    "ReportData",
    "ReportFigure",
    "ReportRow",
    "ReportStage",
    "StudyGain",
    "StudyPage",
    "StudyValue",
    "draw_instances",
    "render_comparison",
    "render_page",
    "render_score_page",
    "render_study_page",
    "truth_and_prediction",
    "write_comparison",
    "write_page",
    "write_score_page",
    "write_study_page",
]
