"""Weighted boxes fusion (Solovyev, Wang, Gabruseva 2021) of differently trained members, with masks.

Boxes and scores are those of ``ensemble_boxes.weighted_boxes_fusion`` 1.0.9, its rounding to float32 included. What
that library does not have is added here: the members of each cluster, a mask for it, and clusters by mask.

One thing is decided where the library leaves it open: equal confidences keep the order of members, and within a member
that of its instances (the library sorts with an unstable sort).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion.box_kernels import cluster_weighted
from hubmap_ml.fusion.cluster_masks import MEAN, MaskFusion
from hubmap_ml.fusion.clusters import Clusters, group
from hubmap_ml.fusion.stacking import Stack, clusters_by_seed, fused, stack_members
from hubmap_ml.fusion.suppression import Geometry
from hubmap_ml.instances import PredictionSet
from hubmap_ml.spec import InputError

ConfidenceType = Literal["avg", "max", "box_and_model_avg", "absent_model_aware_avg"]
CONFIDENCE_TYPES: tuple[ConfidenceType, ...] = ("avg", "max", "box_and_model_avg", "absent_model_aware_avg")


def weighted_boxes_fusion(
    members: Sequence[PredictionSet],
    *,
    weights: Sequence[float] | None = None,
    iou_threshold: float = 0.55,
    skip_score: float = 0.0,
    conf_type: ConfidenceType = "avg",
    by: Geometry = "box",
    masks: MaskFusion = MEAN,
    names: Sequence[str] | None = None,
) -> PredictionSet:
    """Fuse members into one opinion on each image.

    Boxes are clustered around their running mean, weighted by confidence = score times member weight; by mask they are
    clustered around the most confident mask instead, and the box is the same mean. With K members, W the sum of their
    weights, and a cluster of n boxes with confidences c and weights w, its score is

    - ``avg``: mean(c) * min(K, n) / W;
    - ``max``: max(c) / max(all weights);
    - ``box_and_model_avg``: sum(c) / sum(w) * (weights of the members in it) / W;
    - ``absent_model_aware_avg``: sum(c) / (sum(w) + weights of the members that are not in it).

    Args:
        members: sets over the same images, in any order of images; instances in any order.
        weights: one > 0 for each member; equal by default.
        iou_threshold: in (0, 1); an instance joins a cluster that it overlaps by *more* than this.
        skip_score: instances with a lower score (compared in float32) stay out, as do those with a score of 0, and
            boxes without area inside their image.
        conf_type: see above.
        by: what overlap is measured by.
        masks: how the masks of a cluster become one; the mean is weighted by confidence, as the box.
        names: of the members, for ``sources``; ``member_0`` … by default.

    Returns:
        A set over the first member's images, instances by descending score. ``member_rows`` are rows of
        ``PredictionSet.stack_sources(members, names)``, in the order in which they joined.

    Raises:
        InputError: no members, other images or categories, weights or thresholds out of range, no masks to compare.
    """
    if conf_type not in CONFIDENCE_TYPES:
        raise InputError(f"unknown confidence type {conf_type!r}; allowed: {', '.join(CONFIDENCE_TYPES)}")
    check_threshold(iou_threshold)
    stack = stack_members(members, weights=weights, names=names, skip_score=skip_score)
    if by == "mask":
        clusters = clusters_by_seed(stack, iou_threshold=iou_threshold, by=by)
        confidences = stack.confidences[clusters.rows]
        sums = clusters.total(confidences[:, None] * stack.boxes[clusters.rows])
        boxes = sums / clusters.total(confidences)[:, None]
    else:
        cluster, counts, boxes = cluster_weighted(
            stack.boxes, stack.predictions.labels.astype(np.int64), stack.confidences, stack.order, stack.starts,
            float(iou_threshold),
        )  # fmt: skip
        clusters = group(cluster, counts, stack.order)
    return fused(
        stack, clusters, boxes=boxes, scores=_scores(stack, clusters, conf_type), mask_weights=stack.confidences,
        masks=masks, source="wbf",
    )  # fmt: skip


def check_threshold(iou_threshold: float) -> None:
    """Raise InputError for an IoU threshold that nothing or everything would pass."""
    if not 0 < iou_threshold < 1:
        raise InputError(f"fusion needs an IoU threshold between 0 and 1, not {iou_threshold}")


def _scores(stack: Stack, clusters: Clusters, conf_type: ConfidenceType) -> NDArray[np.float64]:
    """Return the score of each cluster, (C,)."""
    confidences = stack.confidences[clusters.rows]
    sizes = np.diff(clusters.offsets)
    of_all = float(stack.weights.sum())
    if conf_type == "max":
        highest = np.maximum.reduceat(confidences, clusters.offsets[:-1]) if len(clusters) else confidences
        return np.asarray(_rounded(highest, sizes) / float(stack.weights.max()))
    mean = _rounded(clusters.total(confidences) / sizes, sizes)
    if conf_type == "avg":
        return np.asarray(mean * np.minimum(len(stack.weights), sizes) / of_all)
    source = stack.predictions.source[clusters.rows]
    of_boxes = clusters.total(stack.weights[source])
    present = _weights_of_members(clusters, source, stack.weights)
    if conf_type == "box_and_model_avg":
        return np.asarray(mean * sizes / of_boxes * present / of_all)
    return np.asarray(mean * sizes / (of_boxes + (of_all - present)))


def _rounded(values: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Round to float32 the values of clusters of several boxes, as the library keeps them."""
    return np.where(sizes > 1, values.astype(np.float32).astype(np.float64), values)


def _weights_of_members(
    clusters: Clusters, source: NDArray[np.int16], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the sum of the weights of the members that have a box in each cluster, each counted once."""
    seen = np.unique(clusters.of_entries * len(weights) + source)
    sums = np.bincount(seen // len(weights), weights[seen % len(weights)], minlength=len(clusters))
    return sums.astype(np.float64)
