"""Scores and pictures of a network in training, through the same inference path that predicts later."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hubmap_ml.data import FileImage, read_image
from hubmap_ml.inference import Network, predict_candidates
from hubmap_ml.instances import Annotations, Images, PredictionSet
from hubmap_ml.metrics import coco_segm, evaluate
from hubmap_ml.postprocess import apply_steps, parse_steps
from hubmap_ml.spec import InputError, Recorder
from hubmap_ml.training.contract import FitData, FitInputs
from hubmap_ml.training.mmdet.ranks import Ranks
from hubmap_ml.viz import truth_and_prediction

# Instances under this score are left out of pictures: a hundred of them on every tile hide what the network
# believes.
OVERLAY_SCORE = 0.3


@dataclass(frozen=True)
class Scores:
    """What an epoch is worth.

    Attributes:
        headline: the score that chooses the best epoch; NaN where the metric has none (no truth at all).
        values: every score by its metric's key, finite ones only.
    """

    headline: float
    values: dict[str, float]


class Validation:
    """Predicts a set of images and scores them.

    Args:
        inputs: metric, configuration and categories.
        data: its `valid` must be there.
        on_image: called before each image; may raise to leave.
        ranks: the processes that share the images; each has all predictions and scores afterwards.
    """

    def __init__(
        self,
        inputs: FitInputs,
        data: FitData,
        on_image: Callable[[], None] = lambda: None,
        ranks: Ranks | None = None,
    ) -> None:
        self._ranks = ranks or Ranks()
        assert data.valid is not None
        if len(data.valid.images) == 0:
            raise InputError("the validation set holds no image: check the folds and the pool")
        self._inputs = inputs
        self._truth = data.valid
        self._steps = parse_steps(inputs.postprocess)  # nothing is tuned while a network learns
        self._root = Path(data.image_root)
        self._tiles = overlay_rows(data.valid, data.overlay_tiles)
        self._on_image = on_image

    def run(
        self, model: nn.Module, device: torch.device, recorder: Recorder, *, epoch: int, name: str = "val"
    ) -> Scores:
        """Score the network and draw some tiles; the network is left in evaluation mode.

        Args:
            model: on `device`.
            device: where it runs.
            recorder: receives the pictures.
            epoch: the step of the pictures.
            name: before the keys of scores and pictures.
        """
        predictions = self.predict(model, device)
        scores = self._scores(predictions, name)
        for number, row in enumerate(self._tiles if self._ranks.first else ()):
            recorder.image(self._picture(row, predictions), key=f"{name}/overlay_{number}", step=epoch)
        return scores

    def predict(self, model: nn.Module, device: torch.device) -> PredictionSet:
        """Final predictions, as bits, of all images."""
        network = Network(
            model=model.eval(),
            config=dict(self._inputs.config),
            categories=self._inputs.categories,
            digest="",
            family="mmdet",
            device=device,
        )
        images = self._truth.images

        mine = range(self._ranks.rank, len(images), self._ranks.world)

        def rows() -> Iterator[tuple[Images, FileImage]]:
            for row in mine:
                self._on_image()
                yield images.take(np.array([row])), FileImage(self._root / images.file_names[row])

        found = (instances for _, instances, _ in predict_candidates(network, rows(), views=("none",)))
        gathered = self._ranks.gathered(dict(zip(mine, found, strict=True)))
        instances = [gathered[row] for row in range(len(images))]
        candidates = PredictionSet.from_instances(
            images, self._inputs.categories, instances, sources=("none",)
        )
        return apply_steps(candidates, self._steps)

    def _scores(self, predictions: PredictionSet, name: str) -> Scores:
        headline = evaluate(self._inputs.metric, self._truth, predictions).value
        values = {f"{name}/{self._inputs.metric}": headline}
        if self._inputs.metric != "ap60":
            values[f"{name}/ap60"] = evaluate("ap60", self._truth, predictions).value
        # pycocotools answers -1 where there is nothing of a size.
        coco = coco_segm(self._truth, predictions)
        values |= {f"{name}_coco/{key}": value for key, value in coco.items() if value >= 0}
        return Scores(headline, {key: float(value) for key, value in values.items() if math.isfinite(value)})

    def _picture(self, row: int, predictions: PredictionSet) -> np.ndarray:
        found = predictions.image(row)
        believed = found.take(np.flatnonzero(found.scores >= OVERLAY_SCORE))
        image = read_image(self._root / self._truth.images.file_names[row])
        caption = str(self._truth.images.ids[row])
        return truth_and_prediction(image, self._truth.image(row), believed, caption=caption)


def overlay_rows(annotations: Annotations, count: int) -> list[int]:
    """Images to draw, evenly spread over those with a truth (over all where none has one)."""
    counts = np.diff(annotations.offsets)
    rows = np.flatnonzero(counts) if counts.any() else np.arange(len(counts))
    picked = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [int(rows[number]) for number in np.unique(picked)]
