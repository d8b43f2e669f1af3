"""The score of a set by the name of its metric, and the headline of several folds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics.coco import coco_segm
from hubmap_ml.metrics.curves import score_curve
from hubmap_ml.metrics.data_science_bowl import dsb_map
from hubmap_ml.metrics.dice import dice
from hubmap_ml.metrics.open_images import average_precision
from hubmap_ml.spec import InputError

METRICS = ("ap60", "coco_segm", "dice", "dsb_map")


@dataclass(frozen=True)
class Score:
    """One figure and what stands behind it.

    Attributes:
        metric: its name.
        value: the figure, higher is better; NaN if the images hold no truth.
        n_images: images scored.
        n_instances: predicted instances scored.
        details: further figures by name, all finite.
    """

    metric: str
    value: float
    n_images: int
    n_instances: int
    details: Mapping[str, float]


def evaluate(metric: str, truth: Annotations, predictions: PredictionSet) -> Score:
    """Score predictions over the images that both know.

    Args:
        metric: ``"ap60"`` (``average_precision`` at IoU 0.6), ``"coco_segm"`` (its ``segm_mAP``), ``"dice"`` or
            ``"dsb_map"``.

    Returns:
        The score; details are AP by category, truths, highest recall and the score threshold with the best F1, or
        COCO's other figures, or Dice by category, or the mean by category and at IoU 0.5 and 0.75.

    Raises:
        InputError: an unknown metric, and what the metric refuses.
    """
    shared = truth.images.has(list(predictions.images.ids))
    n_images = int(shared.sum())
    n_instances = int((predictions.offsets[1:] - predictions.offsets[:-1])[shared].sum())
    if metric == "ap60":
        found = average_precision(truth, predictions, iou_threshold=0.6)
        details = {f"ap60/{name}": value for name, value in found.per_category.items()}
        details["n_truths"] = float(found.n_truths)
        details["max_recall"] = float(found.recall[-1]) if len(found.recall) else 0.0
        curve = score_curve(found.recall, found.precision, found.scores)
        details |= {"best_f1": curve.best_f1, "best_f1_score": curve.best_threshold}
        return Score(metric, found.value, n_images, n_instances, _known(details))
    if metric == "dice":
        found_dice = dice(truth, predictions)
        details = {f"dice/{name}": value for name, value in found_dice.per_category.items()}
        return Score(metric, found_dice.value, n_images, n_instances, _known(details))
    if metric == "coco_segm":
        figures = {
            name: math.nan if value == -1 else value for name, value in coco_segm(truth, predictions).items()
        }
        return Score(metric, figures["segm_mAP"], n_images, n_instances, _known(figures))
    if metric == "dsb_map":
        found_dsb = dsb_map(truth, predictions)
        details = {f"dsb_map/{name}": value for name, value in found_dsb.per_category.items()}
        details |= {f"dsb_{100 * t:.0f}": found_dsb.per_threshold[t] for t in (0.5, 0.75)}
        return Score(metric, found_dsb.value, n_images, n_instances, _known(details))
    raise InputError(f"there is no metric {metric!r} (there are {', '.join(METRICS)})")


def headline(scores: Sequence[Score]) -> float:
    """The mean of the folds' scores, weighted by images; folds without a score (no truth in them) are left
    out.

    Returns:
        NaN if no fold has a score.

    Raises:
        InputError: scores of different metrics.
    """
    metrics = {score.metric for score in scores}
    if len(metrics) > 1:
        raise InputError(f"scores of different metrics have no common mean: {', '.join(sorted(metrics))}")
    known = [score for score in scores if not math.isnan(score.value)]
    n_images = sum(score.n_images for score in known)
    return math.fsum(score.value * score.n_images for score in known) / n_images if n_images else math.nan


def _known(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if not math.isnan(value)}
