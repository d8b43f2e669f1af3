"""Labels from opinions: what several predictors say of unlabelled images, fused and filtered, as annotations.

The code of HuBMAP 2023's third place lost by it: its last 99 tiles were never written, the weights of its
models never reached the fusion, and an empty fused mask ended it. Here every image is an entry, empty ones too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion import FusionOptions, agreement, fuse
from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.postprocess import MaskThreshold, MinArea
from hubmap_ml.spec import InputError


@dataclass(frozen=True)
class LabelRule:
    """How opinions become labels.

    Attributes:
        options: how they are fused.
        score: least fused score.
        agreement: least number of teachers that a label's cluster holds.
        mask_threshold: decides the pixels of masks that the fusion leaves soft.
        min_area: least number of pixels.
    """

    options: FusionOptions
    score: float = 0.5
    agreement: int = 1
    mask_threshold: float = 0.5
    min_area: float = 0.0


@dataclass(frozen=True)
class LabelCounts:
    """How many fused instances there were, how many each filter took, and how many became labels."""

    fused: int = 0
    under_score: int = 0
    under_agreement: int = 0
    without_pixels: int = 0
    under_area: int = 0
    labels: int = 0

    def __add__(self, other: "LabelCounts") -> "LabelCounts":
        return LabelCounts(*(a + b for a, b in zip(self.values(), other.values(), strict=True)))

    def values(self) -> tuple[int, ...]:
        """Return all numbers, in order of the fields."""
        return (
            self.fused,
            self.under_score,
            self.under_agreement,
            self.without_pixels,
            self.under_area,
            self.labels,
        )


def pseudo_labels(
    opinions: Sequence[PredictionSet],
    rule: LabelRule,
    *,
    names: Sequence[str],
    weights: Sequence[float] | None = None,
) -> tuple[PredictionSet, LabelCounts]:
    """Fuse what teachers say and keep what may be learned from.

    Args:
        opinions: one set a teacher, over the same images.
        rule: see there.
        names: of the teachers.
        weights: one > 0 for each teacher; equal by default.

    Returns:
        Labels with decided masks and the fused scores, an entry for every image of the first set; and what was dropped.

    Raises:
        InputError: more agreement than teachers, or what the fusion refuses.
    """
    if not 1 <= rule.agreement <= len(opinions):
        raise InputError(
            f"agreement of {rule.agreement} is asked for and there are {len(opinions)} teachers; "
            f"it may be 1 to {len(opinions)}"
        )
    fused = fuse(opinions, rule.options, weights=weights, names=names)
    return chosen_labels(fused, agreement(fused, opinions), rule)


def chosen_labels(
    fused: PredictionSet, agreed: NDArray[np.int64], rule: LabelRule
) -> tuple[PredictionSet, LabelCounts]:
    """Keep what may be learned from of instances that are fused already, as those of a registered ensemble.

    Args:
        fused: instances of some images.
        agreed: (N,), how many members agreed on each.
        rule: its options of the fusion do nothing here.

    Returns:
        As `pseudo_labels`.
    """
    scored = fused.scores >= np.float32(rule.score)
    chosen = fused.take(np.flatnonzero(scored & (agreed >= rule.agreement)))
    decided = MaskThreshold(rule.mask_threshold).apply(chosen)
    labels = MinArea(rule.min_area).apply(decided)
    counts = LabelCounts(
        fused=len(fused),
        under_score=int((~scored).sum()),
        under_agreement=int((scored & (agreed < rule.agreement)).sum()),
        without_pixels=len(chosen) - len(decided),
        under_area=len(decided) - len(labels),
        labels=len(labels),
    )
    return labels.replace(cluster_offsets=None, member_rows=None), counts


def as_annotations(labels: PredictionSet) -> Annotations:
    """Return labels as annotations of the same images: boxes tight around the pixels, areas counted, ids from 1."""
    if labels.masks is None or not labels.masks.all_bits:
        raise ValueError("labels need decided masks")
    return Annotations.from_bits(
        labels.images, labels.categories, labels.image_rows(), labels.masks.bits, labels.labels
    )
