"""The mask of a cluster, by a named rule, never at the size of the image.

``mean`` and a soft ``best`` give probabilities, which a threshold on pixels decides later; the other rules count
decided masks and give pixels: soft members are decided at ``COMPARED_AT`` first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion.clusters import Clusters, image_frames
from hubmap_ml.fusion.mask_clusters import COMPARED_AT
from hubmap_ml.fusion.mean_masks import mean_pixel_masks
from hubmap_ml.fusion.vote_kernels import vote_words
from hubmap_ml.instances import SOFT, BitMasks, Masks, PredictionSet
from hubmap_ml.spec import InputError

MaskRule = Literal["mean", "votes", "best", "union", "intersection"]
MASK_RULES: Mapping[MaskRule, str] = {
    "mean": "weighted mean of the members' soft masks, weights as for the box",
    "votes": "pixels that at least max(1, floor(vote_share * members)) of the members hold",
    "best": "the mask of the member with the highest confidence",
    "union": "pixels that any member holds",
    "intersection": "pixels that every member holds",
}


@dataclass(frozen=True)
class MaskFusion:
    """How the masks of a cluster become one.

    Attributes:
        rule: of ``MASK_RULES``.
        vote_share: in (0, 1], for ``votes``: of n members max(1, floor(vote_share * n)) must hold a pixel (the
            pseudo-label rule of the HuBMAP 2023 Rank-1 code, which takes .2: a union below ten members).
        clip: whether only pixels whose centre lies in the fused box stay.

    Raises:
        InputError: an unknown rule, or a share out of range.
    """

    rule: MaskRule = "mean"
    vote_share: float = 0.5
    clip: bool = False

    def __post_init__(self) -> None:
        if self.rule not in MASK_RULES:
            raise InputError(f"unknown mask rule {self.rule!r}; allowed: {', '.join(MASK_RULES)}")
        if not 0 < self.vote_share <= 1:
            raise InputError(
                f"the share of votes is {self.vote_share}; it must be greater than 0 and at most 1"
            )


MEAN = MaskFusion()
BEST = MaskFusion("best")


def cluster_masks(
    members: PredictionSet,
    masks: Masks,
    clusters: Clusters,
    *,
    weights: NDArray[np.float64],
    boxes: NDArray[np.float32],
    how: MaskFusion,
) -> Masks:
    """Return one mask for each cluster.

    Args:
        members: the set whose rows the clusters hold.
        masks: its masks.
        clusters: C clusters, the best member of each first.
        weights: (E,) of each entry of ``clusters.rows``, > 0; for ``mean``.
        boxes: (C, 4) fused boxes, pixels.
        how: the rule.

    Returns:
        C masks.
    """
    frames = image_frames(members, clusters)
    if how.clip:
        frames = _pixels_within(boxes, frames)
    if how.rule == "mean":
        return Masks.from_soft(mean_pixel_masks(masks, clusters, weights, frames))
    if how.rule == "best":
        return _best(masks, clusters, frames, clip=how.clip)
    pixels = masks.binarize(COMPARED_AT, members.heights_of_instances(), members.widths_of_instances())
    sizes = np.diff(clusters.offsets)
    needed = {
        "votes": np.maximum(1, np.floor(how.vote_share * sizes)).astype(np.int64),
        "union": np.ones_like(sizes),
        "intersection": sizes,
    }[how.rule]
    return Masks.from_bits(_votes(pixels, clusters, needed, frames))


def _best(masks: Masks, clusters: Clusters, frames: NDArray[np.int64], *, clip: bool) -> Masks:
    """The seeds' own masks, cut where asked; a soft one that is cut is written out pixel by pixel."""
    chosen = masks.take(clusters.seeds)
    if not clip:
        return chosen
    soft, decided = np.flatnonzero(chosen.kind == SOFT), np.flatnonzero(chosen.kind != SOFT)
    own = Clusters(np.arange(len(soft) + 1), soft, np.array([0, len(soft)]))
    alone = Clusters(np.arange(len(decided) + 1), np.arange(len(decided)), np.array([0, len(decided)]))
    both = Masks.concatenate([
        Masks.from_soft(mean_pixel_masks(chosen, own, np.ones(len(soft)), frames[soft])),
        Masks.from_bits(_votes(chosen.bits, alone, np.ones(len(decided), np.int64), frames[decided])),
    ])  # fmt: skip
    return both.take(np.argsort(np.concatenate([soft, decided])))


def _votes(
    pixels: BitMasks, clusters: Clusters, needed: NDArray[np.int64], frames: NDArray[np.int64]
) -> BitMasks:
    return BitMasks(
        *vote_words(
            np.ascontiguousarray(pixels.words), pixels.offsets, pixels.windows,
            clusters.offsets, clusters.rows, needed, np.ascontiguousarray(frames),
        )
    )  # fmt: skip


def _pixels_within(boxes: NDArray[np.float32], frames: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pixels x0, y0, x1, y1 (half-open) whose centres lie in a box [x1, x2) x [y1, y2), inside a frame."""
    first = np.ceil(boxes.astype(np.float64) - 0.5).astype(np.int64)
    low, high = np.tile(frames[:, :2], 2), np.tile(frames[:, 2:], 2)
    return np.asarray(np.clip(first, low, high), np.int64)
