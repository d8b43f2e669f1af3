"""Which image files a raw folder holds, and in which order test images come."""

import os
from collections.abc import Collection
from pathlib import Path

from hubmap_ml.data.tables import read_csv
from hubmap_ml.spec import InputError


def image_ids(folder: Path, suffix: str) -> set[str]:
    """Names without ``suffix`` of the files in a folder; nothing where there is no folder."""
    return {path.name[: -len(suffix)] for path in folder.glob(f"*{suffix}") if not path.name.startswith(".")}


def test_order(raw: Path, test: Collection[str], suffix: str) -> list[str]:
    """The test images as sample_submission.csv lists them, then further ones by name.

    Raises:
        InputError: the file lists an image twice, or one that test/ does not hold.
    """
    sample = raw / "sample_submission.csv"
    listed: list[str] = []
    if sample.is_file():
        listed = [row["id"] for _, row in read_csv(sample, ("id",))]
        absent = [image for image in listed if image not in test]
        if absent:
            raise InputError(
                f"{sample} lists the tile {absent[0]}, but {raw / 'test'} has no {absent[0]}{suffix}: fetch it"
            )
        if len(set(listed)) != len(listed):
            raise InputError(f"{sample} lists a tile twice: each test tile has one row")
    return [*listed, *sorted(set(test) - set(listed))]


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """All files below a folder, linked folders too, whose names end so (in any case), by path; no hidden ones."""
    found = [
        Path(place) / name
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if not name.startswith(".") and Path(name).suffix.lower() in suffixes
    ]
    return sorted(found)
