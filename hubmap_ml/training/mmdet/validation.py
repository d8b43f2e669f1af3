"""Scores and pictures of a network in training, through the same inference path that predicts later."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hubmap_ml.data import FileImage, read_image
from hubmap_ml.inference import Network, predict_candidates
from hubmap_ml.instances import Annotations, Images, PredictionSet
from hubmap_ml.metrics import coco_segm, evaluate, found_from, sort_detections
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
        self._draw(predictions, recorder, epoch, name)
        return scores

    def before_training(self, model: nn.Module, device: torch.device, recorder: Recorder) -> None:
        """Draw the tiles as the network sees them before it learns, as epoch 0: where MLflow's slider begins."""
        if len(self._tiles):
            self._draw(self.predict(model, device, self._tiles), recorder, 0, "val")

    def predict(
        self, model: nn.Module, device: torch.device, rows: Sequence[int] | None = None
    ) -> PredictionSet:
        """Final predictions, as bits, of all images, or of some (whose drawing may not be interrupted)."""
        network = Network(
            model=model.eval(),
            config=dict(self._inputs.config),
            categories=self._inputs.categories,
            digest="",
            family="mmdet",
            device=device,
        )
        whole = self._truth.images
        images = whole if rows is None else whole.take(np.asarray(rows, np.int64))
        mine = range(self._ranks.rank, len(images), self._ranks.world)

        def looked_at() -> Iterator[tuple[Images, FileImage]]:
            for row in mine:
                if rows is None:
                    self._on_image()
                yield images.take(np.array([row])), FileImage(self._root / images.file_names[row])

        found = (instances for _, instances, _ in predict_candidates(network, looked_at(), views=("none",)))
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

    def _draw(self, predictions: PredictionSet, recorder: Recorder, epoch: int, name: str) -> None:
        """Draw truth, prediction and errors of the tiles; the first rank does."""
        if not self._ranks.first or not len(self._tiles):
            return
        believed = predictions.take(np.flatnonzero(predictions.scores >= OVERLAY_SCORE))
        believed = believed.take_images(believed.images.rows_of(list(self._truth.images.ids[self._tiles])))
        truth = self._truth.take(np.flatnonzero(~self._truth.iscrowd))  # crowds are neither found nor missed
        found = sort_detections(self._truth, believed, iou_threshold=found_from(self._inputs.metric))
        for number, row in enumerate(self._tiles):
            mine = slice(int(found.predictions.offsets[number]), int(found.predictions.offsets[number + 1]))
            begin, end = int(found.truth.offsets[number]), int(found.truth.offsets[number + 1])
            seen = np.cumsum(~found.truth.iscrowd[begin:end]) - 1
            finds = [int(seen[one - begin]) if one >= 0 else -1 for one in found.finds[mine]]
            picture = truth_and_prediction(
                read_image(self._root / self._truth.images.file_names[row]),
                truth.image(row),
                found.predictions.image(number),
                kinds=found.kinds[mine],
                finds=finds,
                caption=str(self._truth.images.ids[row]),
            )
            recorder.image(picture, key=f"{name}/overlay_{number}", step=epoch)


def overlay_rows(annotations: Annotations, count: int) -> list[int]:
    """Images to draw, evenly spread over those with a truth (over all where none has one)."""
    counts = np.diff(annotations.offsets)
    rows = np.flatnonzero(counts) if counts.any() else np.arange(len(counts))
    picked = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [int(rows[number]) for number in np.unique(picked)]
