"""Non-maximum suppression of members together, and non-maximum weighted, its kin that averages what it suppresses.

Boxes and scores are those of ``ensemble_boxes.nms`` and ``ensemble_boxes.non_maximum_weighted`` 1.0.9 (the latter after
Zhou et al., "CAD: Scale Invariant Framework for Real-Time Object Detection", 2017). Clusters, masks and overlap by mask
are added; equal confidences keep the order of members, and within a member that of its instances.

Soft suppression keeps every box and has no clusters: it is not here.
"""

from collections.abc import Sequence

import numpy as np

from hubmap_ml.fusion.cluster_masks import BEST, MEAN, MaskFusion
from hubmap_ml.fusion.stacking import clusters_by_seed, fused, stack_members
from hubmap_ml.fusion.suppression import Geometry
from hubmap_ml.fusion.weighted_boxes import check_threshold
from hubmap_ml.instances import PredictionSet


def non_maximum_weighted(
    members: Sequence[PredictionSet],
    *,
    weights: Sequence[float] | None = None,
    iou_threshold: float = 0.55,
    skip_score: float = 0.0,
    by: Geometry = "box",
    masks: MaskFusion = MEAN,
    names: Sequence[str] | None = None,
) -> PredictionSet:
    """Fuse members: each cluster's score is its best one's, its box a mean.

    Instances are taken by descending confidence = score times weight / greatest weight; each joins the seed that it
    overlaps best, or becomes one. The box (and the mean mask) of a cluster is the mean of its members, weighted by
    confidence times the IoU of their box with the seed's.

    Args, Returns, Raises: as for ``weighted_boxes_fusion``.
    """
    check_threshold(iou_threshold)
    stack = stack_members(members, weights=weights, names=names, skip_score=skip_score, scale="greatest")
    clusters = clusters_by_seed(stack, iou_threshold=iou_threshold, by=by)
    boxes, rows = stack.boxes, clusters.rows
    seeds = boxes[clusters.seeds][clusters.of_entries]
    sides = np.minimum(boxes[rows, 2:], seeds[:, 2:]) - np.maximum(boxes[rows, :2], seeds[:, :2])
    shared = np.maximum(sides, 0.0).prod(axis=1)
    areas = [(one[:, 2:] - one[:, :2]).prod(axis=1) for one in (boxes[rows], seeds)]
    voices = stack.confidences[rows] * shared / (areas[0] + areas[1] - shared)
    means = clusters.total(voices[:, None] * boxes[rows]) / clusters.total(voices)[:, None]
    of_row = np.zeros(len(stack.predictions))
    of_row[rows] = voices
    return fused(
        stack, clusters, boxes=means, scores=stack.confidences[clusters.seeds], mask_weights=of_row, masks=masks,
        source="nmw",
    )  # fmt: skip


def suppression_of_members(
    members: Sequence[PredictionSet],
    *,
    weights: Sequence[float] | None = None,
    iou_threshold: float = 0.5,
    skip_score: float = 0.0,
    by: Geometry = "box",
    masks: MaskFusion = BEST,
    names: Sequence[str] | None = None,
) -> PredictionSet:
    """Keep of all members' instances those that no kept, more confident one overlaps too much.

    Confidence is the score; where weights are given, the score times weight / sum of the weights (so that equal weights
    are not the same as none). A cluster is a kept instance and those that it suppresses (each counted to the kept one
    that it overlaps best); by the mask rule ``best`` only the kept one speaks.

    Args, Returns, Raises: as for ``weighted_boxes_fusion``.
    """
    check_threshold(iou_threshold)
    stack = stack_members(members, weights=weights, names=names, skip_score=skip_score, scale="sum")
    clusters = clusters_by_seed(stack, iou_threshold=iou_threshold, by=by)
    return fused(
        stack, clusters, boxes=stack.boxes[clusters.seeds], scores=stack.confidences[clusters.seeds],
        mask_weights=stack.confidences, masks=masks, source="nms",
    )  # fmt: skip
