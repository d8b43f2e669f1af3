"""The boxes of an ensemble, checked against ensemble-boxes itself in the run that registers it.

The reference takes a third of a second for a tile with 1,400 boxes, a hundred times what ours takes: a sample of the
images is checked, chosen by rule (``checked_rows``), and said with the result.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion import FusionOptions, unit_boxes
from hubmap_ml.instances import PredictionSet

TOLERANCE = 1e-5
"""Largest difference allowed, in scores and in boxes divided by the image's size."""

SAMPLE = 20
"""Images that are checked at most."""

_NUDGE = 1e-13
"""What tells equal confidences apart for the reference, whose sort leaves their order open; relative."""


class FusionMismatch(RuntimeError):
    """ensemble-boxes gives other boxes than ours: a bug in our fusion, or another version of theirs."""


@dataclass(frozen=True)
class Recheck:
    """What the comparison with ensemble-boxes found.

    Attributes:
        difference: largest absolute difference of a score, or of a box side divided by the image's size; NaN where
            clusters are made by mask, which the reference cannot.
        images: ids of the images that were compared.
        n_images: how many there are.
    """

    difference: float
    images: tuple[str, ...]
    n_images: int


def checked_rows(fused: PredictionSet, sample: int) -> NDArray[np.int64]:
    """Return the images that are compared: the fullest, and others at equal steps through the order of the set.

    Args:
        fused: images with what was fused.
        sample: how many at most, at least 1.
    """
    n = len(fused.images)
    if n <= sample:
        return np.arange(n)
    fullest = int(np.argmax(np.diff(fused.offsets)))
    steps = np.linspace(0, n - 1, sample - 1).round().astype(np.int64)
    return np.asarray(np.unique([fullest, *steps]), np.int64)


def recheck_boxes(
    fused: PredictionSet,
    members: Sequence[PredictionSet],
    options: FusionOptions | None = None,
    *,
    weights: Sequence[float] | None = None,
    sample: int = SAMPLE,
) -> Recheck:
    """Compare fused boxes and scores with ensemble-boxes' function of the same method, image by image.

    Args:
        fused: what ``fusion.fuse`` made of the members with the same options and weights.
        members, options, weights: what it was given.
        sample: how many images are compared at most, see ``checked_rows``.

    Raises:
        FusionMismatch: another number of boxes, other labels, or a difference above ``TOLERANCE``; names the image.
    """
    options = options or FusionOptions()
    if options.by == "mask":
        return Recheck(float("nan"), (), len(fused.images))
    voice = np.ones(len(members)) if weights is None else np.asarray(weights, np.float64)
    rows = checked_rows(fused, sample)
    chosen = [member.take_images(member.images.rows_of(list(fused.images.ids[rows]))) for member in members]
    stacked = PredictionSet.stack_sources(chosen, [str(k) for k in range(len(members))])
    fused = fused.take_images(rows)
    boxes, ours = unit_boxes(stacked), unit_boxes(fused)
    solid = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    usable = solid & (stacked.scores >= np.float32(options.skip_score)) & (stacked.scores > 0)
    largest = 0.0
    for row in range(len(rows)):
        own = np.arange(stacked.offsets[row], stacked.offsets[row + 1])
        own = own[usable[own]]
        scores = _told_apart(stacked.scores[own].astype(np.float64), voice[stacked.source[own]])
        of_member = [stacked.source[own] == k for k in range(len(members))]
        lists = (
            [boxes[own[mine]] for mine in of_member],
            [scores[mine] for mine in of_member],
            [stacked.labels[own[mine]] for mine in of_member],
        )
        expected = _by_reference(lists, options, None if weights is None else voice)
        part = slice(int(fused.offsets[row]), int(fused.offsets[row + 1]))
        difference = _difference((ours[part], fused.scores[part], fused.labels[part]), expected)
        if not difference <= TOLERANCE:
            name = fused.images.ids[row]
            raise FusionMismatch(
                f"image {name!r}: fused boxes or scores differ from ensemble-boxes' by {difference:g}"
            )
        largest = max(largest, difference)
    return Recheck(largest, tuple(str(name) for name in fused.images.ids), len(members[0].images))


_Found = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
_Lists = tuple[list[NDArray[np.float64]], list[NDArray[np.float64]], list[NDArray[np.int16]]]


def _by_reference(lists: _Lists, options: FusionOptions, weights: NDArray[np.float64] | None) -> _Found:
    """Return ensemble-boxes' boxes, scores and labels of one image."""
    import ensemble_boxes

    if not any(len(scores) for scores in lists[1]):
        return np.zeros((0, 4)), np.zeros(0), np.zeros(0)  # its suppression fails on nothing
    known = {"weights": weights, "iou_thr": options.iou_threshold}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of every box without area
        if options.method == "wbf":
            found = ensemble_boxes.weighted_boxes_fusion(*lists, conf_type=options.conf_type, **known)
        elif options.method == "nmw":
            found = ensemble_boxes.non_maximum_weighted(*lists, **known)
        else:
            found = ensemble_boxes.nms(*lists, **known)
    boxes, scores, labels = found
    return boxes, scores, labels


def _told_apart(scores: NDArray[np.float64], voice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores whose products with ``voice`` are all different, the earlier one greater; hardly changed."""
    confidences = scores * voice
    previous = 0.0
    for k in np.lexsort((-np.arange(len(scores)), confidences)):
        if confidences[k] <= previous * (1 + _NUDGE):
            confidences[k] = previous * (1 + 2 * _NUDGE)
        previous = float(confidences[k])
    return np.asarray(confidences / voice)


def _difference(
    ours: tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.int16]], theirs: _Found
) -> float:
    """Return the largest difference between two sets of fused boxes in any order; infinite if they do not pair up."""
    if len(ours[1]) != len(theirs[1]) or not np.array_equal(np.sort(ours[2]), np.sort(theirs[2])):
        return float("inf")
    largest = 0.0
    for label in np.unique(ours[2]):
        a, b = (
            np.column_stack([scores, boxes])[labels == label].astype(np.float64)
            for boxes, scores, labels in (ours, theirs)
        )
        distance = np.abs(a[:, None, :] - b[None, :, :]).max(axis=2)
        largest = max(largest, _one_to_one(distance))
    return largest


def _one_to_one(distance: NDArray[np.float64]) -> float:
    """Return the smallest possible largest distance of a pairing, found by pairing the nearest first."""
    nearest = distance.argmin(axis=1)
    if len(set(nearest.tolist())) == len(nearest):
        return float(distance[np.arange(len(nearest)), nearest].max())
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(distance)
    return float(distance[rows, columns].max())
