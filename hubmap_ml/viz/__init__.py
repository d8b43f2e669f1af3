"""Pictures and pages: overlays of outlines on tiles, and the self-contained HTML report."""

from hubmap_ml.viz.comparison import render_comparison, write_comparison
from hubmap_ml.viz.dataset_page import CountTable, DatasetPage, PlacedTile, write_dataset_page
from hubmap_ml.viz.gallery import Counts, Gallery, GalleryTile, best_f1, count_above
from hubmap_ml.viz.held_out_page import HeldOutPage, write_held_out_page
from hubmap_ml.viz.line_plot import Line
from hubmap_ml.viz.overlays import draw_instances, truth_and_prediction
from hubmap_ml.viz.pipeline_graph import GraphStep, grouped
from hubmap_ml.viz.report import (
    ReportData,
    ReportErrors,
    ReportFigure,
    ReportStage,
    render_page,
    write_page,
)
from hubmap_ml.viz.report_beside import ReportBeside, render_beside, write_beside
from hubmap_ml.viz.report_parts import (
    Difference,
    ReportEnsemble,
    ReportMember,
    ReportOrigin,
    ReportPair,
    ReportStudy,
)
from hubmap_ml.viz.report_scores import ReportRow
from hubmap_ml.viz.score_page import render_score_page, write_score_page
from hubmap_ml.viz.study_page import StudyGain, StudyPage, StudyValue, render_study_page, write_study_page

__all__ = [
    "CountTable",
    "Counts",
    "DatasetPage",
    "Difference",
    "Gallery",
    "GalleryTile",
    "GraphStep",
    "HeldOutPage",
    "Line",
    "PlacedTile",
    "ReportBeside",
    "ReportData",
    "ReportEnsemble",
    "ReportErrors",
    "ReportFigure",
    "ReportMember",
    "ReportOrigin",
    "ReportPair",
    "ReportRow",
    "ReportStage",
    "ReportStudy",
    "StudyGain",
    "StudyPage",
    "StudyValue",
    "best_f1",
    "count_above",
    "draw_instances",
    "grouped",
    "render_beside",
    "render_comparison",
    "render_page",
    "render_score_page",
    "render_study_page",
    "truth_and_prediction",
    "write_beside",
    "write_comparison",
    "write_dataset_page",
    "write_held_out_page",
    "write_page",
    "write_score_page",
    "write_study_page",
]
