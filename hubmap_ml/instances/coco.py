"""COCO json: annotations and results, ours and other people's.

The format is https://cocodataset.org/#format-data and #format-results. Our files write every mask as
compressed run lengths and keep what COCO has no place for (data set, slide, group, split, fold, position) as
extra keys of an image; other people's may hold polygons, plain run lengths, or the annotations as a mapping
from id to record.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hubmap_ml.instances.annotations import Annotations
from hubmap_ml.instances.coco_records import (
    box_of,
    field,
    image_record,
    load_json,
    number,
    places,
    read_categories,
    read_images,
    read_masks,
    records_of,
    xywh,
)
from hubmap_ml.instances.images import Category, Images
from hubmap_ml.instances.masks import Masks
from hubmap_ml.instances.on_disk import written_beside
from hubmap_ml.instances.predictions import PredictionSet
from hubmap_ml.instances.ragged import offsets_of
from hubmap_ml.spec import InputError


def read_coco(path: Path | str, categories: Sequence[str] | None = None) -> Annotations:
    """Read a COCO annotation file.

    Args:
        path: the json.
        categories: names of the categories to keep, in this order; by default all, in the file's order.

    Returns:
        Annotations sorted by image, images in the file's order, an image's annotations too. ``bbox``,
        ``area`` and ``iscrowd`` are the file's; where missing, they come from the pixels (crowd: no).

    Raises:
        InputError: no such file, no json, a missing or wrong record (named), an unknown category name.
    """
    path = Path(path)
    data = _object(path, ("images", "annotations", "categories"))
    found = read_categories(path, records_of(path, data, "categories"))
    images = read_images(path, records_of(path, data, "images"))
    records = records_of(path, data, "annotations")
    label_of = {category.id: label for label, category in enumerate(found)}
    row_of = {original: row for row, original in enumerate(images.original_ids)}

    def name_of(k: int) -> str:
        return f"{path}: annotation {records[k].get('id', k)}"

    rows, labels = places(records, row_of, label_of, name_of)
    masks = read_masks(
        [field(r, "segmentation", name_of(k)) for k, r in enumerate(records)], rows, images, name_of
    )
    tight, areas = masks.tight_boxes(), masks.areas().astype(float)
    boxes = np.array(
        [box_of(r["bbox"], name_of(k)) if "bbox" in r else tight[k] for k, r in enumerate(records)]
    )
    ids = [number(r.get("id", k + 1), "id", name_of(k), whole=True) for k, r in enumerate(records)]
    if len(set(ids)) != len(ids):
        raise InputError(f"{path}: two annotations have the same id; give each its own")
    annotations = Annotations.from_bits(
        images,
        found,
        rows,
        masks,
        labels,
        iscrowd=np.array([bool(r.get("iscrowd", 0)) for r in records], dtype=np.bool_),
        boxes=boxes.reshape(-1, 4),
        areas=np.array(
            [
                number(r["area"], "area", name_of(k)) if "area" in r else areas[k]
                for k, r in enumerate(records)
            ],
            dtype=np.float64,
        ),
        ids=np.array(ids, dtype=np.int64),
    )
    if categories is None:
        return annotations
    try:
        return annotations.with_categories(categories)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_coco_images(path: Path) -> tuple[Images, tuple[Category, ...]]:
    """Read the images and categories of a COCO file; its annotations, where it has any, are not looked at.

    Raises:
        InputError: as ``read_coco``.
    """
    data = _object(path, ("images", "categories"))
    return read_images(path, records_of(path, data, "images")), read_categories(
        path, records_of(path, data, "categories")
    )


def _object(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    data = load_json(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: a COCO file is an object with images, annotations and categories")
    for key in keys:
        if key not in data:
            raise InputError(f"{path}: no {key!r} (found {', '.join(map(str, list(data)[:8]))})")
    return data


def write_coco(path: Path | str, annotations: Annotations, *, info: Mapping[str, Any] | None = None) -> None:
    """Write annotations as COCO json; ``read_coco`` gives them back. ``info`` is COCO's: where they come from."""
    images = annotations.images
    rows = annotations.image_rows()
    counts = annotations.masks.bits.to_rle(images.heights[rows], images.widths[rows])
    records = []
    for k, row in enumerate(rows):
        size = [int(images.heights[row]), int(images.widths[row])]
        records.append(
            {
                "id": int(annotations.ids[k]),
                "image_id": images.original_ids[row],
                "category_id": annotations.categories[annotations.labels[k]].id,
                "bbox": xywh(annotations.boxes[k]),
                "area": float(annotations.areas[k]),
                "iscrowd": int(annotations.iscrowd[k]),
                "segmentation": {"size": size, "counts": counts[k]},
            }
        )
    data = {
        **({} if info is None else {"info": dict(info)}),
        "images": [image_record(images, row) for row in range(len(images))],
        "annotations": records,
        "categories": [{"id": category.id, "name": category.name} for category in annotations.categories],
    }
    with written_beside(Path(path)) as partial:
        partial.write_text(json.dumps(data), encoding="utf-8")


def read_coco_results(path: Path | str, images: Images, categories: Sequence[Category]) -> PredictionSet:
    """Read a COCO results file (a list of image_id, category_id, segmentation, score).

    Args:
        images: what ``image_id`` refers to, by original id; images without results stay rows.
        categories: what ``category_id`` refers to.

    Returns:
        Predictions with bit masks, in the order of the images and of the file inside an image (``file_order``
        keeps the file's own where that differs). Scores become float32.

    Raises:
        InputError: no such file, no json, a wrong record (named by its place in the list).
    """
    path = Path(path)
    return results_of(
        path,
        load_json(path),
        images,
        categories,
        row_of={original: row for row, original in enumerate(images.original_ids)},
        label_of={category.id: label for label, category in enumerate(categories)},
    )


def results_of(
    path: Path,
    records: Any,
    images: Images,
    categories: Sequence[Category],
    *,
    row_of: Mapping[Any, int],
    label_of: Mapping[int, int],
    name_of: Callable[[int], str] | None = None,
) -> PredictionSet:
    """Predictions of the records of a results file; ``read_coco_results`` says which and how.

    Args:
        path: of the file, for messages.
        records: what it holds.
        row_of: the row in ``images`` that each ``image_id`` means.
        label_of: the place in ``categories`` that each ``category_id`` means.
        name_of: what to call each record in messages; by default its place in the list.

    Raises:
        InputError: as ``read_coco_results``.
    """
    if not isinstance(records, list):
        raise InputError(
            f"{path}: COCO results are a list of records with image_id, category_id, segmentation, score"
        )

    name_of = name_of or (lambda k: f"{path}: result {k}")
    rows, labels = places(records, row_of, label_of, name_of)
    masks = read_masks(
        [field(r, "segmentation", name_of(k)) for k, r in enumerate(records)], rows, images, name_of
    )
    scores = [number(field(r, "score", name_of(k)), "score", name_of(k)) for k, r in enumerate(records)]
    tight = masks.tight_boxes()
    boxes = np.array(
        [box_of(r["bbox"], name_of(k)) if "bbox" in r else tight[k] for k, r in enumerate(records)],
        dtype=np.float32,
    ).reshape(-1, 4)
    order = np.argsort(rows, kind="stable")
    return PredictionSet(
        images=images,
        categories=tuple(categories),
        offsets=offsets_of(np.bincount(rows, minlength=len(images))),
        boxes=boxes[order],
        scores=np.array(scores, dtype=np.float32)[order],
        labels=labels[order],
        source=np.zeros(len(records), dtype=np.int16),
        masks=Masks.from_bits(masks.take(order)),
        file_order=None if np.all(np.diff(rows) >= 0) else order,
    )


def write_coco_results(path: Path | str, predictions: PredictionSet) -> None:
    """Write predictions with decided masks as COCO results, in the set's order.

    Raises:
        InputError: a soft mask, or no masks: binarise first, at a threshold that only you can know.
    """
    images = predictions.images
    if predictions.masks is None or not predictions.masks.all_bits:
        raise InputError(f"{path}: COCO results need decided masks; binarise the predictions first")
    rows = predictions.image_rows()
    counts = predictions.masks.bits.to_rle(images.heights[rows], images.widths[rows])
    records = []
    for k, row in enumerate(rows):
        size = [int(images.heights[row]), int(images.widths[row])]
        records.append(
            {
                "image_id": images.original_ids[row],
                "category_id": predictions.categories[predictions.labels[k]].id,
                "bbox": xywh(predictions.boxes[k]),
                "score": float(predictions.scores[k]),
                "segmentation": {"size": size, "counts": counts[k]},
            }
        )
    with written_beside(Path(path)) as partial:
        partial.write_text(json.dumps(records), encoding="utf-8")
