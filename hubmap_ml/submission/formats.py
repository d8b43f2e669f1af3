"""The table of competition formats. A format is a module with ``write`` and ``read``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hubmap_ml.instances import Category, Images, PredictionSet
from hubmap_ml.spec import InputError
from hubmap_ml.submission import hubmap2023


class SubmissionFormat(Protocol):
    """What every format can do."""

    def write(self, path: Path, predictions: PredictionSet, sample_submission: Path | None = None) -> Path:
        """Write predictions as the competition wants them, in the sample's order if there is one."""

    def read(
        self, path: Path, images: Images | None = None, categories: Sequence[Category] | None = None
    ) -> PredictionSet:
        """Read such a file back."""


FORMATS: Mapping[str, SubmissionFormat] = {"hubmap2023": hubmap2023}


def submission_format(name: str) -> SubmissionFormat:
    """Look a format up by its name.

    Raises:
        InputError: unknown name.
    """
    if name not in FORMATS:
        raise InputError(f"submission format {name!r} is unknown; known: {', '.join(FORMATS)}")
    return FORMATS[name]
