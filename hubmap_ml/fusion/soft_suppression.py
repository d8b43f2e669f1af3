"""Soft non-maximum suppression: what overlaps a higher-scored instance loses score instead of its place.

Bodla et al., "Soft-NMS - Improving Object Detection With One Line of Code" (ICCV 2017), on boxes and within each label,
with the conventions of ``ensemble_boxes.soft_nms``: the linear method lowers scores where the IoU is *greater* than its
threshold, and an instance stays if its new score is *greater* than the lowest one. That function gives those that stay
their old scores back, which ``keep_scores`` does too.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion.boxes import overlapping_pairs
from hubmap_ml.fusion.suppression import score_order
from hubmap_ml.instances import PredictionSet
from hubmap_ml.instances.compiled import compiled

SoftMethod = Literal["linear", "gaussian"]
SOFT_METHODS: tuple[SoftMethod, ...] = get_args(SoftMethod)


def soft_suppression(
    predictions: PredictionSet,
    *,
    method: SoftMethod = "linear",
    iou_threshold: float = 0.5,
    sigma: float = 0.5,
    min_score: float = 0.001,
    keep_scores: bool = False,
) -> PredictionSet:
    """Lower the scores of instances that overlap higher-scored ones of their image and label.

    Instances are visited by descending score as it stands by then; a tie takes the one whose score was higher before,
    then the earlier one. Each visit multiplies the scores of those not yet visited by ``1 - iou`` where the IoU is
    greater than ``iou_threshold`` (linear), or by ``exp(-iou² / sigma)`` (gaussian).

    Args:
        predictions: instances in any order.
        method: linear or gaussian.
        iou_threshold: in (0, 1]; of the linear method.
        sigma: above 0; of the gaussian method.
        min_score: at least 0; instances whose new score is not greater are dropped.
        keep_scores: only drop, and leave the scores of the others as they were.

    Returns:
        The same images; instances with their new scores (computed in float64, kept as float32), by descending
        score, ties in the order of ``score_order``.

    Raises:
        ValueError: unknown method, or a value out of range.
    """
    if method not in SOFT_METHODS:
        raise ValueError(f"method {method!r} is none of {', '.join(SOFT_METHODS)}")
    if not 0 < iou_threshold <= 1 or not sigma > 0 or not min_score >= 0:
        raise ValueError(
            f"iou_threshold {iou_threshold} in (0, 1], sigma {sigma} > 0 and min_score {min_score} >= 0 are expected"
        )
    found = predictions.take(score_order(predictions.scores, predictions.offsets, predictions.file_order))
    floor = iou_threshold if method == "linear" else 0.0
    starts, columns, overlaps = overlapping_pairs(found.boxes, found.labels, found.offsets, floor=floor)
    factors = 1.0 - overlaps if method == "linear" else np.exp(-(overlaps**2) / sigma)
    scores = decayed_scores(
        found.scores.astype(np.float64), found.offsets, starts, columns, factors, min_score
    )
    stay = np.flatnonzero(scores > min_score)
    if keep_scores:
        return found.take(stay)
    kept = found.replace(scores=scores.astype(np.float32)).take(stay)
    return kept.take(score_order(kept.scores, kept.offsets, kept.file_order))


@compiled
def decayed_scores(
    scores: NDArray[np.float64],
    offsets: NDArray[np.int64],
    starts: NDArray[np.int64],
    columns: NDArray[np.int32],
    factors: NDArray[np.float64],
    min_score: float,
) -> NDArray[np.float64]:
    """Return each row's score after all rows visited before it have lowered it.

    Args:
        scores: (N,), image by image; ties are visited in the order of the rows.
        offsets: (M + 1,) first row of each image.
        starts, columns: pairs of rows of one image in CSR form, the later row in ``columns``.
        factors: of each pair, in [0, 1]: what the one visited first leaves of the other's score.
        min_score: rows that fall to this or below need not be exact.
    """
    n = len(scores)
    # Pairs by their later row, so that a row visited first finds its earlier partners too.
    earlier_starts = np.zeros(n + 1, np.int64)
    for pair in range(len(columns)):
        earlier_starts[columns[pair] + 1] += 1
    for row in range(n):
        earlier_starts[row + 1] += earlier_starts[row]
    filled = earlier_starts[:-1].copy()
    earlier_rows = np.empty(len(columns), np.int64)
    earlier_factors = np.empty(len(columns), np.float64)
    for row in range(n):
        for pair in range(starts[row], starts[row + 1]):
            at = filled[columns[pair]]
            earlier_rows[at] = row
            earlier_factors[at] = factors[pair]
            filled[columns[pair]] += 1

    out = scores.copy()
    visited = np.zeros(n, np.bool_)
    for image in range(len(offsets) - 1):
        for _ in range(offsets[image], offsets[image + 1]):
            best = -1
            for row in range(offsets[image], offsets[image + 1]):
                if not visited[row] and (best < 0 or out[row] > out[best]):
                    best = row
            if out[best] <= min_score:
                break
            visited[best] = True
            for pair in range(starts[best], starts[best + 1]):
                if not visited[columns[pair]]:
                    out[columns[pair]] *= factors[pair]
            for pair in range(earlier_starts[best], earlier_starts[best + 1]):
                if not visited[earlier_rows[pair]]:
                    out[earlier_rows[pair]] *= earlier_factors[pair]
    return out
