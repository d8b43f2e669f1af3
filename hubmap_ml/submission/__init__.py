"""Competition formats: predictions to the file that is handed in, and back; tables of submissions with their scores."""

from hubmap_ml.submission.formats import FORMATS, SubmissionFormat, format_of, submission_format
from hubmap_ml.submission.score_table import ScoreTable, read_score_table

__all__ = [
    "FORMATS",
    "ScoreTable",
    "SubmissionFormat",
    "format_of",
    "read_score_table",
    "submission_format",
]
