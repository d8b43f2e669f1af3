"""The boxes of an ensemble, checked against ensemble-boxes itself in the run that registers it."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion import unit_boxes
from hubmap_ml.instances import PredictionSet

TOLERANCE = 1e-5
"""Largest difference allowed, in scores and in boxes divided by the image's size."""

_NUDGE = 1e-13
"""What tells equal confidences apart for the reference, whose sort leaves their order open; relative."""


class FusionMismatch(RuntimeError):
    """ensemble-boxes gives other boxes than ours: a bug in our fusion, or another version of theirs."""


def recheck_boxes(
    fused: PredictionSet,
    members: Sequence[PredictionSet],
    *,
    weights: Sequence[float] | None = None,
    iou_threshold: float,
    skip_score: float,
) -> float:
    """Compare fused boxes and scores with ``ensemble_boxes.weighted_boxes_fusion``, image by image.

    Args:
        fused: what ``fusion.weighted_boxes_fusion`` made of the members with the same settings.
        members, weights, iou_threshold, skip_score: what it was given.

    Returns:
        The largest absolute difference of a score, or of a box side divided by the image's size.

    Raises:
        FusionMismatch: another number of boxes, other labels, or a difference above ``TOLERANCE``; names the image.
    """
    from ensemble_boxes import weighted_boxes_fusion

    voice = np.ones(len(members)) if weights is None else np.asarray(weights, np.float64)
    stacked = PredictionSet.stack_sources(members, [str(k) for k in range(len(members))])
    boxes, ours = unit_boxes(stacked), unit_boxes(fused)
    usable = (stacked.scores >= np.float32(skip_score)) & (stacked.scores > 0)
    largest = 0.0
    for row in range(len(stacked.images)):
        rows = np.arange(stacked.offsets[row], stacked.offsets[row + 1])
        rows = rows[usable[rows]]
        scores = _told_apart(stacked.scores[rows].astype(np.float64), voice[stacked.source[rows]])
        of_member = [stacked.source[rows] == k for k in range(len(members))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of every box without area
            expected = weighted_boxes_fusion(
                [boxes[rows[own]] for own in of_member],
                [scores[own] for own in of_member],
                [stacked.labels[rows[own]] for own in of_member],
                weights=voice,
                iou_thr=iou_threshold,
                skip_box_thr=0.0,
            )
        part = slice(int(fused.offsets[row]), int(fused.offsets[row + 1]))
        difference = _difference((ours[part], fused.scores[part], fused.labels[part]), expected)
        if not difference <= TOLERANCE:
            name = stacked.images.ids[row]
            raise FusionMismatch(
                f"image {name!r}: fused boxes or scores differ from ensemble-boxes' by {difference:g}"
            )
        largest = max(largest, difference)
    return largest


def _told_apart(scores: NDArray[np.float64], voice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores whose products with ``voice`` are all different, the earlier one greater; hardly changed."""
    confidences = scores * voice
    previous = 0.0
    for k in np.lexsort((-np.arange(len(scores)), confidences)):
        if confidences[k] <= previous * (1 + _NUDGE):
            confidences[k] = previous * (1 + 2 * _NUDGE)
        previous = float(confidences[k])
    return np.asarray(confidences / voice)


_Found = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


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
