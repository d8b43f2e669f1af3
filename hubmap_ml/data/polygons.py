"""HuBMAP 2023's polygons.jsonl: one tile a line, `{"id": ..., "annotations": [{"type": ..., "coordinates":
[ring, ...]}]}`.

Pixels are made as the third-place solution made them: OpenCV's fillPoly of the first ring with integer
vertices. Later rings are ignored.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data.rejected import Rejected
from hubmap_ml.instances import BitMasks
from hubmap_ml.instances.crops import from_crops
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
        unwanted: annotations of other types, by type.
    """

    polygons: Mapping[str, Sequence[Polygon]]
    rejected: tuple[Rejected, ...]
    total: int
    unwanted: Mapping[str, int]


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
    unwanted = {kind: count for kind, count in counts.items() if kind not in types}
    return PolygonFile(polygons, tuple(rejected), total, unwanted)


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
    crop, x0, y0 = _fill_crop(ring, height, width)
    mask = np.zeros((height, width), np.uint8)
    mask[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] = crop
    return mask


def fill_polygons(
    rings: Sequence[NDArray[np.float64]], height: int, width: int
) -> tuple[BitMasks, list[str | None]]:
    """The pixels of many polygons of one image, as ``fill_polygon`` makes them.

    Returns:
        A mask for each, and None or why it has none (the mask is then empty).
    """
    crops: list[NDArray[np.uint8]] = []
    places: list[tuple[int, int]] = []
    reasons: list[str | None] = []
    for ring in rings:
        reason = None
        crop, x0, y0 = np.zeros((0, 0), np.uint8), 0, 0
        try:
            crop, x0, y0 = _fill_crop(ring, height, width)
        except ValueError as error:
            reason = str(error)
        crops.append(crop)
        places.append((x0, y0))
        reasons.append(reason)
    return from_crops(crops, [x0 for x0, _ in places], [y0 for _, y0 in places]), reasons


def _fill_crop(ring: NDArray[np.float64], height: int, width: int) -> tuple[NDArray[np.uint8], int, int]:
    """A polygon's pixels around it, and the image column and row (a multiple of 64) of the first of them."""
    beyond = (ring < 0).any(axis=1) | (ring[:, 0] > width) | (ring[:, 1] > height)
    if beyond.any():
        x, y = ring[int(np.argmax(beyond))].tolist()
        raise ValueError(f"the point ({x:g}, {y:g}) lies outside the image of {width} x {height} pixels")
    points = np.floor(ring + 0.5).astype(np.int32)
    x0, y0 = (int(value) for value in points.min(axis=0))
    x1, y1 = (int(value) + 1 for value in points.max(axis=0))
    y0 -= y0 % 64
    crop = np.zeros((max(min(y1, height) - y0, 0), max(min(x1, width) - x0, 0)), np.uint8)
    if crop.size:
        cv2.fillPoly(crop, [points - np.array([x0, y0], np.int32)], (1,))
    if not crop.any():
        raise ValueError(f"no pixel of the image of {width} x {height} lies inside")
    return crop, x0, y0


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
    # sets of types: a loop over the points would take longer than all the rest
    pairs = set(map(type, points)) == {list} and set(map(len, points)) == {2}
    if not pairs or not set(map(type, chain.from_iterable(points))) <= {int, float}:
        raise ValueError("a point that is no pair of numbers x, y")
    try:
        ring = np.array(points, dtype=np.float64)
    except OverflowError:
        raise ValueError("a point that is not finite") from None
    if not np.isfinite(ring).all():
        raise ValueError("a point that is not finite")
    return ring


def _require_types(path: Path, types: Sequence[str], counts: Counter[str]) -> None:
    for kind in types:
        if not counts[kind]:
            have = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items())) or "none at all"
            raise InputError(f"type {kind!r} occurs nowhere in {path}; it has {have}: correct data.types")
