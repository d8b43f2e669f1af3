"""HuBMAP 2023's polygons.jsonl: one tile a line, `{"id": ..., "annotations": [{"type": ..., "coordinates":
[ring, ...]}]}`.

Pixels are made as the third-place solution made them: OpenCV's fillPoly of the first ring with integer
vertices. Later rings are ignored.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data.rejected import Rejected
from hubmap_ml.spec import InputError


@dataclass(frozen=True)
class Polygon:
    """One annotation: its type, its first ring as (K, 2) float64 points x, y, its place in the file."""

    type: str
    ring: NDArray[np.float64]
    record: str


@dataclass(frozen=True)
class PolygonFile:
    """What polygons.jsonl says about known tiles.

    Attributes:
        polygons: by tile id, in file order, of the wanted types only; a tile with nothing has no entry.
        rejected: records that were left out.
        total: annotations of the wanted types and broken ones, rejected or not.
    """

    polygons: Mapping[str, Sequence[Polygon]]
    rejected: tuple[Rejected, ...]
    total: int


def read_polygons(path: Path, *, types: Sequence[str], tiles: Collection[str]) -> PolygonFile:
    """Read the annotations of some types.

    A line that is no JSON, a tile that comes twice or is not among ``tiles``, and an annotation that is no
    polygon of three finite points are rejected one by one.

    Args:
        types: the wanted types; each must occur in the file.
        tiles: ids of the known tiles.

    Raises:
        InputError: the file is missing, or a type occurs nowhere in it.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist: the raw folder needs the competition's {path.name}")
    polygons: dict[str, list[Polygon]] = {}
    rejected: list[Rejected] = []
    seen: set[str] = set()
    counts: Counter[str] = Counter()
    total = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                tile, annotations = _parse_line(line)
            except ValueError as error:
                rejected.append(Rejected(path.name, f"line {number}", str(error)))
                total += 1
                continue
            found, broken = _parse_annotations(
                annotations, types, f"line {number} (tile {tile})", path.name, counts
            )
            total += len(found) + len(broken)
            reason = (
                f"the tile {tile} came already"
                if tile in seen
                else f"the tile {tile} is not in tile_meta.csv"
            )
            if tile in seen or tile not in tiles:
                lost = max(len(found) + len(broken), 1)
                total += lost - len(found) - len(broken)
                rejected.append(Rejected(path.name, f"line {number}", reason, lost))
                continue
            seen.add(tile)
            rejected.extend(broken)
            if found:
                polygons[tile] = found
    _require_types(path, types, counts)
    return PolygonFile(polygons, tuple(rejected), total)


def fill_polygon(ring: NDArray[np.float64], height: int, width: int) -> NDArray[np.uint8]:
    """The pixels of a polygon.

    Points are rounded to whole pixels (halves up). A point may lie on the far border (x = width or y =
    height); the part beyond the last pixel is cut off.

    Args:
        ring: (K, 2) x, y; open or closed.

    Returns:
        (height, width) uint8, 1 inside and on the outline.

    Raises:
        ValueError: a point lies outside the image, or nothing of the polygon is inside; the message says
            which.
    """
    beyond = (ring < 0).any(axis=1) | (ring[:, 0] > width) | (ring[:, 1] > height)
    if beyond.any():
        x, y = ring[int(np.argmax(beyond))].tolist()
        raise ValueError(f"the point ({x:g}, {y:g}) lies outside the image of {width} x {height} pixels")
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.floor(ring + 0.5).astype(np.int32)], (1,))
    if not mask.any():
        raise ValueError(f"no pixel of the image of {width} x {height} lies inside")
    return mask


def _parse_line(line: bytes) -> tuple[str, list[Any]]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON ({error})") from error
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        raise ValueError('no object with an "id" in text')
    annotations = record.get("annotations")
    if not isinstance(annotations, list):
        raise ValueError(f'the tile {record["id"]} has no list "annotations"')
    return record["id"], annotations


def _parse_annotations(
    annotations: list[Any], types: Sequence[str], where: str, file: str, counts: Counter[str]
) -> tuple[list[Polygon], list[Rejected]]:
    found: list[Polygon] = []
    broken: list[Rejected] = []
    for number, annotation in enumerate(annotations, start=1):
        record = f"{where}, annotation {number}"
        kind = annotation.get("type") if isinstance(annotation, dict) else None
        if not isinstance(kind, str):
            broken.append(Rejected(file, record, 'no object with a "type" in text'))
            continue
        counts[kind] += 1
        if kind not in types:
            continue
        try:
            found.append(Polygon(kind, _first_ring(annotation.get("coordinates")), record))
        except ValueError as error:
            broken.append(Rejected(file, record, str(error)))
    return found, broken


def _first_ring(coordinates: Any) -> NDArray[np.float64]:
    if not isinstance(coordinates, list) or not coordinates or not isinstance(coordinates[0], list):
        raise ValueError('"coordinates" is no list of rings')
    points = coordinates[0]
    if len(points) < 3:
        raise ValueError(f"a polygon of {len(points)} points: at least 3 are needed")
    if not all(isinstance(p, list) and len(p) == 2 and _is_number(p[0]) and _is_number(p[1]) for p in points):
        raise ValueError("a point that is no pair of numbers x, y")
    try:
        ring = np.array(points, dtype=np.float64)
    except OverflowError:
        raise ValueError("a point that is not finite") from None
    if not np.isfinite(ring).all():
        raise ValueError("a point that is not finite")
    return ring


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require_types(path: Path, types: Sequence[str], counts: Counter[str]) -> None:
    for kind in types:
        if not counts[kind]:
            have = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items())) or "none at all"
            raise InputError(f"type {kind!r} occurs nowhere in {path}; it has {have}: correct data.types")
