"""Predictions as Detectron2 and Ultralytics write them.

Detectron2's ``COCOEvaluator`` leaves ``coco_instances_results.json``: COCO results, whose classes have the data set's
numbers, or count from 0 where its registration knew none. Ultralytics' ``yolo val save_json=True`` leaves
``predictions.json``: COCO results that name an image by its file's stem (as a number where it is one) and count classes
from 1, older releases from 0; ``yolo predict save_txt=True save_conf=True`` leaves ``labels/STEM.txt`` with a line of
class (from 0), polygon (shares of width and height) and score for each instance, and no file for an empty image.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from hubmap_ml.instances.coco import results_of
from hubmap_ml.instances.coco_records import load_json
from hubmap_ml.instances.images import Category, Images
from hubmap_ml.instances.predictions import PredictionSet
from hubmap_ml.spec import InputError

DETECTRON2_FILE = "coco_instances_results.json"
DETECTRON2_PICKLE = "instances_predictions.pth"
ULTRALYTICS_FILE = "predictions.json"
LABELS = "labels"


def read_detectron2_results(
    path: Path, images: Images, categories: Sequence[Category], *, first_class: int | None = None
) -> PredictionSet:
    """Read what Detectron2's ``COCOEvaluator`` leaves.

    Args:
        path: ``coco_instances_results.json``, or the folder that holds it.
        images: what ``image_id`` refers to, by original id.
        categories: what ``category_id`` refers to: by id, or by place where the file holds a 0 that is no id.
        first_class: number of the first category in the file, where classes are counted and not named by their ids.

    Raises:
        InputError: no such file, only the pickled predictions, or what ``read_coco_results`` refuses.
    """
    if path.is_dir():
        if not (path / DETECTRON2_FILE).is_file() and (path / DETECTRON2_PICKLE).is_file():
            raise InputError(
                f"{path}: holds {DETECTRON2_PICKLE} alone, a pickle, which is not opened; run the evaluator with "
                f"masks so that it writes {DETECTRON2_FILE}"
            )
        path = path / DETECTRON2_FILE
    records = load_json(path)
    ids = {category.id for category in categories}
    if first_class is None and 0 not in ids and 0 in _numbers(records):
        first_class = 0
    return results_of(
        path,
        records,
        images,
        categories,
        row_of={original: row for row, original in enumerate(images.original_ids)},
        label_of=_labels(categories, first_class),
    )


def read_ultralytics_results(
    path: Path, images: Images, categories: Sequence[Category], *, first_class: int | None = None
) -> PredictionSet:
    """Read what Ultralytics' segmentation leaves.

    Args:
        path: ``predictions.json``, a folder with it, or a folder of label files (or with ``labels/``).
        images: what the file's image names refer to, by the stems of their file names.
        categories: by place.
        first_class: number of the first category in a json; by default told from the numbers that occur.

    Raises:
        InputError: no such file, images whose stems are not distinct, class numbers that may mean two things, label
            files without scores, or what ``read_coco_results`` refuses.
    """
    if path.is_dir() and (path / ULTRALYTICS_FILE).is_file():
        path = path / ULTRALYTICS_FILE
    if path.is_dir():
        return _read_labels(path / LABELS if (path / LABELS).is_dir() else path, images, categories)
    records = load_json(path)
    first = _first_class(path, _numbers(records), len(categories)) if first_class is None else first_class
    return results_of(
        path, records, images, categories, row_of=_rows_by_stem(images), label_of=_labels(categories, first)
    )


def _read_labels(folder: Path, images: Images, categories: Sequence[Category]) -> PredictionSet:
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise InputError(f"{folder}: holds neither {ULTRALYTICS_FILE} nor label files (STEM.txt)")
    row_of = _rows_by_stem(images)
    records: list[dict[str, Any]] = []
    names: list[str] = []
    for file in files:
        if file.stem not in row_of:
            raise InputError(f"{file}: there is no image {file.stem!r}")
        row = row_of[file.stem]
        size = int(images.widths[row]), int(images.heights[row])
        for number, line in enumerate(_text(file).splitlines(), start=1):
            if line.strip():
                names.append(f"{file}, line {number}")
                records.append({"image_id": file.stem, **_label(line.split(), size, names[-1])})
    return results_of(
        folder,
        records,
        images,
        categories,
        row_of=row_of,
        label_of=_labels(categories, 0),
        name_of=names.__getitem__,
    )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as text ({error})") from None


def _label(words: Sequence[str], size: tuple[int, int], where: str) -> dict[str, Any]:
    """A line of a label file as a record: class, x and y of each point, score."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise InputError(f"{where}: a line holds numbers, found {' '.join(words)[:60]!r}") from None
    if not all(math.isfinite(value) for value in values) or not values[0].is_integer():
        raise InputError(f"{where}: a line is a class, points and a score, all finite numbers")
    if len(values) % 2:
        raise InputError(f"{where}: has no score; write the labels with save_conf=True")
    points = [value * size[k % 2] for k, value in enumerate(values[1:-1])]
    return {"category_id": int(values[0]), "segmentation": [points], "score": values[-1]}


def _rows_by_stem(images: Images) -> Mapping[Any, int]:
    """The row of each file's stem; a stem of digits also as the number that Ultralytics makes of it."""
    found: dict[Any, int] = {}
    for row, (name, file) in enumerate(zip(images.ids, images.file_names, strict=True)):
        stem = PurePosixPath(file).stem if file else str(name)
        for key in [stem, int(stem)] if stem.isdecimal() else [stem]:
            if key in found:
                raise InputError(
                    f"images {images.ids[found[key]]!r} and {name!r} are both called {key!r}: "
                    "these predictions name images by their files' stems alone"
                )
            found[key] = row
    return found


def _numbers(records: Any) -> set[int]:
    """The class numbers that occur; what is no record is refused later, with its name."""
    if not isinstance(records, list):
        return set()
    found = [record.get("category_id") for record in records if isinstance(record, dict)]
    return {number for number in found if isinstance(number, int)}


def _first_class(path: Path, numbers: set[int], n: int) -> int:
    """Whether classes are counted from 0 or from 1."""
    if 0 in numbers:
        return 0
    if n in numbers or not numbers:
        return 1
    raise InputError(
        f"{path}: classes {', '.join(map(str, sorted(numbers)))} of {n} may be counted from 0 or from 1; "
        "say which with --first-class"
    )


def _labels(categories: Sequence[Category], first: int | None) -> dict[int, int]:
    if first is None:
        return {category.id: label for label, category in enumerate(categories)}
    return {first + label: label for label in range(len(categories))}
