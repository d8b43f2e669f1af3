"""The table of competition formats. A format is a module with ``write`` and ``read``.

Not every raw format has one: only competitions ask for a file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hubmap_ml.instances import Category, Images, PredictionSet
from hubmap_ml.spec import InputError
from hubmap_ml.submission import hubmap2023, sartorius2021
from hubmap_ml.submission.tables import read_header


class SubmissionFormat(Protocol):
    """What every format can do.

    Attributes:
        COLUMNS: of the csv.
        HAS_CLASSES: whether the file says which class a mask has.
    """

    COLUMNS: tuple[str, ...]
    HAS_CLASSES: bool

    def write(self, path: Path, predictions: PredictionSet, sample_submission: Path | None = None) -> Path:
        """Write predictions as the competition wants them, in the sample's order if there is one."""

    def read(
        self, path: Path, images: Images | None = None, categories: Sequence[Category] | None = None
    ) -> PredictionSet:
        """Read such a file back."""


FORMATS: Mapping[str, SubmissionFormat] = {"hubmap2023": hubmap2023, "sartorius2021": sartorius2021}


def submission_format(name: str) -> SubmissionFormat:
    """Look a format up by its name.

    Raises:
        InputError: unknown name.
    """
    if name not in FORMATS:
        raise InputError(
            f"there is no submission file of format {name!r}; competitions known: {', '.join(FORMATS)}"
        )
    return FORMATS[name]


def format_of(path: Path) -> SubmissionFormat:
    """The format of a submission csv, by its columns.

    Raises:
        InputError: no such file, or columns of no known format.
    """
    header = read_header(path)
    for found in FORMATS.values():
        if set(found.COLUMNS) <= set(header):
            return found
    known = "; ".join(f"{name}: {', '.join(found.COLUMNS)}" for name, found in FORMATS.items())
    raise InputError(f"{path} has the columns {', '.join(header) or 'none'}, which no format has ({known})")
