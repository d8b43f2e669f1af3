"""Non-maximum suppression: of several instances of one object, keep the one with the highest score.

By box it is ``torchvision.ops.nms`` for each label, by mask the same rule with the overlap of pixels. Overlap is
shared area over that of the union of two (``"iou"``), or over the smaller of them (``"ios"``: a part inside a whole).
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion.box_kernels import suppress_boxes
from hubmap_ml.fusion.boxes import as_float64
from hubmap_ml.instances import BitMasks, Instances, Masks, PredictionSet
from hubmap_ml.instances.overlaps import IOS, IOU, suppress_masks
from hubmap_ml.spec import InputError

Geometry = Literal["box", "mask"]
Measure = Literal["iou", "ios"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


def non_maximum_suppression(
    instances: Instances,
    *,
    iou_threshold: float,
    by: Geometry = "box",
    measure: Measure = "iou",
    across_classes: bool = False,
) -> Instances:
    """Keep each instance unless a higher-scored, kept one of its label overlaps it too much.

    Args:
        instances: of one image, in any order; ties in score keep the earlier instance.
        iou_threshold: in (0, 1]; an overlap *greater* than this suppresses (torchvision's convention).
        by: which geometry to compare; ``"mask"`` needs bit masks.
        measure: shared area over that of the union, or over the smaller of the two.
        across_classes: whether an instance also suppresses those of other labels.

    Returns:
        The kept instances, by descending score.

    Raises:
        ValueError: threshold out of range.
        InputError: masks are compared and there are none, or only probabilities.
    """
    offsets = np.array([0, len(instances)], dtype=np.int64)
    order = score_order(instances.scores, offsets)
    labels = _compared_labels(instances.labels, across_classes)
    keep = _kept(instances.boxes, labels, instances.masks, order, offsets, iou_threshold, by, measure)
    return instances.take(order[keep[order]])


def kept_rows(
    predictions: PredictionSet,
    *,
    iou_threshold: float,
    by: Geometry = "box",
    measure: Measure = "iou",
    across_classes: bool = False,
) -> NDArray[np.bool_]:
    """Return which instances of a set survive suppression in their image, bool (N,); arguments as above."""
    order = score_order(predictions.scores, predictions.offsets)
    return _kept(
        predictions.boxes,
        _compared_labels(predictions.labels, across_classes),
        predictions.masks,
        order,
        predictions.offsets,
        iou_threshold,
        by,
        measure,
    )


def score_order(
    scores: NDArray[np.float32], offsets: NDArray[np.int64], ties: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Return the rows of each image by descending score, image after image.

    Args:
        scores: (N,)
        offsets: (M + 1,) first row of each image.
        ties: (N,), equal scores stand in ascending order of this; by default they keep their order.
    """
    if ties is None:
        stands = scores[1:] <= scores[:-1]
        stands[offsets[(offsets > 0) & (offsets < len(scores))] - 1] = True  # where an image ends
        if stands.all():  # candidates are stored like that
            return np.arange(len(scores), dtype=np.int64)
    image = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    keys = (-scores, image) if ties is None else (ties, -scores, image)
    return np.asarray(np.lexsort(keys), dtype=np.int64)


def decided(masks: Masks | None, where: str) -> BitMasks:
    """Return masks that are all bits.

    Raises:
        InputError: no masks, or probabilities; ``where`` says who needs them.
    """
    if masks is None:
        raise InputError(f"{where} needs masks and these predictions have boxes only")
    if not masks.all_bits:
        raise InputError(
            f"{where} works on pixels and the masks are still probabilities; put mask_threshold before it"
        )
    return masks.bits


def _compared_labels(labels: NDArray[np.int16], across_classes: bool) -> NDArray[np.int64]:
    return np.zeros(len(labels), np.int64) if across_classes else labels.astype(np.int64)


def _kept(
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    masks: Masks | None,
    order: NDArray[np.int64],
    offsets: NDArray[np.int64],
    iou_threshold: float,
    by: Geometry,
    measure: Measure,
) -> NDArray[np.bool_]:
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold {iou_threshold} is not in (0, 1]")
    if measure not in MEASURES:
        raise ValueError(f"measure {measure!r} is none of {', '.join(MEASURES)}")
    if by == "mask":
        bits = decided(masks, "suppression by mask")
        which = IOU if measure == "iou" else IOS
        arrays = np.ascontiguousarray(bits.words), bits.offsets, bits.windows
        kept = suppress_masks(*arrays, labels, order, offsets, float(iou_threshold), which)
        return np.asarray(kept)
    return suppress_boxes(as_float64(boxes), labels, order, offsets, float(iou_threshold), measure == "ios")
