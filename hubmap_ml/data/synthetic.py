"""Generated tissue in HuBMAP 2023's raw layout, with the truth of its test tiles: for tests and
demonstrations.

One seed gives the same bytes (with the same versions of NumPy, OpenCV and zlib). How a tile is painted stands
in ``tissue``.
"""

import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data.disk import FreeBytes, free_bytes, full_disk_as_input_error, require_free
from hubmap_ml.data.tissue import VESSEL, Outline, Stain, Tile, paint_tile, ring_mask, slide_stain
from hubmap_ml.instances import Annotations, BitMasks, Category, Images, write_coco
from hubmap_ml.spec import InputError

TEST, CLEAN, NOISY, UNLABELLED = 0, 1, 2, 3  # 1 to 3 are the competition's numbers
MISSING_SHARE = 0.1  # of the outlines of dataset 2
HIDDEN_TRUTH = "hidden_truth.json"
_STAIN_STREAM = 99  # keeps a slide's colour apart from the random numbers of its tiles


@dataclass(frozen=True)
class SyntheticTissue:
    """What to generate.

    Attributes:
        seed: at least 0.
        tile_size: height and width of a tile in pixels; structures grow with it.
        slides: each with its own stain.
        clean_per_slide: tiles of dataset 1, outlined exactly.
        noisy_per_slide: tiles of dataset 2, outlines disturbed and one in ten missing.
        unlabelled_per_slide: tiles of dataset 3.
        test_per_slide: test tiles, whose truth goes into hidden_truth.json.
    """

    seed: int = 7
    tile_size: int = 128
    slides: int = 4
    clean_per_slide: int = 12
    noisy_per_slide: int = 14
    unlabelled_per_slide: int = 2
    test_per_slide: int = 4

    def __post_init__(self) -> None:
        counts = (self.clean_per_slide, self.noisy_per_slide, self.unlabelled_per_slide, self.test_per_slide)
        if self.seed < 0 or self.slides < 1 or min(counts) < 0 or self.tile_size < 32 or sum(counts) == 0:
            raise InputError(
                f"{self}: needs seed >= 0, tile_size >= 32, a slide, a tile and no negative number"
            )

    def per_slide(self) -> dict[int, int]:
        """Number of tiles of each dataset on one slide."""
        counts = (self.test_per_slide, self.clean_per_slide, self.noisy_per_slide, self.unlabelled_per_slide)
        return dict(zip((TEST, CLEAN, NOISY, UNLABELLED), counts, strict=True))


@dataclass(frozen=True)
class _Place:
    """One tile to paint: which it is and where on its slide it lies (pixels of the slide)."""

    id: str
    slide: int
    dataset: int
    number: int
    i: int
    j: int


def generate(
    folder: Path,
    tissue: SyntheticTissue | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    free: FreeBytes = free_bytes,
) -> Path:
    """Write the raw files of a small competition.

    train/*.tif, test/*.tif, polygons.jsonl, tile_meta.csv (without the test tiles, as published),
    wsi_meta.csv, sample_submission.csv and hidden_truth.json (COCO, blood vessels of the test tiles). The
    folder appears whole or not at all.

    Args:
        folder: must not exist yet.
        tissue: what to generate; by default the size of the demonstration.
        progress: called with (tiles painted, tiles in all).
        free: how to ask for free bytes.

    Returns:
        ``folder``.

    Raises:
        InputError: the folder exists, or the disk has no room.
    """
    tissue = tissue or SyntheticTissue()
    if folder.exists():
        raise InputError(
            f"{folder} exists already: remove it or name another folder for the generated tissue"
        )
    places = _places(tissue)
    needed = len(places) * (3 * tissue.tile_size**2 + 20_000)
    require_free(folder, needed, what="generated tissue", free=free)
    unfinished = folder.with_name(folder.name + ".unfinished")
    with full_disk_as_input_error(folder, "generated tissue"):
        shutil.rmtree(unfinished, ignore_errors=True)
        for name in ("train", "test"):
            (unfinished / name).mkdir(parents=True)
        truth: dict[str, tuple[Outline, ...]] = {}
        with (unfinished / "polygons.jsonl").open("w") as lines:
            for done, (place, tile) in enumerate(_painted(tissue, places), start=1):
                split = "test" if place.dataset == TEST else "train"
                _write_tiff(unfinished / split / f"{place.id}.tif", tile.pixels)
                if place.dataset == TEST:
                    truth[place.id] = tile.outlines
                elif place.dataset != UNLABELLED:
                    lines.write(_polygon_line(tissue, place, tile.outlines) + "\n")
                if progress is not None:
                    progress(done, len(places))
        _write_tables(unfinished, tissue, places)
        write_coco(unfinished / HIDDEN_TRUTH, _hidden_truth(tissue, places, truth))
        unfinished.rename(folder)
    return folder


def _places(tissue: SyntheticTissue) -> list[_Place]:
    """All tiles in order of id (which mixes slides and datasets, as in the published table)."""
    places = []
    for slide in range(1, tissue.slides + 1):
        numbered = [(dataset, k) for dataset, count in tissue.per_slide().items() for k in range(count)]
        side = int(np.ceil(np.sqrt(1.5 * len(numbered))))
        cells = _rng(tissue, slide, _STAIN_STREAM, 1).permutation(side * side)[: len(numbered)]
        for (dataset, number), cell in zip(numbered, cells.tolist(), strict=True):
            name = f"{tissue.seed}/{slide}/{dataset}/{number}"
            i, j = cell // side * tissue.tile_size, cell % side * tissue.tile_size
            places.append(
                _Place(hashlib.sha256(name.encode()).hexdigest()[:12], slide, dataset, number, i, j)
            )
    return sorted(places, key=lambda place: place.id)


def _painted(tissue: SyntheticTissue, places: list[_Place]) -> Iterator[tuple[_Place, Tile]]:
    stains: dict[int, Stain] = {
        slide: slide_stain(_rng(tissue, slide, _STAIN_STREAM, 0)) for slide in range(1, tissue.slides + 1)
    }
    for place in places:
        rng = _rng(tissue, place.slide, place.dataset, place.number)
        yield place, paint_tile(rng, size=tissue.tile_size, stain=stains[place.slide])


def _rng(tissue: SyntheticTissue, *key: int) -> np.random.Generator:
    """Random numbers that depend on the seed and the tile alone, not on how many tiles there are."""
    return np.random.default_rng([tissue.seed, *key])


def _polygon_line(tissue: SyntheticTissue, place: _Place, outlines: tuple[Outline, ...]) -> str:
    rng = _rng(tissue, place.slide, place.dataset, place.number, 1)
    annotations = []
    for outline in outlines:
        ring = outline.ring
        if place.dataset == NOISY:
            if rng.random() < MISSING_SHARE:
                continue
            ring = _disturbed(rng, ring, tissue.tile_size)
        annotations.append({"type": outline.type, "coordinates": [ring.tolist()]})
    return json.dumps({"id": place.id, "annotations": annotations})


def _disturbed(rng: np.random.Generator, ring: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """An outline as drawn in a hurry: shifted, too large or too small, wavy."""
    centre = ring.mean(axis=0)
    arms = ring - centre
    angle = np.arctan2(arms[:, 1], arms[:, 0])
    stretch = 1 + rng.normal(0, 0.07)
    for k in range(1, 4):
        stretch = stretch + 0.05 * rng.normal() * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    shift = rng.normal(0, 1.0 * size / 128, 2)
    moved = np.rint(centre + shift + arms * np.asarray(stretch)[:, None])
    return np.asarray(np.clip(moved, 0, size - 1), np.int32)


def _write_tiff(path: Path, pixels: NDArray[np.uint8]) -> None:
    import tifffile

    # No software tag, no description, no time: the same pixels are the same file.
    tifffile.imwrite(path, pixels, photometric="rgb", compression="zlib", metadata=None, software=False)


def _write_tables(folder: Path, tissue: SyntheticTissue, places: list[_Place]) -> None:
    known = [(p.id, p.slide, p.dataset, p.i, p.j) for p in places if p.dataset != TEST]
    _write_csv(folder / "tile_meta.csv", ("id", "source_wsi", "dataset", "i", "j"), known)
    donors = []
    for slide in range(1, tissue.slides + 1):
        rng = _rng(tissue, slide, _STAIN_STREAM, 2)
        age, sex = int(rng.integers(25, 75)), "FM"[int(rng.integers(2))]
        height, weight = rng.uniform(155, 190), rng.uniform(55, 100)
        donors.append(
            (slide, age, sex, "", f"{height:.1f}", f"{weight:.1f}", f"{weight / (height / 100) ** 2:.1f}")
        )
    _write_csv(
        folder / "wsi_meta.csv", ("source_wsi", "age", "sex", "race", "height", "weight", "bmi"), donors
    )
    size = tissue.tile_size
    tests = [(p.id, size, size, "") for p in places if p.dataset == TEST]
    _write_csv(folder / "sample_submission.csv", ("id", "height", "width", "prediction_string"), tests)


def _write_csv(path: Path, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _hidden_truth(
    tissue: SyntheticTissue, places: list[_Place], outlines: dict[str, tuple[Outline, ...]]
) -> Annotations:
    tests = [place for place in places if place.dataset == TEST]
    images = Images.build(
        ids=[place.id for place in tests],
        heights=tissue.tile_size,
        widths=tissue.tile_size,
        file_names=[f"test/{place.id}.tif" for place in tests],
        slides=[str(place.slide) for place in tests],
        groups=[str(place.slide) for place in tests],
        splits="test",
        positions=np.array([(place.i, place.j) for place in tests], np.int32).reshape(-1, 2),
    )
    vessels = [(row, o) for row, place in enumerate(tests) for o in outlines[place.id] if o.type == VESSEL]
    masks = BitMasks.from_dense([ring_mask(outline.ring, tissue.tile_size) for _, outline in vessels])
    return Annotations.from_bits(images, (Category(0, VESSEL),), [row for row, _ in vessels], masks)
