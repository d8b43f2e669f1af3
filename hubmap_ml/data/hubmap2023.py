"""Raw files of HuBMAP 2023 (Hacking the Human Vasculature) to images and annotations; tiles of any size.

Reads train/*.tif, test/*.tif, polygons.jsonl and tile_meta.csv; sample_submission.csv orders the test tiles
where there is one. Donors (wsi_meta.csv) are not used. What the reference did with polygons stands in
``polygons``.
"""

import csv
import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hubmap_ml.data.images import decode_image
from hubmap_ml.data.polygons import Polygon, fill_polygon, read_polygons
from hubmap_ml.data.rejected import Rejected, require_few
from hubmap_ml.instances import Annotations, BitMasks, Category, Images
from hubmap_ml.spec import InputError

META_COLUMNS = ("id", "source_wsi", "dataset", "i", "j")


@dataclass(frozen=True, eq=False)
class Converted:
    """Images and annotations of a raw folder.

    Attributes:
        annotations: of the training tiles, all datasets, in the order of tile_meta.csv; those of dataset 3
            and others without an outline are rows without annotations.
        images: the same training tiles, then the test tiles in the order of sample_submission.csv.
        rejected: what was left out.
        tile_digests: SHA-256 of each image file, in the order of ``images``.
    """

    annotations: Annotations
    images: Images
    rejected: tuple[Rejected, ...]
    tile_digests: tuple[str, ...]


@dataclass(frozen=True)
class _Meta:
    slide: str = ""
    dataset: str = ""
    position: tuple[int, int] = (-1, -1)


@dataclass(frozen=True)
class _Tile:
    id: str
    split: str
    meta: _Meta


@dataclass(frozen=True, eq=False)
class _TileResult:
    height: int
    width: int
    digest: str
    types: tuple[str, ...]
    masks: BitMasks
    rejected: tuple[Rejected, ...]


def convert(
    raw: Path,
    *,
    types: Sequence[str],
    workers: int = 1,
    max_rejected: float = 0.01,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Read a raw folder; every tile is decoded once, so that a damaged file is found here.

    Args:
        raw: the folder that holds train/, polygons.jsonl, tile_meta.csv.
        types: annotation types that become categories 0, 1, ... in this order.
        workers: threads; they change nothing in the result.
        max_rejected: share of annotations, and of training tiles, that may be left out before this stops.
        progress: called with (tiles done, tiles in all).

    Returns:
        Annotations with boxes tight around the pixels, areas in pixels, ids from 1.

    Raises:
        InputError: a missing file or column, a tile that cannot be read or comes twice, a type that occurs
            nowhere, or too many rejected records.
    """
    if not types or len(set(types)) != len(types):
        raise InputError(f"data.types is {list(types)}: name at least one annotation type, and none twice")
    if workers < 1:
        raise InputError(f"workers is {workers}: give 1 or more")
    if not raw.is_dir():
        raise InputError(
            f"the raw folder {raw} does not exist: give the folder that holds train/ and tile_meta.csv"
        )
    meta = _read_meta(raw / "tile_meta.csv")
    tiles, strays = _list_tiles(raw, meta)
    outlines = read_polygons(
        raw / "polygons.jsonl", types=types, tiles={t.id for t in tiles if t.split == "train"}
    )

    def read(tile: _Tile) -> _TileResult:
        return _read_tile(raw, tile, outlines.polygons.get(tile.id, ()))

    results: list[_TileResult] = []
    with ThreadPoolExecutor(workers) as pool:
        # map() keeps the order and cancels what has not begun when one tile fails.
        for result in pool.map(read, tiles) if workers > 1 else map(read, tiles):
            results.append(result)
            if progress is not None:
                progress(len(results), len(tiles))
    outside = [record for result in results for record in result.rejected]
    rejected_outlines = [*outlines.rejected, *outside]
    n_train = sum(tile.split == "train" for tile in tiles)
    require_few(rejected_outlines, outlines.total, what="annotations", max_share=max_rejected)
    require_few(strays, n_train + len(strays), what="training tiles", max_share=max_rejected)
    images = _images_table(tiles, results)
    return Converted(
        annotations=_annotations(images.take(np.arange(n_train)), results[:n_train], types),
        images=images,
        rejected=(*strays, *rejected_outlines),
        tile_digests=tuple(result.digest for result in results),
    )


def _read_tile(raw: Path, tile: _Tile, polygons: Sequence[Polygon]) -> _TileResult:
    path = raw / _file_name(tile)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    height, width = decode_image(content, path).shape[:2]
    masks, types, rejected = [], [], []
    for polygon in polygons:
        try:
            masks.append(fill_polygon(polygon.ring, height, width))
            types.append(polygon.type)
        except ValueError as error:
            rejected.append(Rejected("polygons.jsonl", polygon.record, str(error)))
    digest = hashlib.sha256(content).hexdigest()
    return _TileResult(height, width, digest, tuple(types), BitMasks.from_dense(masks), tuple(rejected))


def _annotations(images: Images, results: Sequence[_TileResult], types: Sequence[str]) -> Annotations:
    label_of = {kind: label for label, kind in enumerate(types)}
    return Annotations.from_bits(
        images,
        tuple(Category(label, kind) for label, kind in enumerate(types)),
        np.repeat(np.arange(len(results)), [len(result.types) for result in results]),
        BitMasks.concatenate([result.masks for result in results]),
        np.array([label_of[kind] for result in results for kind in result.types], np.int16),
    )


def _images_table(tiles: Sequence[_Tile], results: Sequence[_TileResult]) -> Images:
    return Images.build(
        ids=[tile.id for tile in tiles],
        heights=np.array([result.height for result in results], np.int32),
        widths=np.array([result.width for result in results], np.int32),
        file_names=[_file_name(tile) for tile in tiles],
        datasets=[tile.meta.dataset for tile in tiles],
        slides=[tile.meta.slide for tile in tiles],
        groups=[tile.meta.slide for tile in tiles],
        splits=[tile.split for tile in tiles],
        positions=np.array([tile.meta.position for tile in tiles], np.int32).reshape(-1, 2),
    )


def _file_name(tile: _Tile) -> str:
    return f"{tile.split}/{tile.id}.tif"


def _list_tiles(raw: Path, meta: Mapping[str, _Meta]) -> tuple[list[_Tile], list[Rejected]]:
    """Training tiles in table order, then test tiles; and training tiles that the table does not know."""
    train, test = _tile_ids(raw / "train"), _tile_ids(raw / "test")
    if not (raw / "train").is_dir():
        raise InputError(f"{raw / 'train'} does not exist: the raw folder needs the training tiles in train/")
    both = sorted(train & test)
    if both:
        raise InputError(f"tile {both[0]} is in train/ and in test/ of {raw}: keep one")
    missing = [tile for tile in meta if tile not in train and tile not in test]
    if missing:
        raise InputError(
            f"{len(missing)} tiles of {raw / 'tile_meta.csv'} have no file, the first is "
            f"train/{missing[0]}.tif: fetch them or take their rows out"
        )
    tiles = [_Tile(tile, "train", row) for tile, row in meta.items() if tile in train]
    tiles += [_Tile(tile, "test", meta.get(tile, _Meta())) for tile in _test_order(raw, test)]
    strays = [
        Rejected(f"train/{tile}.tif", "the tile", "it is not in tile_meta.csv")
        for tile in sorted(train - set(meta))
    ]
    return tiles, strays


def _tile_ids(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.tif") if not path.name.startswith(".")}


def _test_order(raw: Path, test: set[str]) -> list[str]:
    sample = raw / "sample_submission.csv"
    listed: list[str] = []
    if sample.is_file():
        listed = [row["id"] for _, row in _read_csv(sample, ("id",))]
        absent = [tile for tile in listed if tile not in test]
        if absent:
            raise InputError(
                f"{sample} lists the tile {absent[0]}, but {raw / 'test'} has no {absent[0]}.tif: fetch it"
            )
        if len(set(listed)) != len(listed):
            raise InputError(f"{sample} lists a tile twice: each test tile has one row")
    return [*listed, *sorted(test - set(listed))]


def _read_meta(path: Path) -> dict[str, _Meta]:
    """tile_meta.csv by tile id, in file order."""
    table: dict[str, _Meta] = {}
    for number, row in _read_csv(path, META_COLUMNS):
        if not row["id"]:
            raise InputError(f"{path}, line {number}: the tile has no id")
        if row["id"] in table:
            raise InputError(f"{path}, line {number}: the tile {row['id']} comes twice: keep one row")
        position = tuple(
            _whole_number(row[key], f"{path}, line {number}, column {key}") for key in ("i", "j")
        )
        table[row["id"]] = _Meta(row["source_wsi"], row["dataset"], (position[0], position[1]))
    if not table:
        raise InputError(f"{path} has no rows: it must list the tiles")
    return table


def _whole_number(text: str, where: str) -> int:
    if not text:
        return -1  # unknown
    try:
        number = float(text)
        if number != int(number):
            raise ValueError(text)
    except (ValueError, OverflowError):
        raise InputError(f"{where}: {text!r} is no whole number of pixels") from None
    return int(number)


def _read_csv(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows with their line numbers; every cell is text (an id like 1e5 stays one)."""
    if not path.is_file():
        raise InputError(f"{path} does not exist: the raw folder needs the competition's {path.name}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, strict=True)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                have = ", ".join(reader.fieldnames or ()) or "none"
                raise InputError(
                    f"{path} has no column {missing[0]!r} (its columns: {have}): correct its first line"
                )
            rows = [(reader.line_num, row) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as csv: {error}") from error
    for number, row in rows:
        if None in row or any(row[name] is None for name in columns):
            raise InputError(f"{path}, line {number}: it has another number of cells than the first line")
    return [(number, {name: row[name].strip() for name in columns}) for number, row in rows]
