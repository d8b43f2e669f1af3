"""What `prepare` shows of its data: counts by data set, fold, slide and class, and the slides as mosaics of tiles."""

import logging
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data import PreparedData, read_image
from hubmap_ml.spec import InputError
from hubmap_ml.viz import CountTable, DatasetPage, PlacedTile, write_dataset_page

log = logging.getLogger(__name__)

PAGE = "dataset.html"
MOST_PICTURES = 160
"""Tiles that are read again for the mosaics; of more, evenly many of each slide, the others keep a frame."""
THUMBNAIL = 160
MOST_SLIDES = 40


def write_page(
    path: Path, data: PreparedData, *, title: str, verdict: str, left_out: Mapping[str, int]
) -> Path:
    """Write the page of prepared data.

    Args:
        path: of the page.
        data: the images with their folds and truths.
        title, verdict: its head.
        left_out: by reason how many annotations were not wanted.
    """
    images, truth = data.images, data.annotations
    objects = np.bincount(truth.image_rows(), minlength=len(images))
    everything = np.where(images.splits == "test", "test", "train")
    datasets = np.array(
        [f"{split} {name}".strip() for split, name in zip(everything, images.datasets, strict=True)]
    )
    folds = np.array([f"fold {fold}" if fold >= 0 else "in no fold" for fold in images.folds])
    classes = [category.name for category in data.categories]
    by_class = np.zeros((len(images), len(classes)), np.int64)
    np.add.at(by_class, (truth.image_rows(), truth.labels), 1)

    def table(title: str, names: NDArray[np.str_], note: str = "") -> CountTable:
        heads = ["", "images|", "without objects|", "objects|", *(f"{name}|" for name in classes)]
        rows = []
        for name in sorted(set(names.tolist())):
            of = names == name
            counts = [int(by_class[of, k].sum()) for k in range(len(classes))]
            rows.append(
                (str(name), [int(of.sum()), int((objects[of] == 0).sum()), int(objects[of].sum()), *counts])
            )
        return CountTable(title, heads, rows, note)

    areas = truth.masks.bits.areas()
    sizes = []
    for k, name in enumerate(classes):
        own = areas[truth.labels == k]
        if len(own):
            sizes.append((name, [len(own), *np.quantile(own, [0.0, 0.25, 0.5, 0.75, 1.0]).tolist()]))
    tables = [
        table("Data sets", datasets),
        table("Folds", folds),
        table("Slides", np.array([f"slide {name}" if name else "slide unknown" for name in images.slides])),
        CountTable(
            "Sizes",
            ["class", "objects|", "smallest|", "25 %|", "median|", "75 %|", "largest|"],
            sizes,
            "Pixels.",
        ),
        CountTable(
            "Left out", ["reason", "annotations|"], [(name, [count]) for name, count in left_out.items()]
        ),
    ]
    slides, notes = _slides(data, objects)
    if data.rejected_count:
        notes.append(f"{data.rejected_count} records were rejected; rejected.csv names each with its reason.")
    return write_dataset_page(path, DatasetPage(title, verdict, tables, slides, notes))


def _slides(data: PreparedData, objects: NDArray[np.int64]) -> tuple[dict[str, list[PlacedTile]], list[str]]:
    images = data.images
    placed = np.flatnonzero((images.slides != "") & (images.positions >= 0).all(axis=1))
    names = sorted({str(name) for name in images.slides[placed]})
    notes = []
    if len(placed) < len(images):
        notes.append(
            f"{len(images) - len(placed)} images say no slide or no place in it, and stand in no mosaic."
        )
    if len(names) > MOST_SLIDES:
        notes.append(f"{MOST_SLIDES} of {len(names)} slides are drawn.")
    names = names[:MOST_SLIDES]
    each = max(1, MOST_PICTURES // max(len(names), 1))
    found = {}
    for name in names:
        rows = placed[images.slides[placed] == name]
        shown = {
            int(row)
            for row in rows[np.unique(np.linspace(0, len(rows) - 1, min(each, len(rows))).astype(int))]
        }
        found[name] = [
            PlacedTile(
                str(images.ids[row]),
                int(images.positions[row, 1]),
                int(images.positions[row, 0]),
                int(images.widths[row]),
                int(images.heights[row]),
                int(images.folds[row]),
                int(objects[row]),
                _thumbnail(data, int(row)) if int(row) in shown else None,
            )
            for row in rows
        ]
    return found, notes


def _thumbnail(data: PreparedData, row: int) -> NDArray[np.uint8] | None:
    try:
        pixels = read_image(data.image_path(row))
    except (InputError, OSError) as error:
        log.debug("%s is not shown: %s", data.images.ids[row], error)
        return None
    scale = min(1.0, THUMBNAIL / max(pixels.shape[:2]))
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
