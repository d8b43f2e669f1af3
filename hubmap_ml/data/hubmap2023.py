"""Raw files of HuBMAP 2023 (Hacking the Human Vasculature) to images and annotations; tiles of any size.

Reads train/*.tif, test/*.tif, polygons.jsonl and tile_meta.csv; sample_submission.csv orders the test tiles
where there is one. Donors (wsi_meta.csv) are not used. What the reference did with polygons stands in
``polygons``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hubmap_ml.data.assembly import Converted, Entry, Plan, Progress, Record, assemble, require_raw
from hubmap_ml.data.classes import Classes
from hubmap_ml.data.listing import image_ids, test_order
from hubmap_ml.data.polygons import fill_polygons, read_polygons
from hubmap_ml.data.rejected import Rejected
from hubmap_ml.data.tables import read_csv
from hubmap_ml.instances import BitMasks
from hubmap_ml.spec import InputError
from hubmap_ml.spec.data_options import Hubmap2023Options

META_COLUMNS = ("id", "source_wsi", "dataset", "i", "j")


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


def convert(
    raw: Path,
    *,
    types: Sequence[str],
    workers: int = 1,
    max_rejected: float = 0.01,
    progress: Progress | None = None,
    options: Hubmap2023Options | None = None,
) -> Converted:
    """Read a raw folder; every tile is decoded once, so that a damaged file is found here.

    Training tiles come in the order of tile_meta.csv, test tiles in that of sample_submission.csv.

    Args:
        raw: the folder that holds train/, polygons.jsonl, tile_meta.csv.
        types: annotation types that become categories 0, 1, ... in this order.
        workers: threads; they change nothing in the result.
        max_rejected: share of annotations, and of training tiles, that may be left out before this stops.
        progress: called with (tiles done, tiles in all).
        options: of the experiment file.

    Returns:
        Annotations with boxes tight around the pixels, areas in pixels, ids from 1.

    Raises:
        InputError: a missing file or column, a tile that cannot be read or comes twice, a type that occurs
            nowhere, or too many rejected records.
    """
    options = options or Hubmap2023Options()
    classes = Classes.of(types, options.ignore)
    require_raw(raw, workers)
    meta = _read_meta(raw / "tile_meta.csv")
    tiles, strays = _list_tiles(raw, meta)
    outlines = read_polygons(
        raw / "polygons.jsonl", types=classes.wanted, tiles={t.id for t in tiles if t.split == "train"}
    )
    plan = Plan(
        entries=[_entry(tile) for tile in tiles],
        records={
            tile: [Record(p.type, p.ring, "polygons.jsonl", p.record) for p in polygons]
            for tile, polygons in outlines.polygons.items()
        },
        rejected=outlines.rejected,
        strays=strays,
        left_out={f"type {kind}": count for kind, count in outlines.unwanted.items()},
        images_are="training tiles",
    )
    return assemble(
        raw,
        plan,
        _fill,
        classes=classes,
        options=options,
        workers=workers,
        max_rejected=max_rejected,
        progress=progress,
    )


def _fill(
    entry: Entry, records: Sequence[Record], height: int, width: int
) -> tuple[BitMasks, list[str | None]]:
    return fill_polygons([record.geometry for record in records], height, width)


def _entry(tile: _Tile) -> Entry:
    return Entry(
        id=tile.id,
        file_name=_file_name(tile),
        split=tile.split,
        dataset=tile.meta.dataset,
        slide=tile.meta.slide,
        group=tile.meta.slide,
        position=tile.meta.position,
    )


def _file_name(tile: _Tile) -> str:
    return f"{tile.split}/{tile.id}.tif"


def _list_tiles(raw: Path, meta: Mapping[str, _Meta]) -> tuple[list[_Tile], list[Rejected]]:
    """Training tiles in table order, then test tiles; and training tiles that the table does not know."""
    train, test = image_ids(raw / "train", ".tif"), image_ids(raw / "test", ".tif")
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
    tiles += [_Tile(tile, "test", meta.get(tile, _Meta())) for tile in test_order(raw, test, ".tif")]
    strays = [
        Rejected(f"train/{tile}.tif", "the tile", "it is not in tile_meta.csv", 0)
        for tile in sorted(train - set(meta))
    ]
    return tiles, strays


def _read_meta(path: Path) -> dict[str, _Meta]:
    """tile_meta.csv by tile id, in file order."""
    table: dict[str, _Meta] = {}
    for number, row in read_csv(path, META_COLUMNS):
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
        if number != int(number) or abs(number) >= 2**31:
            raise ValueError(text)
    except (ValueError, OverflowError):
        raise InputError(f"{where}: {text!r} is no whole number of pixels") from None
    return int(number)
