"""Competition formats: predictions to the file that is handed in, and back; tables of submissions with their scores."""

from hubmap_ml.submission.formats import FORMATS, SubmissionFormat, format_of, submission_format
from hubmap_ml.submission.run_length_csv import RunLengthColumns, Runs, read_run_length_csv
from hubmap_ml.submission.score_table import ScoreTable, read_score_table
from hubmap_ml.submission.tables import read_image_list

__all__ = [
    "FORMATS",
    "RunLengthColumns",
    "Runs",
    "ScoreTable",
    "SubmissionFormat",
    "format_of",
    "read_image_list",
    "read_run_length_csv",
    "read_score_table",
    "submission_format",
]
