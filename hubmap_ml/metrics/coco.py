"""COCO's twelve mask figures, computed by pycocotools itself (``COCOeval`` with ``iouType="segm"``)."""

import contextlib
import io
from typing import Any

import numpy as np

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics.pairing import Paired, pair_up
from hubmap_ml.spec import InputError


def coco_segm(
    truth: Annotations, predictions: PredictionSet, *, max_detections: int = 100
) -> dict[str, float]:
    """COCO's AP and AR for masks.

    Images are those that both know; categories are matched by name. Soft masks are cut at 0.5. Equal scores
    keep the
    order inside an image, then of the original image ids: what pycocotools makes of the written files.

    Args:
        max_detections: of an image and category, best scores first, for every figure but ``segm_AR_1`` and
            ``segm_AR_10``.

    Returns:
        ``segm_mAP`` (IoU 0.50 to 0.95), ``segm_mAP_50``, ``segm_mAP_75``, ``segm_mAP_s``, ``_m``, ``_l`` (by
        COCO's area ranges), ``segm_AR_1``, ``segm_AR_10``, ``segm_AR_100`` (or whatever ``max_detections``
        is), ``segm_AR_s``, ``_m``, ``_l``; -1 where no truth of that size exists, as pycocotools says it.

    Raises:
        InputError: ``max_detections`` under 1, and what ``pair_up`` refuses.
    """
    if max_detections < 1:
        raise InputError(f"max_detections {max_detections}: must be at least 1")
    paired = pair_up(truth, predictions)
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
        evaluation.params.maxDets = [min(1, max_detections), min(10, max_detections), max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    return _figures(evaluation, max_detections)


def _figures(evaluation: Any, max_detections: int) -> dict[str, float]:
    """``COCOeval.summarize``, which gives its first figure for 100 detections only and prints."""
    precision, recall = (
        evaluation.eval["precision"],
        evaluation.eval["recall"],
    )  # (T, R, K, A, M), (T, K, A, M)
    thresholds = evaluation.params.iouThrs
    areas = {name: k for k, name in enumerate(evaluation.params.areaRngLbl)}

    def mean(values: Any) -> float:
        known = values[values > -1]
        return float(np.mean(known)) if len(known) else -1.0

    def ap(area: str, iou: float | None = None) -> float:
        chosen = precision if iou is None else precision[np.where(iou == thresholds)[0]]
        return mean(chosen[:, :, :, [areas[area]], [2]])

    def ar(area: str, place: int) -> float:
        return mean(recall[:, :, [areas[area]], [place]])

    return {
        "segm_mAP": ap("all"),
        "segm_mAP_50": ap("all", 0.5),
        "segm_mAP_75": ap("all", 0.75),
        "segm_mAP_s": ap("small"),
        "segm_mAP_m": ap("medium"),
        "segm_mAP_l": ap("large"),
        "segm_AR_1": ar("all", 0),
        "segm_AR_10": ar("all", 1),
        f"segm_AR_{max_detections}": ar("all", 2),
        "segm_AR_s": ar("small", 2),
        "segm_AR_m": ar("medium", 2),
        "segm_AR_l": ar("large", 2),
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
