"""Merging what several looks at one image say: views of a network, or the networks of several folds.

Named rules, the same in tuning and in submission. ``match_mean`` keeps the scale of the scores: an object that every
source sees keeps its mean score, one that half of them see gets half of it, and K identical sources are the one.
``nms`` and ``wbf`` are the usual ways with views, for those who compare; folds are merged by ``match_mean``.

Not for members that were trained differently: those are fused (see `weighted_boxes`).
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion.box_kernels import cluster_by_seed
from hubmap_ml.fusion.boxes import as_float64
from hubmap_ml.fusion.cluster_masks import BEST, MEAN
from hubmap_ml.fusion.clusters import Clusters, fused_set, group, image_frames
from hubmap_ml.fusion.mean_masks import mean_crop_masks, mean_pixel_masks
from hubmap_ml.fusion.methods import FusionOptions, fuse
from hubmap_ml.fusion.suppression import score_order
from hubmap_ml.instances import SOFT, Masks, PredictionSet
from hubmap_ml.spec import InputError

MergeRule = Literal["match_mean", "nms", "wbf"]
MERGE_RULES: tuple[MergeRule, ...] = ("match_mean", "nms", "wbf")


def merge_sources(
    predictions: PredictionSet, *, n_sources: int, iou_threshold: float = 0.6, rule: MergeRule = "match_mean"
) -> PredictionSet:
    """Merge the sources of a set into one opinion on each image.

    The rule ``match_mean``: an image's instances are taken by descending score (ties: by position within their source,
    then by source). Each joins the cluster of its label whose first instance its box overlaps best, by more than
    ``iou_threshold``, among the clusters without an instance of its source; else it begins a cluster. Then

    - score = sum of the members' scores / ``n_sources`` (a source that saw nothing says 0);
    - box = mean of the members' boxes, weighted by score;
    - mask = plain mean of the members' soft masks (sources that saw nothing do not count: their doubt is in the score),
      sampled at the cells of the first instance's crop grid, laid over the mean (as above) of the members' mask boxes.
      Where several members meet and one is bits, the mean is taken at pixel resolution instead; a bit mask that is
      alone stays as it is.

    The rule ``nms`` keeps of all sources' instances those that no higher-scored one of their label overlaps by more
    than ``iou_threshold``, with their own scores and masks: an object that one source sees keeps its full score. The
    rule ``wbf`` fuses the sources as equal members (see ``weighted_boxes_fusion``), with the mean of their masks.

    Args:
        predictions: ``source`` counts the sources; instances in any order.
        n_sources: how many sources looked at each image, also those that found nothing anywhere.
        iou_threshold: in (0, 1).
        rule: see above.

    Returns:
        Instances by descending score, with their clusters as rows of ``predictions``. K sources that agree to the bit
        give boxes, scores, soft masks and order of the one.

    Raises:
        InputError: an unknown rule, more sources than announced, or a threshold out of range.
    """
    if rule not in MERGE_RULES:
        raise InputError(f"unknown merging rule {rule!r}; allowed: {', '.join(MERGE_RULES)}")
    if not 0 < iou_threshold < 1:
        raise InputError(f"merging needs an IoU threshold between 0 and 1, not {iou_threshold}")
    if n_sources < 1 or (len(predictions) and predictions.source.max() >= n_sources):
        raise InputError(
            f"the predictions come from at least {int(predictions.source.max(initial=0)) + 1} sources, but n_sources "
            f"is {n_sources}; give the number of views or folds that looked at each image"
        )
    if rule != "match_mean":
        return _fused_sources(predictions, n_sources, FusionOptions(
            method=rule, iou_threshold=iou_threshold, skip_score=0.0, masks=BEST if rule == "nms" else MEAN,
        ))  # fmt: skip
    order = score_order(predictions.scores, predictions.offsets, _turns(predictions, n_sources))
    cluster, counts = cluster_by_seed(
        as_float64(predictions.boxes), predictions.labels.astype(np.int64), predictions.source.astype(np.int64),
        order, predictions.offsets, n_sources, float(iou_threshold),
    )  # fmt: skip
    clusters = group(cluster, counts, order)
    scores = (clusters.total(predictions.scores[clusters.rows].astype(np.float64)) / n_sources).astype(
        np.float32
    )
    by_score = score_order(scores, clusters.image_offsets)
    clusters, scores = clusters.take(by_score), scores[by_score]
    masks = None if predictions.masks is None else _merged_masks(predictions, predictions.masks, clusters)
    return fused_set(
        predictions, clusters, boxes=_mean_boxes(predictions.boxes, predictions.scores, clusters), scores=scores,
        masks=masks, source="merged", properties=predictions.properties,
    )  # fmt: skip


def _fused_sources(predictions: PredictionSet, n_sources: int, options: FusionOptions) -> PredictionSet:
    """Fuse sources as members; clusters are rows of ``predictions`` again."""
    rows = [np.flatnonzero(predictions.source == source) for source in range(n_sources)]
    fused = fuse([predictions.take(own) for own in rows], options)
    assert fused.member_rows is not None
    stacked = np.concatenate(rows)
    stacked = stacked[np.argsort(predictions.image_rows()[stacked], kind="stable")]
    return fused.replace(member_rows=stacked[fused.member_rows], sources=("merged",))


def _turns(predictions: PredictionSet, n_sources: int) -> NDArray[np.int64]:
    """For each instance its turn among equal scores of its image: by position within its source, then by source."""
    n = len(predictions)
    source = predictions.source.astype(np.int64)
    block = predictions.image_rows() * n_sources + source
    by_block = np.argsort(block, kind="stable")
    sizes = np.bincount(block, minlength=len(predictions.images) * n_sources)
    position = np.empty(n, np.int64)
    position[by_block] = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return position * n_sources + source


def _mean_boxes(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], clusters: Clusters
) -> NDArray[np.float32]:
    """Return the mean box of each cluster, weighted by score; in float64, so that equal boxes give that box."""
    weights = scores[clusters.rows].astype(np.float64)
    weights = np.where(clusters.total(weights)[clusters.of_entries] > 0, weights, 1.0)
    sums = clusters.total(weights[:, None] * boxes[clusters.rows].astype(np.float64))
    return (sums / clusters.total(weights)[:, None]).astype(np.float32)


def _merged_masks(predictions: PredictionSet, masks: Masks, clusters: Clusters) -> Masks:
    is_bits = (masks.kind != SOFT)[clusters.rows]
    with_bits = clusters.total(is_bits.astype(np.float64)) > 0
    alone = np.diff(clusters.offsets) == 1
    ways = [np.flatnonzero(~with_bits), np.flatnonzero(with_bits & alone), np.flatnonzero(with_bits & ~alone)]
    sampled, kept, mixed = (_part(clusters, chosen) for chosen in ways)
    mask_boxes = np.zeros((len(masks), 4), np.float32)
    mask_boxes[masks.kind == SOFT] = masks.soft.boxes
    boxes = _mean_boxes(mask_boxes, predictions.scores, sampled)
    frames = image_frames(predictions, mixed)
    together = Masks.concatenate([
        Masks.from_soft(mean_crop_masks(masks.soft, masks.index, sampled, boxes)),
        masks.take(kept.seeds),
        Masks.from_soft(mean_pixel_masks(masks, mixed, np.ones(len(mixed.rows)), frames)),
    ])  # fmt: skip
    return together.take(np.argsort(np.concatenate(ways), kind="stable"))


def _part(clusters: Clusters, chosen: NDArray[np.int64]) -> Clusters:
    """Return some clusters as one group: which image they belong to is not asked for any more."""
    part = clusters.take(chosen)
    return Clusters(part.offsets, part.rows, np.array([0, len(chosen)], dtype=np.int64))
