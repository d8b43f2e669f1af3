"""Predictions as other tools leave them, read as ours: which format a file has, and what may stand in it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from hubmap_ml.instances import (
    Category,
    Images,
    PredictionSet,
    read_coco_images,
    read_coco_results,
    read_detectron2_results,
    read_predictions,
    read_ultralytics_results,
)
from hubmap_ml.instances.foreign_results import DETECTRON2_FILE
from hubmap_ml.spec import InputError
from hubmap_ml.stages.imported_predictions import TABLES
from hubmap_ml.submission import RunLengthColumns, Runs, format_of, read_image_list, read_run_length_csv
from hubmap_ml.submission.tables import read_table

FORMATS = ("auto", "coco", "csv", "rle", "detectron2", "ultralytics", "parquet")
SOURCE = "imported"
ONE_CLASS = "object"
_COLUMNS = ("image", "mask", "score", "class")


@dataclass(frozen=True)
class Foreign:
    """How a foreign file is to be read.

    Attributes:
        kind: one of `FORMATS`.
        first_class: number of the first class where the file counts classes; None tells from the file.
        columns: of ``rle``.
    """

    kind: str = "auto"
    first_class: int | None = None
    columns: RunLengthColumns | None = None


AUTO = Foreign()


def how_to_read(
    kind: str = "auto",
    *,
    first_class: int | None = None,
    columns: Mapping[str, str] | None = None,
    runs: str = "",
    first_pixel: int = 1,
) -> Foreign:
    """Put together what a user says of a foreign file.

    Args:
        kind: one of `FORMATS`; ``auto`` is ``rle`` where columns are named.
        first_class: see `Foreign`.
        columns: of a csv of run lengths: the columns of ``image``, ``mask``, and perhaps ``score`` and ``class``.
        runs, first_pixel: how its runs go, see ``submission.RunLengthColumns``.

    Raises:
        InputError: an unknown format or column, or one that is missing.
    """
    if kind not in FORMATS:
        raise InputError(f"--format is {kind!r}; known: {', '.join(FORMATS)}")
    named = dict(columns or {})
    unknown = [key for key in named if key not in _COLUMNS]
    if unknown:
        raise InputError(f"--column {unknown[0]}=…: columns are named for {', '.join(_COLUMNS)}")
    if kind == "auto" and named:
        kind = "rle"
    if kind != "rle":
        if named or runs:
            raise InputError(f"--column and --runs are said of --format rle, and it is {kind!r}")
        return Foreign(kind, first_class)
    if not (named.get("image") and named.get("mask") and runs):
        raise InputError(
            "a csv of run lengths needs --column image=NAME, --column mask=NAME and --runs columns|rows|coco"
        )
    return Foreign(
        kind,
        first_class,
        RunLengthColumns(
            named["image"],
            named["mask"],
            named.get("score"),
            named.get("class"),
            runs=cast(Runs, runs),
            first=first_pixel,
        ),
    )


def read_foreign(path: Path, images: Images, categories: Sequence[Category], how: Foreign) -> PredictionSet:
    """Read foreign predictions as ours.

    Args:
        path: file or folder.
        images: those that it may speak of.
        categories: whose classes it speaks of.
        how: its format.

    Returns:
        Predictions over the images that it speaks of (in a format that lists no empty ones: all), with the given
        tables of images and categories.

    Raises:
        InputError: it cannot be read, names other images, sizes or classes, has no masks, or scores outside 0 to 1.
    """
    kind = _kind(path, how)
    if kind == "parquet":
        found = _ours(path, images, categories)
    elif kind == "csv":
        named = read_table(path, ("id",))["id"].tolist()
        found = format_of(path).read(
            path, images=images.take(np.flatnonzero(np.isin(images.ids, named))), categories=categories
        )
    elif how.columns is not None:
        found = read_run_length_csv(path, images, categories, how.columns)
    elif kind == "detectron2":
        found = read_detectron2_results(path, images, categories, first_class=how.first_class)
    elif kind == "ultralytics":
        found = read_ultralytics_results(path, images, categories, first_class=how.first_class)
    else:
        found = read_coco_results(path, images, categories)
    if found.masks is None:
        raise InputError(f"{path}: these predictions have no masks; export them with masks")
    if len(found.images) == 0:
        raise InputError(
            f"{path}: says nothing of the images that were asked for; are these files of the same data?"
        )
    if len(found.scores) and not (found.scores.min() >= 0 and found.scores.max() <= 1):
        raise InputError(
            f"{path}: scores from {found.scores.min():g} to {found.scores.max():g}; they must lie between 0 and 1"
        )
    return found.replace(
        cluster_offsets=None,
        member_rows=None,
        file_order=None,
        sources=found.sources if len(found.sources) > 1 else (SOURCE,),
    )


def read_listed(path: Path) -> tuple[Images, tuple[Category, ...]]:
    """Read which images and classes there are, without an experiment.

    Args:
        path: a COCO json, with or without annotations; or a csv with ``id``, ``height``, ``width`` and perhaps
            ``file_name``, whose one class is called ``object``.

    Raises:
        InputError: it cannot be read as either.
    """
    if path.suffix == ".csv":
        return read_image_list(path), (Category(1, ONE_CLASS),)
    return read_coco_images(path)


def source_in_words(path: Path, how: Foreign) -> str:
    """Say where predictions came from: format, name, and the digest of a single file."""
    kind = _kind(path, how)
    if path.is_dir():
        return f"{kind}, folder {path.name}"
    with path.open("rb") as file:
        return f"{kind}, {path.name}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _kind(path: Path, how: Foreign) -> str:
    if how.kind != "auto":
        return how.kind
    if path.is_dir():
        if all((path / name).is_file() for name in TABLES):
            return "parquet"
        return (
            "detectron2" if list(path.glob("*.pth")) or (path / DETECTRON2_FILE).is_file() else "ultralytics"
        )
    if path.suffix == ".csv":
        return "csv"
    if path.suffix == ".json":
        return "detectron2" if path.name == DETECTRON2_FILE else "coco"
    raise InputError(
        f"{path}: no predictions are known by this name; say which with --format {'|'.join(FORMATS[1:])}"
    )


def _ours(path: Path, images: Images, categories: Sequence[Category]) -> PredictionSet:
    """Our Parquet over the given table of images; other images in it are left out."""
    found = read_predictions(path)
    names, wanted = ([category.name for category in side] for side in (found.categories, categories))
    if names != wanted:
        raise InputError(f"{path}: has the categories {', '.join(names)}; {', '.join(wanted)} are expected")
    kept = found.take_images(np.flatnonzero(images.has(list(found.images.ids))))
    table = images.take(images.rows_of(list(kept.images.ids)))
    other = (table.heights != kept.images.heights) | (table.widths != kept.images.widths)
    if other.any():
        raise InputError(f"{path}: image {table.ids[other][0]!r} has another size than is expected")
    return kept.replace(images=table, categories=tuple(categories))
