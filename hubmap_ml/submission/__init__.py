"""Competition formats: predictions to the file that is handed in, and back."""

from hubmap_ml.submission.formats import FORMATS, SubmissionFormat, format_of, submission_format
from hubmap_ml.submission.run_length_csv import RunLengthColumns, Runs, read_run_length_csv
from hubmap_ml.submission.tables import read_image_list

__all__ = [
    "FORMATS",
    "RunLengthColumns",
    "Runs",
    "SubmissionFormat",
    "format_of",
    "read_image_list",
    "read_run_length_csv",
    "submission_format",
]
