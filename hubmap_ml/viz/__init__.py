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

__all__ = [
    "ReportData",
    "ReportFigure",
    "ReportRow",
    "ReportStage",
    "draw_instances",
    "render_comparison",
    "render_page",
    "truth_and_prediction",
    "write_comparison",
    "write_page",
]
