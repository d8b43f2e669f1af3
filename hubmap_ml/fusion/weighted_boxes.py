"""Weighted boxes fusion (Solovyev, Wang, Gabruseva 2021) of differently trained members, with masks.

Boxes and scores are those of ``ensemble_boxes.weighted_boxes_fusion`` 1.0.9, its rounding to float32 included. What
that library does not have is added here: the members of each cluster, and a mask for it.

One thing is decided where the library leaves it open: equal confidences keep the order of members, and within a member
that of its instances (the library sorts with an unstable sort).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion.box_kernels import cluster_weighted
from hubmap_ml.fusion.boxes import as_float64
from hubmap_ml.fusion.clusters import fused_set, group
from hubmap_ml.fusion.mean_masks import mean_pixel_masks
from hubmap_ml.fusion.suppression import score_order
from hubmap_ml.instances import Masks, PredictionSet
from hubmap_ml.spec import InputError

ConfidenceType = Literal["avg"]
CONFIDENCE_TYPES: tuple[ConfidenceType, ...] = ("avg",)


def weighted_boxes_fusion(
    members: Sequence[PredictionSet],
    *,
    weights: Sequence[float] | None = None,
    iou_threshold: float = 0.55,
    skip_score: float = 0.0,
    conf_type: ConfidenceType = "avg",
    names: Sequence[str] | None = None,
) -> PredictionSet:
    """Fuse members into one opinion on each image.

    Boxes are clustered around their running mean, weighted by score times member weight; a cluster's confidence is the
    mean of these products, times min(members, boxes in it) / sum of the weights. Its mask is the mean of its members'
    masks with the same weights as its box, at pixel resolution (see ``mean_pixel_masks``).

    Args:
        members: sets over the same images, in any order of images; instances in any order.
        weights: one > 0 for each member; equal by default.
        iou_threshold: in (0, 1); a box joins a cluster that it overlaps by *more* than this.
        skip_score: instances with a lower score (compared in float32) stay out, as do those with a score of 0, and
            boxes without area inside their image.
        conf_type: only ``"avg"``.
        names: of the members, for ``sources``; ``member_0`` … by default.

    Returns:
        A set over the first member's images, instances by descending score. ``member_rows`` are rows of
        ``PredictionSet.stack_sources(members, names)``, in the order in which they joined.

    Raises:
        InputError: no members, other images or categories, weights or thresholds out of range.
    """
    _check(members, weights, iou_threshold, conf_type)
    named = [f"member_{k}" for k in range(len(members))] if names is None else list(names)
    stacked = PredictionSet.stack_sources(members, named)
    weight_of = np.ones(len(members)) if weights is None else np.asarray(weights, np.float64)
    confidences = stacked.scores.astype(np.float64) * weight_of[stacked.source]
    boxes = unit_boxes(stacked)
    solid = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) != 0
    usable = solid & (stacked.scores >= np.float32(skip_score)) & (confidences > 0)
    image = stacked.image_rows()
    order = np.lexsort((np.arange(len(stacked)), -confidences, image))
    order = order[usable[order]]
    starts = np.searchsorted(image[order], np.arange(len(stacked.images) + 1)).astype(np.int64)
    cluster, counts, means, mean_confidences, sizes = cluster_weighted(
        boxes, stacked.labels.astype(np.int64), confidences, order, starts, float(iou_threshold)
    )
    clusters = group(cluster, counts, order)
    scores = (mean_confidences * np.minimum(len(members), sizes) / weight_of.sum()).astype(np.float32)
    by_score = score_order(scores, clusters.image_offsets)
    clusters = clusters.take(by_score)
    heights = stacked.heights_of_instances()[clusters.seeds]
    widths = stacked.widths_of_instances()[clusters.seeds]
    masks = None
    if stacked.masks is not None:
        soft = mean_pixel_masks(stacked.masks, clusters, confidences[clusters.rows], heights, widths)
        masks = Masks.from_soft(soft)
    size = np.stack([widths, heights, widths, heights], axis=1)
    return fused_set(
        stacked, clusters, boxes=(means[by_score] * size).astype(np.float32), scores=scores[by_score], masks=masks,
        source="wbf", properties=stacked.properties,
    )  # fmt: skip


def unit_boxes(predictions: PredictionSet) -> NDArray[np.float64]:
    """Return boxes divided by their image's size, float64 (N, 4), in [0, 1]: turned right way round and clipped."""
    widths, heights = predictions.widths_of_instances(), predictions.heights_of_instances()
    boxes = as_float64(predictions.boxes) / np.stack([widths, heights, widths, heights], axis=1)
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    return np.ascontiguousarray(np.clip(np.concatenate([low, high], axis=1), 0.0, 1.0))


def _check(
    members: Sequence[PredictionSet], weights: Sequence[float] | None, iou_threshold: float, conf_type: str
) -> None:
    if not members:
        raise InputError("there is no member to fuse; give at least one set of predictions")
    if conf_type not in CONFIDENCE_TYPES:
        raise InputError(f"unknown confidence type {conf_type!r}; allowed: {', '.join(CONFIDENCE_TYPES)}")
    if not 0 < iou_threshold < 1:
        raise InputError(f"fusion needs an IoU threshold between 0 and 1, not {iou_threshold}")
    if weights is not None and (
        len(weights) != len(members) or not all(0 < w < float("inf") for w in weights)
    ):
        raise InputError(
            f"fusion weights {list(weights)} do not fit {len(members)} members: one number above 0 each"
        )
