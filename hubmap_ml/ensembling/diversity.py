"""How members differ: what one finds and the other does not. Two members that fail on the same objects add little."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion import FusionOptions, fuse
from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics.overlaps import overlaps_with_truth
from hubmap_ml.metrics.pairing import pair_up

MATCH_IOU = 0.5
"""Overlap from which two detections (by box), or a detection and a truth (by mask), are the same object."""


@dataclass(frozen=True)
class PairDiversity:
    """Two members' final predictions beside each other.

    Attributes:
        first, second: names.
        disagreeing: share of both members' detections that the other has no counterpart for.
        hit_correlation: correlation over the truths of being found (phi); NaN where a member finds all or none.
        only_first, only_second, both, neither: truths.
    """

    first: str
    second: str
    disagreeing: float
    hit_correlation: float
    only_first: int
    only_second: int
    both: int
    neither: int


def diversity(truth: Annotations, finals: Mapping[str, PredictionSet]) -> tuple[PairDiversity, ...]:
    """Compare every two members.

    Args:
        truth: of the images that all of them predicted.
        finals: final predictions with masks, by member, over the same images in any order.
    """
    hits = {name: _hits(truth, found) for name, found in finals.items()}
    pairs = []
    for first, second in itertools.combinations(finals, 2):
        a, b = hits[first], hits[second]
        spread = a.std() * b.std() if len(a) else 0.0
        pairs.append(
            PairDiversity(
                first,
                second,
                _disagreeing(finals[first], finals[second]),
                float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 0 else float("nan"),
                int((a & ~b).sum()),
                int((b & ~a).sum()),
                int((a & b).sum()),
                int((~a & ~b).sum()),
            )
        )
    return tuple(pairs)


def _hits(truth: Annotations, found: PredictionSet) -> NDArray[np.bool_]:
    """Return for each truth of the given images, in their order, whether it is found; crowds are left out."""
    found = found.take_images(found.images.rows_of(list(truth.images.ids)))
    paired = pair_up(truth, found)
    overlaps = overlaps_with_truth(
        paired.masks, paired.predictions.offsets, paired.truth, floor=MATCH_IOU, labels=paired.labels
    )
    hit = np.zeros(len(paired.truth), np.bool_)
    hit[overlaps.truths] = True
    return np.asarray(hit[~paired.truth.iscrowd])


def _disagreeing(first: PredictionSet, second: PredictionSet) -> float:
    """Share of detections in clusters that hold only one of the two; NaN where neither found anything."""
    boxes = [item.replace(masks=None, cluster_offsets=None, member_rows=None) for item in (first, second)]
    fused = fuse(boxes, FusionOptions(iou_threshold=MATCH_IOU, skip_score=0.0))
    assert fused.cluster_offsets is not None
    assert fused.member_rows is not None
    source = PredictionSet.stack_sources(boxes, ["first", "second"]).source[fused.member_rows]
    cluster = np.repeat(np.arange(len(fused)), np.diff(fused.cluster_offsets))
    counts = np.zeros((len(fused), 2), np.int64)
    np.add.at(counts, (cluster, source), 1)
    alone = counts[(counts == 0).any(axis=1)].sum()
    return float(alone / counts.sum()) if counts.sum() else float("nan")
