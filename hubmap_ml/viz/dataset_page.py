"""The page of a data set: how many images and objects there are, of what kind, and where tiles lie in their slides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hubmap_ml.viz.gallery import data_uri
from hubmap_ml.viz.page import framed_page, section, write_text
from hubmap_ml.viz.tables import COLOURS, Cell, plain_table

SIDE, QUALITY = 960, 78
"""Longer side of a slide's mosaic in pixels at most, and its JPEG quality."""
SMALLEST = 12
STYLES = ("comparison.css", "dataset.css")


@dataclass(frozen=True, eq=False)
class PlacedTile:
    """A tile in its slide.

    Attributes:
        name: of the image.
        x, y, width, height: in pixels of the slide.
        fold: its number; -1 for none.
        objects: how many are annotated on it.
        image: (h, w, 3) uint8 RGB of any size; None leaves its place blank.
    """

    name: str
    x: int
    y: int
    width: int
    height: int
    fold: int
    objects: int
    image: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class CountTable:
    """A table of counts: heads (those of numbers end in |) and rows, a name and numbers each."""

    title: str
    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float]]]
    note: str = ""


@dataclass(frozen=True)
class DatasetPage:
    """Everything the page says.

    Attributes:
        title, verdict: its head.
        tables: counts.
        slides: by name the tiles of each, as they lie.
        notes: what a reader must know.
    """

    title: str
    verdict: str
    tables: Sequence[CountTable]
    slides: Mapping[str, Sequence[PlacedTile]] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write_dataset_page(path: Path, page: DatasetPage) -> Path:
    """Write the page, whole or not at all, and return where it is; every value is escaped."""
    notes = "".join(f'<p class="legend">{escape(note)}</p>' for note in page.notes)
    mosaics = "\n".join(_mosaic(name, tiles) for name, tiles in page.slides.items())
    key = (
        '<p class="legend">Each tile where it lies in its slide; the frame is its fold, grey for none. Point at one to '
        "see its name and how many objects it holds.</p>"
    )
    return write_text(
        path,
        framed_page(
            page.title,
            page.verdict,
            [
                *(section(table.title, _table(table)) for table in page.tables if table.rows),
                section("Slides", f'{key}<div class="slides">{mosaics}</div>') if mosaics else "",
                notes,
            ],
            styles=STYLES,
        ),
    )


def _table(table: CountTable) -> str:
    rows: list[list[Cell]] = [
        [escape(name), *((f"{value:,.0f}", "number") for value in values)] for name, values in table.rows
    ]
    note = f'<p class="legend">{escape(table.note)}</p>' if table.note else ""
    return plain_table(table.heads, rows) + note


def _mosaic(name: str, tiles: Sequence[PlacedTile]) -> str:
    left, top = min(tile.x for tile in tiles), min(tile.y for tile in tiles)
    wide = max(tile.x + tile.width for tile in tiles) - left
    high = max(tile.y + tile.height for tile in tiles) - top
    scale = min(1.0, SIDE / max(wide, high))
    smallest = min(min(tile.width, tile.height) for tile in tiles) * scale
    scale *= (
        max(1.0, SMALLEST / smallest) if max(wide, high) * scale * SMALLEST / smallest <= 4 * SIDE else 1.0
    )
    width, height = max(1, round(wide * scale)), max(1, round(high * scale))
    picture = ""
    if any(tile.image is not None for tile in tiles):
        canvas = np.full((height, width, 3), 235, np.uint8)
        for tile in tiles:
            if tile.image is not None:
                x, y = round((tile.x - left) * scale), round((tile.y - top) * scale)
                w, h = max(1, round(tile.width * scale)), max(1, round(tile.height * scale))
                small = cv2.resize(tile.image, (w, h), interpolation=cv2.INTER_AREA)
                part = canvas[y : y + h, x : x + w]
                part[:] = small[: part.shape[0], : part.shape[1]]
        picture = f'<image width="{width}" height="{height}" href="{data_uri(canvas, QUALITY)}"/>'
    frames = "".join(
        f'<rect class="{f"set{tile.fold % COLOURS}" if tile.fold >= 0 else "none"}" '
        f'x="{(tile.x - left) * scale:.1f}" y="{(tile.y - top) * scale:.1f}" width="{tile.width * scale:.1f}" '
        f'height="{tile.height * scale:.1f}"><title>{escape(_said(tile))}</title></rect>'
        for tile in tiles
    )
    folds = sorted({tile.fold for tile in tiles if tile.fold >= 0})
    objects = sum(tile.objects for tile in tiles)
    words = f"{len(tiles):,} tiles, {objects:,} objects" + (
        f", folds {', '.join(map(str, folds))}" if folds else ", in no fold"
    )
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(f"Slide {name}: {words}")}">'
        f"{picture}{frames}</svg><figcaption><b>slide {escape(name)}</b><span>{words}</span></figcaption></figure>"
    )


def _said(tile: PlacedTile) -> str:
    fold = f"fold {tile.fold}" if tile.fold >= 0 else "no fold"
    return f"{tile.name}: {tile.objects} objects, {fold}"
