"""The single records of COCO files, read with suspicion: every wrong one is named with its file and place.

What the files hold as a whole, and what is made of it, is in ``coco.py``.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from hubmap_ml.instances.bit_masks import BitMasks
from hubmap_ml.instances.images import Category, Images
from hubmap_ml.spec import InputError

_EXTRAS = {"datasets": "dataset", "slides": "slide", "groups": "group", "splits": "split"}
_DIGITS = re.compile(r"-?[0-9]{1,18}")
_LARGEST = 2**62  # a whole number up to here is an int64
_FARTHEST = 1_000_000
"""Pixels; pycocotools walks along every edge of a polygon, in memory, even far outside the image."""


def load_json(path: Path) -> Any:
    """What a json file holds.

    Raises:
        InputError: no such file, or one that is no json.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a json file, or cut off ({error})") from None


def records_of(path: Path, data: Any, key: str) -> list[dict[str, Any]]:
    """The records under ``key``: a list of objects, or a mapping from id to object (LIVECell's files).

    Raises:
        InputError: something else.
    """
    records = data[key]
    if isinstance(records, dict):
        records = [{"id": name, **part} if isinstance(part, dict) else part for name, part in records.items()]
    if not isinstance(records, list):
        raise InputError(f"{path}: {key!r} is a {type(records).__name__}, expected a list of records")
    for k, record in enumerate(records):
        if not isinstance(record, dict):
            raise InputError(f"{path}: {key} {k} is a {type(record).__name__}, expected a record")
    return records


def read_categories(path: Path, records: list[dict[str, Any]]) -> tuple[Category, ...]:
    """Categories in the file's order; ids and names must be unique."""
    found = []
    for k, record in enumerate(records):
        where = f"{path}: category {k}"
        name = field(record, "name", where)
        if not isinstance(name, str):
            raise InputError(f"{where}: its name is {name!r}, expected text")
        found.append(Category(int(number(field(record, "id", where), "id", where, whole=True)), name))
    for what, values in (("id", [c.id for c in found]), ("name", [c.name for c in found])):
        if len(set(values)) != len(values):
            raise InputError(f"{path}: two categories have the same {what}")
    return tuple(found)


def read_images(path: Path, records: list[dict[str, Any]]) -> Images:
    """Images in the file's order, with the extra keys that ``image_record`` writes."""
    ids, originals, sizes, positions = [], [], [], []
    for k, record in enumerate(records):
        original = field(record, "id", f"{path}: image {k}")
        where = f"{path}: image {original}"
        if isinstance(original, bool) or not isinstance(original, int | str):
            raise InputError(f"{where}: its id must be a whole number or text")
        ids.append(str(record.get("key", original)))
        originals.append(original)
        sizes.append(
            [number(field(record, side, where), side, where, whole=True) for side in ("height", "width")]
        )
        positions.append([number(record.get(side, -1), side, where, whole=True) for side in ("i", "j")])
    folds = [
        number(r.get("fold", -1), "fold", f"{path}: image {ids[k]}", whole=True)
        for k, r in enumerate(records)
    ]
    shape = np.array(sizes, dtype=np.int64).reshape(-1, 2)
    try:
        return Images.build(
            ids=ids,
            heights=shape[:, 0],
            widths=shape[:, 1],
            original_ids=originals,
            file_names=[str(r.get("file_name", "")) for r in records],
            folds=np.array(folds, dtype=np.int64),
            positions=np.array(positions, dtype=np.int64).reshape(-1, 2),
            **{name: [str(r.get(key, "")) for r in records] for name, key in _EXTRAS.items()},
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def image_record(images: Images, row: int) -> dict[str, Any]:
    """One image as COCO's record; what is unknown is left out."""
    original = images.original_ids[row]
    record: dict[str, Any] = {
        "id": original,
        "file_name": images.file_names[row],
        "height": int(images.heights[row]),
        "width": int(images.widths[row]),
    }
    if str(original) != images.ids[row]:
        record["key"] = images.ids[row]
    record.update(
        {key: getattr(images, name)[row] for name, key in _EXTRAS.items() if getattr(images, name)[row]}
    )
    if images.folds[row] != -1:
        record["fold"] = int(images.folds[row])
    if (images.positions[row] != -1).any():
        record["i"], record["j"] = (int(value) for value in images.positions[row])
    return record


def places(
    records: Any, row_of: Mapping[Any, int], label_of: Mapping[int, int], name_of: Callable[[int], str]
) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    """The image row and the label of each record."""
    rows, labels = np.zeros(len(records), dtype=np.int64), np.zeros(len(records), dtype=np.int16)
    for k, record in enumerate(records):
        image, category = (field(record, key, name_of(k)) for key in ("image_id", "category_id"))
        if not isinstance(image, int | str) or image not in row_of:
            raise InputError(f"{name_of(k)}: there is no image {image!r}")
        if not isinstance(category, int) or category not in label_of:
            raise InputError(f"{name_of(k)}: there is no category {category!r}")
        rows[k], labels[k] = row_of[image], label_of[category]
    return rows, labels


def read_masks(
    segmentations: list[Any], rows: NDArray[np.int64], images: Images, name_of: Callable[[int], str]
) -> BitMasks:
    """Bit masks of segmentations in any of COCO's forms, each of the image in its row."""
    heights, widths = images.heights[rows], images.widths[rows]
    counts = [
        run_lengths(s, int(heights[k]), int(widths[k]), name_of(k)) for k, s in enumerate(segmentations)
    ]
    return BitMasks.from_rle(counts, heights, widths, name_of=name_of)


def run_lengths(segmentation: Any, height: int, width: int, where: str) -> str | bytes | list[int]:
    """Run lengths of a segmentation in any of COCO's three forms, as ``BitMasks.from_rle`` reads them.

    Raises:
        InputError: it has none of these forms, or another size than its image; begins with ``where``.
    """
    if isinstance(segmentation, dict):
        size, counts = field(segmentation, "size", where), field(segmentation, "counts", where)
        if size != [height, width]:
            raise InputError(
                f"{where}: its mask has size {size}, its image {[height, width]} (height, width)"
            )
        if isinstance(counts, list) and not all(type(c) is int and 0 <= c <= height * width for c in counts):
            raise InputError(f"{where}: its run lengths must be whole numbers, none larger than its image")
        if not isinstance(counts, str | list):
            raise InputError(
                f"{where}: its run lengths are a {type(counts).__name__}, expected text or a list"
            )
        return counts
    if not isinstance(segmentation, list) or not segmentation:
        raise InputError(f"{where}: its segmentation is neither polygons nor run lengths")
    for polygon in segmentation:
        # pycocotools takes four numbers for a box and drops an odd last one without a word
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise InputError(f"{where}: a polygon needs x, y of at least three points")
        if not all(isinstance(value, int | float) and _is_finite(value) for value in polygon):
            raise InputError(f"{where}: a polygon holds something that is not a number")
        reach = max(map(abs, polygon))
        if reach > _FARTHEST:
            raise InputError(f"{where}: a polygon reaches {reach:g} pixels away from its image")
    merged = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    counts = merged["counts"]
    return counts if isinstance(counts, str | bytes) else list(counts)


def field(record: Any, key: str, where: str) -> Any:
    """``record[key]``, or an InputError that says where it is missing."""
    if not isinstance(record, dict) or key not in record:
        raise InputError(f"{where}: it has no {key!r}")
    return record[key]


def number(value: Any, key: str, where: str, *, whole: bool = False) -> float:
    """A finite number; ``whole`` also takes text of digits (keys of a mapping) and refuses fractions."""
    if whole and isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise InputError(f"{where}: its {key} is {value!r}, expected a number")
    if whole and value != int(value):
        raise InputError(f"{where}: its {key} is {value!r}, expected a whole number")
    return int(value) if whole else value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value) and abs(value) < _LARGEST
    except OverflowError:  # a whole number of hundreds of digits
        return False


def box_of(value: Any, where: str) -> list[float]:
    """x0, y0, x1, y1 from COCO's x, y, width, height."""
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise InputError(f"{where}: its bbox is {value!r}, expected x, y, width, height")
    x, y, width, height = (number(part, "bbox", where) for part in value)
    return [x, y, x + width, y + height]


def xywh(box: NDArray[np.float32]) -> list[float]:
    """COCO's x, y, width, height; ``box_of`` gives the same float32 corners back."""
    x0, y0, x1, y1 = (float(value) for value in box)
    return [x0, y0, x1 - x0, y1 - y0]
