"""The ordered list of steps: read from data, written as data, applied.

The same code serves tuning, evaluation and submission. A new step is a class of `step.Step` in a file of its family and
one line in ``STEPS``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hubmap_ml.fusion import score_order
from hubmap_ml.instances import Category, Images, Masks, PredictionSet
from hubmap_ml.postprocess.classes import ImageClass
from hubmap_ml.postprocess.components import FillHoles, LargestComponent, RemoveSmallComponents
from hubmap_ml.postprocess.filters import MaxArea, MaxPerImage, MinArea, Score
from hubmap_ml.postprocess.masks import MaskThreshold, TightBoxes
from hubmap_ml.postprocess.morphology import Closing, Dilation, Erosion, Opening
from hubmap_ml.postprocess.overlaps import ExcludeInside, NoOverlaps
from hubmap_ml.postprocess.step import Step
from hubmap_ml.postprocess.suppression import Nms, SoftNms
from hubmap_ml.spec import InputError

STEPS: Mapping[str, type[Step]] = {
    step.name: step
    for step in (
        Score, Nms, SoftNms, MaskThreshold, MinArea, MaxArea, FillHoles, LargestComponent, RemoveSmallComponents,
        Opening, Closing, Erosion, Dilation, NoOverlaps, ExcludeInside, ImageClass, MaxPerImage, TightBoxes,
    )
}  # fmt: skip


def parse_steps(data: Sequence[Mapping[str, Any]], where: str = "postprocess") -> tuple[Step, ...]:
    """Read steps from an experiment file's list.

    Args:
        data: mappings of one key, such as ``[{"score": 0.05}, {"nms": {"iou": 0.5, "by": "box"}}]``.
        where: how to name the list in an error.

    Raises:
        InputError: no list, an unknown step or key, a bad value; says what is allowed.

    Example:
        >>> parse_steps([{"score": 0.05}, {"min_area": 40}])
        (Score(threshold=0.05, per_class={}), MinArea(pixels=40.0, per_class={}))
    """
    allowed = ", ".join(STEPS)
    if isinstance(data, str | Mapping) or not isinstance(data, Sequence):
        raise InputError(f"{where} is {data!r}; a list of steps is expected, each one of {allowed}")
    steps = []
    for place, entry in enumerate(data):
        at = f"{where}[{place}]"
        if not isinstance(entry, Mapping) or len(entry) != 1:
            raise InputError(
                f"{at} is {entry!r}; a mapping of one step's name to its value is expected ({allowed})"
            )
        name, value = next(iter(entry.items()))
        if name not in STEPS:
            raise InputError(f"{at}: unknown step {name!r}; allowed: {allowed}")
        steps.append(STEPS[name].parse(value, f"{at}.{name}"))
    return tuple(steps)


def steps_to_data(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return steps as the JSON-able list from which ``parse_steps`` reads them."""
    return [{step.name: step.to_data()} for step in steps]


def apply_steps(predictions: PredictionSet, steps: Sequence[Step]) -> PredictionSet:
    """Apply steps to every image, in their order.

    Args:
        predictions: candidates, in any order.
        steps: as ``parse_steps`` gives them.

    Returns:
        The same images, each one's instances by descending score (ties in the order they came in, or that of their file
        where the set knows it).

    Raises:
        InputError: a step needs masks of another kind, or names a class that the set does not know.
    """
    result = by_descending_score(predictions)
    for step in steps:
        result = step.apply(result)
    return result


def by_descending_score(predictions: PredictionSet) -> PredictionSet:
    """Return the set with each image's instances by descending score; ties as in ``apply_steps``."""
    order = score_order(predictions.scores, predictions.offsets, predictions.file_order)
    return predictions if np.array_equal(order, np.arange(len(order))) else predictions.take(order)


def candidate_steps(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the leading steps on scores and boxes (score, suppression by box, soft suppression).

    They are what a member goes through before it is fused with others: its masks stay soft. Any other step ends them,
    also one that needs no pixels: how many instances an image keeps and of which class is for the fused to say.
    """
    leading: list[Step] = []
    for step in steps:
        if not isinstance(step, Score | SoftNms) and not (isinstance(step, Nms) and step.by == "box"):
            break
        leading.append(step)
    return tuple(leading)


def check_classes(steps: Sequence[Step], class_names: Sequence[str]) -> None:
    """Refuse steps that name a class that there is not, before there is anything to apply them to.

    Args:
        steps: as ``parse_steps`` gives them.
        class_names: of the categories that predictions will have.

    Raises:
        InputError: a class of another name.
    """
    categories = [Category(id=number, name=name) for number, name in enumerate(class_names)]
    nothing = PredictionSet.from_instances(Images.build(ids=[], heights=[], widths=[]), categories, [])
    apply_steps(nothing.replace(masks=Masks.empty()), steps)
