"""The table of raw formats. A format is a module with ``convert``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hubmap_ml.data import coco, dsb2018, hubmap2023, livecell, sartorius2021
from hubmap_ml.data.assembly import Converted, Progress
from hubmap_ml.spec import InputError
from hubmap_ml.spec.data_options import parse_options


class RawFormat(Protocol):
    """What every format can do."""

    def convert(
        self,
        raw: Path,
        *,
        types: Sequence[str],
        workers: int = 1,
        max_rejected: float = 0.01,
        progress: Progress | None = None,
        options: Any = None,
    ) -> Converted:
        """Read a raw folder; ``options`` are the format's own (``spec.data_options``)."""


FORMATS: Mapping[str, RawFormat] = {
    "hubmap2023": hubmap2023,
    "sartorius2021": sartorius2021,
    "livecell": livecell,
    "coco": coco,
    "dsb2018": dsb2018,
}


def convert_raw(
    format: str,
    raw: Path,
    *,
    types: Sequence[str],
    workers: int = 1,
    max_rejected: float = 0.01,
    progress: Progress | None = None,
    options: Any = None,
) -> Converted:
    """Read a raw folder in the named format.

    Args:
        options: a mapping, or the format's own options.

    Raises:
        InputError: an unknown format or option, and what the format's ``convert`` raises.
    """
    if format not in FORMATS:
        raise InputError(f"raw format {format!r} is unknown; known: {', '.join(FORMATS)}")
    try:
        chosen = parse_options(format, options)
    except ValueError as error:
        raise InputError(f"data.options: {error}") from None
    return FORMATS[format].convert(
        raw, types=types, workers=workers, max_rejected=max_rejected, progress=progress, options=chosen
    )
