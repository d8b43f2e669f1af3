"""What all fusions of members begin and end with: members side by side in order of confidence, and the fused set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion.box_kernels import cluster_by_seed, order_by_confidence
from hubmap_ml.fusion.boxes import as_float64
from hubmap_ml.fusion.cluster_masks import MaskFusion, cluster_masks
from hubmap_ml.fusion.clusters import Clusters, fused_set, group
from hubmap_ml.fusion.mask_clusters import cluster_by_masks
from hubmap_ml.fusion.suppression import Geometry, score_order
from hubmap_ml.instances import PredictionSet
from hubmap_ml.spec import InputError

WeightScale = Literal["given", "greatest", "sum"]
"""What a member's weight is divided by before it meets the scores: nothing, the greatest weight, or their sum."""


@dataclass(frozen=True)
class Stack:
    """Members side by side.

    Attributes:
        predictions: ``PredictionSet.stack_sources`` of the members, N instances.
        boxes: float64 (N, 4) divided by the image's size, see ``unit_boxes``.
        weights: float64 (K,) of the members, as given.
        confidences: float64 (N,) score times scaled weight.
        order: rows that take part, by descending confidence in each image; ties keep the order of members, and within
            a member that of its instances.
        starts: (M + 1,) where each image begins in ``order``.
    """

    predictions: PredictionSet
    boxes: NDArray[np.float64]
    weights: NDArray[np.float64]
    confidences: NDArray[np.float64]
    order: NDArray[np.int64]
    starts: NDArray[np.int64]


def stack_members(
    members: Sequence[PredictionSet],
    *,
    weights: Sequence[float] | None,
    names: Sequence[str] | None,
    skip_score: float,
    scale: WeightScale = "given",
) -> Stack:
    """Put members side by side for a fusion.

    Args:
        members: sets over the same images, in any order of images; instances in any order.
        weights: one > 0 for each member; equal by default.
        names: of the members, for ``sources``; ``member_0`` … by default.
        skip_score: instances with a lower score (compared in float32) take no part, nor do those with a score of 0 and
            boxes without area inside their image.
        scale: see ``WeightScale``; weights that were not given are 1 each, whatever the scale.

    Raises:
        InputError: no members, weights that do not fit them, other images or categories.
    """
    if not members:
        raise InputError("there is no member to fuse; give at least one set of predictions")
    if weights is not None and (
        len(weights) != len(members) or not all(0 < w < float("inf") for w in weights)
    ):
        raise InputError(
            f"fusion weights {list(weights)} do not fit {len(members)} members: one number above 0 each"
        )
    named = [f"member_{k}" for k in range(len(members))] if names is None else list(names)
    stacked = PredictionSet.stack_sources(members, named)
    weight_of = np.ones(len(members)) if weights is None else np.asarray(weights, np.float64)
    divisor = {"given": 1.0, "greatest": weight_of.max(), "sum": weight_of.sum()}[scale]
    voice = weight_of if weights is None else weight_of / divisor
    confidences = stacked.scores.astype(np.float64) * voice[stacked.source]
    boxes = unit_boxes(stacked)
    solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    usable = solid & (stacked.scores >= np.float32(skip_score)) & (confidences > 0)
    order, starts = order_by_confidence(confidences, usable, stacked.offsets)
    return Stack(stacked, boxes, weight_of, confidences, order, starts)


def clusters_by_seed(stack: Stack, *, iou_threshold: float, by: Geometry) -> Clusters:
    """Cluster around the most confident instances: each joins the seed that it overlaps best, or is one itself."""
    if by == "mask":
        found = cluster_by_masks(stack.predictions, stack.order, stack.starts, iou_threshold)
    else:
        labels = stack.predictions.labels.astype(np.int64)
        found = cluster_by_seed(
            stack.boxes, labels, labels, stack.order, stack.starts, 0, float(iou_threshold)
        )
    return group(*found, stack.order)


def fused(
    stack: Stack,
    clusters: Clusters,
    *,
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    mask_weights: NDArray[np.float64],
    masks: MaskFusion,
    source: str,
) -> PredictionSet:
    """Return the fused set: a cluster an instance, by descending score.

    Args:
        stack: the members.
        clusters: C clusters.
        boxes, scores: (C, 4) divided by the image's size, and (C,).
        mask_weights: (N,) > 0, the weight of each instance of the stack in the mean of its cluster's masks.
        masks: how masks become one.
        source: the name of what fused.
    """
    scores32 = scores.astype(np.float32)
    by_score = score_order(scores32, clusters.image_offsets)
    clusters = clusters.take(by_score)
    predictions = stack.predictions
    heights = predictions.heights_of_instances()[clusters.seeds]
    widths = predictions.widths_of_instances()[clusters.seeds]
    pixels = (boxes[by_score] * np.stack([widths, heights, widths, heights], axis=1)).astype(np.float32)
    made = None
    if predictions.masks is not None:
        made = cluster_masks(
            predictions, predictions.masks, clusters, weights=mask_weights[clusters.rows], boxes=pixels, how=masks
        )  # fmt: skip
    return fused_set(
        predictions, clusters, boxes=pixels, scores=scores32[by_score], masks=made, source=source,
        properties=predictions.properties,
    )  # fmt: skip


def unit_boxes(predictions: PredictionSet) -> NDArray[np.float64]:
    """Return boxes divided by their image's size, float64 (N, 4), in [0, 1]: turned right way round and clipped."""
    widths, heights = predictions.images.widths, predictions.images.heights
    sizes = np.stack([widths, heights, widths, heights], axis=1).astype(np.float64)
    boxes = as_float64(predictions.boxes) / np.repeat(sizes, np.diff(predictions.offsets), axis=0)
    out = np.empty_like(boxes)
    np.minimum(boxes[:, :2], boxes[:, 2:], out=out[:, :2])
    np.maximum(boxes[:, :2], boxes[:, 2:], out=out[:, 2:])
    return np.clip(out, 0.0, 1.0, out=out)
