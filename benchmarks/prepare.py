"""Raw annotations to COCO records: our way beside the reference solutions' way, on the same generated files.

The HuBMAP 2023 third-place and Sartorius notebooks fill each mask into a full-size array and walk over its pixels in
Python (``itertools.groupby`` of the column-major mask) for COCO's run lengths; box and area come from the same array.
Ours packs bits and writes run lengths from words. Both write a COCO file with run lengths, box and area of every
instance, which are compared. The notebooks read no images here; a row of ours does, too, and one decodes them all.

    python benchmarks/prepare.py [--json] [--instances N]
"""

import argparse
import csv
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from hubmap_ml.data import SyntheticTissue, convert_raw, generate
from hubmap_ml.data.polygons import fill_polygons, read_polygons
from hubmap_ml.data.tables import read_csv
from hubmap_ml.instances import Annotations, Category, Images, write_coco
from hubmap_ml.instances.row_runs import from_row_runs

SARTORIUS_SIZE = (520, 704)
OURS_REPEATED = 5


def walked_run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed counts, pixel by pixel, as the notebooks do it."""
    counts = []
    for k, (value, pixels) in enumerate(groupby(mask.ravel(order="F"))):
        if k == 0 and value == 1:
            counts.append(0)
        counts.append(len(list(pixels)))
    return counts


def walked_record(image: str, mask: np.ndarray) -> dict[str, Any]:
    """An annotation as the notebooks build it."""
    ys, xs = np.where(mask)
    box = [int(xs.min()), int(ys.min()), int(xs.max() - xs.min() + 1), int(ys.max() - ys.min() + 1)]
    segmentation = {"size": list(mask.shape), "counts": walked_run_lengths(mask)}
    return {"image_id": image, "bbox": box, "area": int(mask.sum()), "segmentation": segmentation}


def walk_hubmap(raw: Path) -> list[dict[str, Any]]:
    """polygons.jsonl to records: first ring, one class."""
    size = (512, 512)
    records = []
    for line in (raw / "polygons.jsonl").read_text().splitlines():
        tile = json.loads(line)
        for annotation in tile["annotations"]:
            if annotation["type"] == "blood_vessel":
                mask = np.zeros(size, np.uint8)
                cv2.fillPoly(mask, [np.array(annotation["coordinates"][0], np.int32)], (1,))
                records.append(walked_record(tile["id"], mask))
    return records


def walk_sartorius(raw: Path) -> list[dict[str, Any]]:
    """train.csv to records: each row decoded into a flat array."""
    records = []
    with (raw / "train.csv").open(newline="") as rows:
        for row in csv.DictReader(rows):
            flat = np.zeros(SARTORIUS_SIZE[0] * SARTORIUS_SIZE[1], np.uint8)
            numbers = np.asarray(row["annotation"].split(), dtype=int)
            for start, length in zip(numbers[0::2] - 1, numbers[1::2], strict=True):
                flat[start : start + length] = 1
            records.append(walked_record(row["id"], flat.reshape(SARTORIUS_SIZE)))
    return records


def write_sartorius(raw: Path, instances: int) -> None:
    """Twenty-five cells an image: filled ellipses, row-major run lengths from 1."""
    rng = np.random.default_rng(0)
    (raw / "train").mkdir(parents=True)
    with (raw / "train.csv").open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(("id", "annotation", "width", "height", "cell_type", "sample_id"))
        for number in range(instances):
            image = f"{number // 25:012x}"
            if number % 25 == 0:
                pixels = rng.integers(90, 160, SARTORIUS_SIZE, np.uint8)
                cv2.imwrite(str(raw / "train" / f"{image}.png"), pixels)
            mask = np.zeros(SARTORIUS_SIZE, np.uint8)
            centre = int(rng.integers(30, 670)), int(rng.integers(30, 490))
            axes = int(rng.integers(5, 25)), int(rng.integers(3, 12))
            cv2.ellipse(mask, centre, axes, float(rng.integers(180)), 0, 360, (1,), -1)
            flat = np.concatenate([[0], mask.ravel(), [0]])
            runs = np.flatnonzero(flat[1:] != flat[:-1]) + 1
            runs[1::2] -= runs[::2]
            text = " ".join(map(str, runs))
            sample = f"cort[diff]_A{number // 25 + 1}-1_Vessel-714_Ph_1"
            table.writerow((image, text, SARTORIUS_SIZE[1], SARTORIUS_SIZE[0], "cort", sample))


def timed(work: Callable[[], Any], times: int) -> tuple[Any, float]:
    """The result, and the least processor time in ms (of all threads: both ways compute, neither waits)."""
    least = float("inf")
    result = None
    for _ in range(times):
        begun = time.process_time()
        result = work()
        least = min(least, time.process_time() - begun)
    return result, 1000 * least


def difference(found: Annotations, walked: list[dict[str, Any]]) -> int:
    """Instances whose run lengths, box or area differ, however they are ordered in the file."""
    images, rows = found.images, found.image_rows()
    texts = found.masks.bits.to_rle(images.heights[rows], images.widths[rows])
    ours = sorted(
        (images.ids[row], text, [int(x0), int(y0), int(x1 - x0), int(y1 - y0)], int(area))
        for row, text, (x0, y0, x1, y1), area in zip(rows, texts, found.boxes, found.areas, strict=True)
    )
    theirs = []
    for record in walked:
        size = record["segmentation"]["size"]
        text = coco_mask.frPyObjects(record["segmentation"], *size)["counts"].decode()
        theirs.append((record["image_id"], text, record["bbox"], record["area"]))
    return abs(len(ours) - len(theirs)) + sum(a != b for a, b in zip(ours, sorted(theirs), strict=False))


def packed_hubmap(raw: Path) -> Annotations:
    """polygons.jsonl to annotations, no image read."""
    tiles = [path.stem for path in sorted((raw / "train").glob("*.tif"))]
    outlines = read_polygons(raw / "polygons.jsonl", types=("blood_vessel",), tiles=set(tiles))
    images = Images.build(ids=tiles, heights=512, widths=512)
    rings = [outlines.polygons.get(tile, ()) for tile in tiles]
    masks, _ = fill_polygons([polygon.ring for some in rings for polygon in some], 512, 512)
    rows = np.repeat(np.arange(len(tiles)), [len(some) for some in rings])
    return Annotations.from_bits(images, (Category(0, "blood_vessel"),), rows, masks)


def packed_sartorius(raw: Path) -> Annotations:
    """train.csv to annotations, no image read."""
    table = [row for _, row in read_csv(raw / "train.csv", ("id", "annotation"))]
    ids = list(dict.fromkeys(row["id"] for row in table))
    images = Images.build(ids=ids, heights=SARTORIUS_SIZE[0], widths=SARTORIUS_SIZE[1])
    masks, _ = from_row_runs([row["annotation"] for row in table], *SARTORIUS_SIZE)
    return Annotations.from_bits(
        images, (Category(0, "cort"),), images.rows_of([r["id"] for r in table]), masks
    )


def compare(
    work: str, convert: Callable[[], Annotations], other: tuple[Any, float], out: Path
) -> dict[str, Any]:
    """One row: ours, written as a COCO file, against records and time of theirs."""
    walked, other_ms = other

    def ours() -> Annotations:
        found = convert()
        write_coco(out, found)
        return found

    ours()  # kernels compile once
    found, ours_ms = timed(ours, OURS_REPEATED)
    return {
        "work": work,
        "ours_ms": round(ours_ms, 2),
        "other_ms": round(other_ms, 2),
        "ratio": round(other_ms / ours_ms, 1),
        "max_abs_diff": difference(found, walked),
        "n": len(walked),
    }


def written(walk: Callable[[Path], list[dict[str, Any]]], raw: Path, out: Path) -> list[dict[str, Any]]:
    """Their records, written as they write them."""
    records = walk(raw)
    out.write_text(json.dumps(records))
    return records


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--instances", type=int, default=500, help="cells of the Sartorius table")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "coco.json"
        tissue = SyntheticTissue(
            tile_size=512,
            slides=2,
            clean_per_slide=6,
            noisy_per_slide=6,
            unlabelled_per_slide=0,
            test_per_slide=0,
        )
        hubmap = generate(Path(folder) / "hubmap", tissue)
        cells = Path(folder) / "sartorius"
        write_sartorius(cells, options.instances)
        for raw, name, types, packed, walk in (
            (hubmap, "hubmap2023", ("blood_vessel",), packed_hubmap, walk_hubmap),
            (cells, "sartorius2021", ("cort",), packed_sartorius, walk_sartorius),
        ):
            other = timed(partial(written, walk, raw, out), 1)
            rows.append(compare(f"{name}: table to COCO file", partial(packed, raw), other, out))
            whole = partial(
                lambda *given, types: convert_raw(*given, types=types).annotations, name, raw, types=types
            )
            rows.append(compare(f"{name}: the same, all images decoded", whole, other, out))
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
    if options.json:
        print(json.dumps({"machine": machine, "rows": rows}))
        return
    for row in rows:
        print(
            f"{row['work']}: {row['n']} instances, ours {row['ours_ms']:.0f} ms, per-pixel Python "
            f"{row['other_ms']:.0f} ms, {row['ratio']}x, {row['max_abs_diff']} differ"
        )


if __name__ == "__main__":
    main()
