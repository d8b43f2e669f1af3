"""Whether a network that was carried into the registry still predicts what its scores were computed from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Annotations, Instances, PredictionSet
from hubmap_ml.metrics import evaluate
from hubmap_ml.postprocess import Step, apply_steps

TOLERANCE = 1e-4
"""Largest difference of scores, and of box corners as a share of the image's longer side."""

PIXEL_STEP = 1
"""Largest difference of a soft mask's pixel, in steps of 1/255 ..."""

PIXEL_SHARE = 0.999
"""... on at least this share of all pixels."""

SCORE_TOLERANCE = 1e-3
"""Largest difference of the sample's score on another kind of device, where arithmetic differs."""


@dataclass(frozen=True)
class Reproduction:
    """How two sets of candidates of the same images differ.

    Attributes:
        n_images, n_instances: of the recorded set.
        problem: the first thing that differs too much, in words; empty where nothing does.
        score: largest difference of two scores.
        box: largest difference of two box corners, as a share of the longer side.
        pixels: share of soft mask pixels that agree within a step.
    """

    n_images: int
    n_instances: int
    problem: str = ""
    score: float = 0.0
    box: float = 0.0
    pixels: float = 1.0


def compare_candidates(recorded: PredictionSet, found: PredictionSet, *, floor: float) -> Reproduction:
    """Compare candidates instance by instance, whatever the order among equal scores.

    Each recorded instance is paired with the nearest free one of its image, view and label whose score and box agree
    within ``TOLERANCE``. An instance without a partner is a difference, unless its score lies within the tolerance of
    the floor below which nothing is kept.

    Args:
        recorded: what ``predict`` wrote.
        found: predicted again, over the same images in the same order.
        floor: least score that is kept.
    """
    n_images, n = len(recorded.images), len(recorded.scores)
    if list(recorded.images.ids) != list(found.images.ids):
        return Reproduction(n_images, n, "other images than the recorded ones")
    worst_score = worst_box = 0.0
    agreeing = pixels = 0
    for row in range(n_images):
        before, after = recorded.image(row), found.image(row)
        partner, lonely = _pair(before, after)
        for item, rows in ((before, np.flatnonzero(partner < 0)), (after, lonely)):
            above = rows[item.scores[rows] > floor + TOLERANCE]
            if len(above):
                which = "recorded" if item is before else "found now"
                return Reproduction(
                    n_images,
                    n,
                    f"image {recorded.images.ids[row]}: {len(above)} of {len(item)} candidates {which} have no "
                    f"counterpart (the highest scores {item.scores[above].max():.4f})",
                )
        rows = np.flatnonzero(partner >= 0)
        others = partner[rows]
        side = max(before.height, before.width)
        if len(rows):
            worst_score = max(worst_score, float(np.abs(before.scores[rows] - after.scores[others]).max()))
            worst_box = max(worst_box, float(np.abs(before.boxes[rows] - after.boxes[others]).max()) / side)
        same, all_pixels = _pixels(before, after, rows, others)
        agreeing, pixels = agreeing + same, pixels + all_pixels
    share = agreeing / pixels if pixels else 1.0
    problem = "" if share >= PIXEL_SHARE else f"only {share:.2%} of the soft masks' pixels agree within 1/255"
    return Reproduction(n_images, n, problem, worst_score, worst_box, share)


def compare_scores(
    truth: Annotations,
    recorded: PredictionSet,
    found: PredictionSet,
    *,
    metric: str,
    steps: tuple[Step, ...],
) -> Reproduction:
    """Compare only what two sets score after some steps: on another kind of device numbers differ everywhere."""
    before, after = (evaluate(metric, truth, apply_steps(item, steps)).value for item in (recorded, found))
    difference = abs(before - after)
    problem = (
        "" if difference <= SCORE_TOLERANCE else f"{metric} of the sample is {after:.4f} and was {before:.4f}"
    )
    return Reproduction(len(recorded.images), len(recorded.scores), problem, difference)


def _pair(before: Instances, after: Instances) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each instance of ``before`` its partner's row (-1 for none), and the rows that are nobody's."""
    partner = np.full(len(before), -1, np.int64)
    free = np.ones(len(after), bool)
    side = max(before.height, before.width, 1)
    for row in range(len(before)):
        distance = np.abs(after.boxes - before.boxes[row]).max(axis=1, initial=0.0) / side
        apart = np.maximum(distance, np.abs(after.scores - before.scores[row]))
        fits = free & (after.labels == before.labels[row]) & (after.source == before.source[row])
        apart = np.where(fits, apart, np.inf)
        if len(apart) and apart.min() <= TOLERANCE:
            partner[row] = int(apart.argmin())
            free[partner[row]] = False
    return partner, np.flatnonzero(free)


def _pixels(
    before: Instances, after: Instances, rows: NDArray[np.int64], others: NDArray[np.int64]
) -> tuple[int, int]:
    """Return how many soft mask pixels of paired instances agree within a step, and how many there are."""
    if before.masks is None or after.masks is None:
        return 0, 0
    agreeing = total = 0
    first, second = before.masks.take(rows).soft, after.masks.take(others).soft
    if len(first) != len(second):
        return 0, 1
    for row in range(len(first)):
        a, b = first.crop(row), second.crop(row)
        if a.shape != b.shape:
            total += a.size
            continue
        agreeing += int((np.abs(a.astype(np.int16) - b.astype(np.int16)) <= PIXEL_STEP).sum())
        total += a.size
    return agreeing, total
