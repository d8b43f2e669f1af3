"""The metrics told a second time, by other means, to check what the fast ones say. Slow; for re-checks and tests.

COCO's figures are pycocotools' own. The others are loops over numpy arrays whose overlaps pycocotools counts from run
lengths, so that no kernel of ours that finds overlaps, matches or sums has a part in them.
"""

import contextlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from hubmap_ml.instances import Annotations, BitMasks, PredictionSet
from hubmap_ml.metrics.pairing import Paired, pair_up
from hubmap_ml.spec import InputError


def score_by_reference(metric: str, truth: Annotations, predictions: PredictionSet) -> float:
    """The value of ``metrics.evaluate``, found without its kernels.

    Raises:
        InputError: an unknown metric, and what ``pair_up`` refuses.
    """
    if metric not in _REFERENCES:
        raise InputError(f"there is no metric {metric!r} (there are {', '.join(_REFERENCES)})")
    return _REFERENCES[metric](pair_up(truth, predictions))


def coco_by_pycocotools(
    paired: Paired,
    *,
    iou_thresholds: Sequence[float] | None = None,
    area_ranges: Mapping[str, tuple[float, float]] | None = None,
    max_detections: Sequence[int] = (1, 10, 100),
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What ``COCOeval.accumulate`` computes for masks.

    Args:
        iou_thresholds, area_ranges: pycocotools' own by default.
        max_detections: ascending.

    Returns:
        precision (T, R, K, A, M) at 101 recalls and recall (T, K, A, M), by threshold, category (ascending id),
        area range and detections an image; -1 where there is no truth.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        true, found = COCO(), COCO()
        image_ids = _image_ids(paired)
        true.dataset = _dataset(paired, image_ids, _true_records(paired, image_ids))
        true.createIndex()
        records = _found_records(paired, image_ids)
        if records:
            found = true.loadRes(records)
        else:  # loadRes fails on an empty list
            found.dataset = _dataset(paired, image_ids, [])
            found.createIndex()
        evaluation = COCOeval(true, found, "segm")
        evaluation.params.maxDets = list(max_detections)
        if iou_thresholds is not None:
            evaluation.params.iouThrs = np.asarray(iou_thresholds, dtype=np.float64)
        if area_ranges is not None:
            evaluation.params.areaRng = [list(limits) for limits in area_ranges.values()]
            evaluation.params.areaRngLbl = list(area_ranges)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


def _coco_map(paired: Paired) -> float:
    precision, _ = coco_by_pycocotools(paired)
    known = precision[:, :, :, 0, 2]
    known = known[known > -1]
    return float(np.mean(known)) if len(known) else math.nan


def _average_precision(paired: Paired, iou_threshold: float = 0.6) -> float:
    """``open_images.average_precision``, detection by detection."""
    truth, found = paired.truth, paired.predictions
    places = np.arange(len(found)) if found.file_order is None else found.file_order
    overlaps = [_overlaps(paired, image) for image in range(len(truth.images))]
    images = found.image_rows()
    values = []
    for label in range(len(truth.categories)):
        n_truths = int((~truth.iscrowd & (truth.labels == label)).sum())
        if n_truths == 0:
            continue
        rows = np.flatnonzero(paired.labels == label)
        taken: set[int] = set()
        hits: list[bool] = []
        for row in rows[np.lexsort((places[rows], -found.scores[rows]))].tolist():
            image = int(images[row])
            first = int(truth.offsets[image])
            of_image = slice(first, int(truth.offsets[image + 1]))
            overlap = overlaps[image][row - int(found.offsets[image])]
            crowd = truth.iscrowd[of_image]
            own = np.where((truth.labels[of_image] == label) & ~crowd, overlap, -1.0)
            best = int(np.argmax(own)) if own.size else -1
            if best >= 0 and own[best] >= iou_threshold and first + best not in taken:
                taken.add(first + best)
                hits.append(True)
            elif not (overlap[crowd & (truth.labels[of_image] == label)] >= iou_threshold).any():
                hits.append(False)
        found_so_far = np.cumsum(hits)
        precision = found_so_far / np.arange(1, len(hits) + 1)
        values.append(sum(precision[k:].max() for k in np.flatnonzero(hits).tolist()) / n_truths)
    return float(np.mean(values)) if values else math.nan


def _dsb_map(paired: Paired) -> float:
    """``data_science_bowl.dsb_map``, image by image."""
    truth, found = paired.truth, paired.predictions
    if truth.iscrowd.all():
        return math.nan
    areas = paired.masks.areas()
    scores = []
    for image in range(len(truth.images)):
        overlap = _overlaps(paired, image)[areas[found.offsets[image] : found.offsets[image + 1]] > 0]
        crowd = truth.iscrowd[truth.offsets[image] : truth.offsets[image + 1]]
        of_image = []
        for threshold in (0.5 + 0.05 * k for k in range(10)):
            matches = overlap > round(threshold, 2)
            times = matches[:, ~crowd].sum(axis=0)
            wrong = int((~matches.any(axis=1)).sum() + (times > 1).sum())
            total = int((times == 1).sum() + (times == 0).sum()) + wrong
            of_image.append((times == 1).sum() / total if total else math.nan)
        if not any(map(math.isnan, of_image)):
            scores.append(float(np.mean(of_image)))
    return float(np.mean(scores)) if scores else math.nan


def _dice(paired: Paired) -> float:
    """``dice.dice``, image by image."""
    truth, found = paired.truth, paired.predictions
    values = []
    for label in range(len(truth.categories)):
        if not (~truth.iscrowd & (truth.labels == label)).any():
            continue
        of_images = []
        for image in range(len(truth.images)):
            rows = np.arange(found.offsets[image], found.offsets[image + 1])
            targets = np.arange(truth.offsets[image], truth.offsets[image + 1])
            targets = targets[truth.labels[targets] == label]
            size = int(truth.images.heights[image]), int(truth.images.widths[image])
            predicted = _union(paired.masks, rows[paired.labels[rows] == label], size)
            true = _union(truth.masks.bits, targets[~truth.iscrowd[targets]], size)
            crowd = _union(truth.masks.bits, targets[truth.iscrowd[targets]], size)
            predicted, true = predicted & ~crowd, true & ~crowd
            total = predicted.sum() + true.sum()
            of_images.append(2 * (predicted & true).sum() / total if total else 1.0)
        values.append(float(np.mean(of_images)))
    return float(np.mean(values)) if values else math.nan


def _union(masks: BitMasks, rows: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.bool_]:
    if len(rows) == 0:
        return np.zeros(size, np.bool_)
    return np.asarray(coco_mask.decode(coco_mask.merge(_run_lengths(masks, rows, size)))) > 0


def _overlaps(paired: Paired, image: int) -> NDArray[np.float64]:
    """pycocotools' IoU of an image's predictions with its truths (with a crowd: share of the prediction), (n, m)."""
    truth, found = paired.truth, paired.predictions
    rows = np.arange(found.offsets[image], found.offsets[image + 1])
    targets = np.arange(truth.offsets[image], truth.offsets[image + 1])
    if not len(rows) or not len(targets):
        return np.zeros((len(rows), len(targets)))
    size = int(truth.images.heights[image]), int(truth.images.widths[image])
    return np.asarray(
        coco_mask.iou(
            _run_lengths(paired.masks, rows, size),
            _run_lengths(truth.masks.bits, targets, size),
            truth.iscrowd[targets].astype(np.uint8).tolist(),
        )
    )


def _run_lengths(masks: BitMasks, rows: NDArray[np.int64], size: tuple[int, int]) -> list[dict[str, Any]]:
    return [{"size": list(size), "counts": text} for text in masks.take(rows).to_rle(*size)]


_REFERENCES: Mapping[str, Callable[[Paired], float]] = {
    "ap60": _average_precision,
    "coco_segm": _coco_map,
    "dice": _dice,
    "dsb_map": _dsb_map,
}


def _image_ids(paired: Paired) -> list[int]:
    """1, 2, … in the order of the original ids, which is the order in which pycocotools pools images."""
    originals = paired.truth.images.original_ids
    place = {original: k for k, original in enumerate(sorted(originals), start=1)}
    return [place[original] for original in originals]


def _dataset(paired: Paired, image_ids: list[int], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    images = paired.truth.images
    return {
        "images": [
            {"id": image_ids[row], "height": int(images.heights[row]), "width": int(images.widths[row])}
            for row in range(len(images))
        ],
        "annotations": annotations,
        "categories": [{"id": category.id, "name": category.name} for category in paired.truth.categories],
    }


def _true_records(paired: Paired, image_ids: list[int]) -> list[dict[str, Any]]:
    truth = paired.truth
    rows = truth.image_rows()
    heights, widths = truth.images.heights[rows], truth.images.widths[rows]
    counts = truth.masks.bits.to_rle(heights, widths)
    return [
        {
            "id": k + 1,  # never 0: COCOeval marks a match by the truth's id
            "image_id": image_ids[row],
            "category_id": truth.categories[truth.labels[k]].id,
            "iscrowd": int(truth.iscrowd[k]),
            "area": float(truth.areas[k]),
            "segmentation": {"size": [int(heights[k]), int(widths[k])], "counts": counts[k]},
        }
        for k, row in enumerate(rows)
    ]


def _found_records(paired: Paired, image_ids: list[int]) -> list[dict[str, Any]]:
    predictions, categories = paired.predictions, paired.truth.categories
    rows = predictions.image_rows()
    heights, widths = predictions.heights_of_instances(), predictions.widths_of_instances()
    counts = paired.masks.to_rle(heights, widths)
    return [
        {
            "image_id": image_ids[row],
            "category_id": categories[paired.labels[k]].id,
            "score": float(predictions.scores[k]),
            "segmentation": {"size": [int(heights[k]), int(widths[k])], "counts": counts[k]},
        }
        for k, row in enumerate(rows)
        if paired.labels[k] >= 0
    ]
