"""A chosen result scored once more by means that share no kernel with the study.

``coco_segm`` is scored by pycocotools, the others by loops over numpy arrays (``metrics.references``). A study that
finds its winner's score different must not be believed: a kernel is wrong.
"""

import math

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics import evaluate
from hubmap_ml.metrics.references import score_by_reference


def recheck(metric: str, truth: Annotations, predictions: PredictionSet) -> float:
    """How far the fast score of final predictions is from the reference's.

    Args:
        metric: as ``metrics.evaluate`` names it.
        truth: holds the predictions' images.
        predictions: final ones, after all steps; a fold, or any other set of images that is scored together.

    Returns:
        The absolute difference: rounding (under 1e-12) unless something is wrong; infinite where only one of the two
        has a score.

    Raises:
        InputError: what ``metrics.evaluate`` refuses.
    """
    fast = evaluate(metric, truth, predictions).value
    slow = score_by_reference(metric, truth, predictions)
    if math.isnan(fast) or math.isnan(slow):
        return 0.0 if math.isnan(fast) and math.isnan(slow) else math.inf
    return abs(fast - slow)
