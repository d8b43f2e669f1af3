"""How each metric judges the detections of a set once and for all images; what it scores with every image once is the
metric itself.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics.coco import RECALLS, CocoOptions, coco_rank, image_order, overlap_floor
from hubmap_ml.metrics.data_science_bowl import dsb_map
from hubmap_ml.metrics.dice import dice
from hubmap_ml.metrics.judged import EVERY_RECALL, ImageScores, Judged, RankedDetections
from hubmap_ml.metrics.matching import coco_candidates, coco_matches
from hubmap_ml.metrics.open_images import OpenImagesMatcher, ranking
from hubmap_ml.metrics.overlaps import overlaps_with_truth
from hubmap_ml.metrics.pairing import pair_up
from hubmap_ml.spec import InputError

AP60_IOU = 0.6


def judge(metric: str, truth: Annotations, predictions: PredictionSet) -> Judged:
    """Judge every detection as the metric does.

    Images are those that both know, in the order of the predictions.

    Args:
        metric: as ``evaluate`` names it.

    Raises:
        InputError: an unknown metric, and what the metric refuses.
    """
    if metric not in _JUDGES:
        raise InputError(f"there is no metric {metric!r} (there are {', '.join(_JUDGES)})")
    return _JUDGES[metric](truth, predictions)


def judge_by_best_truth(
    truth: Annotations, predictions: PredictionSet, *, iou_threshold: float = AP60_IOU
) -> RankedDetections:
    """Judge every detection by the OpenImages rule, as ``open_images.average_precision`` does; a curve a category."""
    paired = pair_up(truth, predictions)
    truth, predictions = paired.truth, paired.predictions
    overlaps = overlaps_with_truth(
        paired.masks, predictions.offsets, truth, floor=iou_threshold, labels=paired.labels
    )
    order = ranking(predictions)
    matcher = OpenImagesMatcher(iou_threshold, truth, overlaps, paired.labels)
    hit, counts = matcher.hits(np.arange(len(predictions), dtype=np.int32), order)
    return ranked_by_label(
        paired.labels[order][counts], predictions.image_rows()[order][counts], hit[counts], truths_by_image(truth)
    )  # fmt: skip


def judge_by_coco(truth: Annotations, predictions: PredictionSet) -> RankedDetections:
    """Judge every detection by COCO's rule, as ``coco.coco_segm`` does; a curve for each category and IoU threshold."""
    paired = pair_up(truth, predictions)
    truth, options = paired.truth, CocoOptions()
    order = image_order(paired.predictions.scores, paired.predictions.offsets)
    found, labels = paired.predictions.take(order), paired.labels[order].astype(np.int32)
    overlaps = overlaps_with_truth(
        paired.masks.take(order), found.offsets, truth, floor=overlap_floor(options), labels=paired.labels[order]
    )  # fmt: skip
    thresholds = np.asarray(options.iou_thresholds, np.float64)
    truths, reach = coco_candidates(overlaps.starts, overlaps.truths, overlaps.values, thresholds)
    images = found.image_rows().astype(np.int32)
    crowds = np.where(truth.iscrowd, ~np.uint64(0), np.uint64(0))
    rows = np.arange(len(found), dtype=np.int32)
    places, hit, gone = coco_matches(
        rows, images, labels, overlaps.starts, truths, reach, crowds, truth.iscrowd, len(truth.categories),
        options.max_detections[-1],
    )  # fmt: skip
    by_score = np.argsort(coco_rank(found))
    by_score = by_score[places[by_score] >= 0]
    counts = truths_by_image(truth)
    parts = []
    for bit in range(len(thresholds)):
        mask = np.uint64(1) << np.uint64(bit)
        kept = by_score[(gone[by_score] & mask) == 0]
        parts.append(ranked_by_label(labels[kept], images[kept], (hit[kept] & mask) != 0, counts))
    return RankedDetections(
        tuple(images for part in parts for images in part.images),
        tuple(hits for part in parts for hits in part.hits),
        np.concatenate([part.truths for part in parts]),
        RECALLS,
    )


def judge_by_image(truth: Annotations, predictions: PredictionSet) -> ImageScores:
    """Score every image by the Data Science Bowl's rule, as ``dsb_map`` does."""
    paired = pair_up(truth, predictions)
    scores = dsb_map(truth, predictions).per_image
    return ImageScores(scores[None], truths_by_image(paired.truth).sum(axis=0)[None])


def judge_by_pixels(truth: Annotations, predictions: PredictionSet) -> ImageScores:
    """Score every image and category by its pixels, as ``dice`` does."""
    paired = pair_up(truth, predictions)
    return ImageScores(
        np.ascontiguousarray(dice(truth, predictions).per_image.T), truths_by_image(paired.truth)
    )


def ranked_by_label(
    labels: NDArray[Any],
    images: NDArray[Any],
    hits: NDArray[np.bool_],
    truths: NDArray[np.int64],
) -> RankedDetections:
    """Part detections (D,) by descending score into a curve for each category.

    Args:
        labels, images, hits: of the detections that count.
        truths: int64 (categories, M).
    """
    of_label = [labels == label for label in range(len(truths))]
    rows = images.astype(np.int32)
    return RankedDetections(
        tuple(rows[chosen] for chosen in of_label),
        tuple(hits[chosen] for chosen in of_label),
        truths,
        EVERY_RECALL,
    )


def truths_by_image(truth: Annotations, chosen: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Count truths that can be found (crowds are none), or only chosen ones: int64 (categories, M)."""
    out = np.zeros((len(truth.categories), len(truth.images)), np.int64)
    kept = ~truth.iscrowd if chosen is None else ~truth.iscrowd & chosen
    np.add.at(out, (truth.labels[kept], truth.image_rows()[kept]), 1)
    return out


_JUDGES: Mapping[str, Callable[[Annotations, PredictionSet], Judged]] = {
    "ap60": judge_by_best_truth,
    "coco_segm": judge_by_coco,
    "dice": judge_by_pixels,
    "dsb_map": judge_by_image,
}
