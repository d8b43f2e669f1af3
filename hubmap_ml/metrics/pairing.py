"""Bringing truth and predictions over the same images and categories, before any rule scores them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Annotations, BitMasks, PredictionSet
from hubmap_ml.spec import InputError

MASK_THRESHOLD = 0.5
"""Where soft masks are cut for scoring, when nobody chose a threshold before."""


@dataclass(frozen=True, eq=False)
class Paired:
    """Truth and predictions over the same M images, in the same order.

    Attributes:
        truth: annotations of the images.
        predictions: predictions for the same images, in the predictions' order.
        labels: int64 (N,), each prediction's label among the truth's categories; -1 for a category the truth
            lacks.
        masks: N bit masks of the predictions.
    """

    truth: Annotations
    predictions: PredictionSet
    labels: NDArray[np.int64]
    masks: BitMasks


def pair_up(truth: Annotations, predictions: PredictionSet) -> Paired:
    """Keep the images that both know (by id), and match categories by name.

    Raises:
        InputError: no common image or category, predictions without masks, a score that is not a number.
    """
    if predictions.masks is None:
        raise InputError("the predictions have no masks: mask scores need them")
    shared = np.flatnonzero(truth.images.has(list(predictions.images.ids)))
    if len(shared) == 0:
        raise InputError(
            f"none of the {len(predictions.images)} predicted images is among the {len(truth.images)} of the "
            "truth: are these files of the same data?"
        )
    if len(shared) < len(predictions.images):
        predictions = predictions.take_images(shared)
    truth = truth.take_images(truth.images.rows_of(list(predictions.images.ids)))
    if not np.array_equal(truth.images.heights, predictions.images.heights) or not np.array_equal(
        truth.images.widths, predictions.images.widths
    ):
        raise InputError("some images have another size in the truth than in the predictions")
    if not np.isfinite(predictions.scores).all():
        raise InputError(
            "a predicted score is not a finite number: the network diverged or the file is broken"
        )
    label_of = {category.name: label for label, category in enumerate(truth.categories)}
    new_labels = np.array([label_of.get(c.name, -1) for c in predictions.categories], dtype=np.int64)
    if len(predictions) and not (new_labels >= 0).any():
        raise InputError(
            f"predicted categories ({', '.join(c.name for c in predictions.categories)}) and true ones "
            f"({', '.join(label_of)}) have no name in common"
        )
    assert predictions.masks is not None
    masks = predictions.masks.binarize(
        MASK_THRESHOLD, predictions.heights_of_instances(), predictions.widths_of_instances()
    )
    labels = new_labels[predictions.labels] if len(predictions) else np.zeros(0, np.int64)
    return Paired(truth, predictions, labels, masks)
