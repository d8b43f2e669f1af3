"""Competition formats: predictions to the file that is handed in, and back."""

from hubmap_ml.submission.formats import FORMATS, SubmissionFormat, format_of, submission_format

__all__ = ["FORMATS", "SubmissionFormat", "format_of", "submission_format"]
