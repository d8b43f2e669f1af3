"""What every trainer takes and gives, whatever it trains with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from hubmap_ml.instances import Annotations, Category
from hubmap_ml.spec import InputError, Recorder

DEFAULT_STEPS: Sequence[Mapping[str, Any]] = (
    {"nms": {"iou": 0.5, "by": "box"}},
    {"mask_threshold": 0.5},
    {"max_per_image": 100},
)


@dataclass(frozen=True)
class FitInputs:
    """What decides a training's outcome, besides the data.

    Attributes:
        config: the member's configuration, plain data.
        categories: the classes, in the order of the labels.
        seed: of every draw.
        metric: which score chooses the best epoch (``ap60``, ``coco_segm``, ``dice`` or ``dsb_map``).
        postprocess: steps between candidates and the scores after each epoch, as data.
        init_weights: a checkpoint folder, or a file of published weights, to start from; None starts from the
            network's own initialisation.
    """

    config: Mapping[str, Any]
    categories: tuple[Category, ...]
    seed: int
    metric: str = "ap60"
    postprocess: Sequence[Mapping[str, Any]] = DEFAULT_STEPS
    init_weights: Path | None = None


@dataclass(frozen=True)
class FitData:
    """The data of a training, and how it is worked through; the latter changes no weight.

    Attributes:
        train: images with their truth.
        valid: images that are scored after each epoch; None scores nothing.
        image_root: where `file_names` start.
        workers: processes that load images; 0 loads in the training's own.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        overlay_tiles: how many validation images are drawn after each epoch.
        save_every: iterations between two checkpoints inside an epoch; 0 for none.
    """

    train: Annotations
    valid: Annotations | None
    image_root: Path
    workers: int = 0
    device: str = "cpu"
    overlay_tiles: int = 4
    save_every: int = 200


@dataclass(frozen=True)
class FitResult:
    """What a training leaves.

    Attributes:
        best: checkpoint folder of the epoch with the highest score (the first of equals); the last where nothing was
            scored.
        last: checkpoint folder of the last epoch, with the state to continue from.
        best_epoch: counted from 1.
        history: one mapping an epoch: ``epoch``, ``train/...`` means, ``val/...`` scores, ``time/...``
            seconds.
        headline: the score of each epoch's weights, as the last checkpoint has them; NaN where there was none.
        best_score: of the best epoch; over its headline where two models are scored and the other was better.
        notes: what a reader should know (fp16 dropped, images left out).
        load_report: what became of `init_weights`' tensors; None without.
    """

    best: Path
    last: Path
    best_epoch: int
    history: Sequence[Mapping[str, float]]
    headline: Sequence[float]
    best_score: float
    notes: Sequence[str] = field(default_factory=tuple)
    load_report: Mapping[str, Sequence[str] | Mapping[str, str]] | None = None


@dataclass(frozen=True)
class TrainingCost:
    """What a few iterations of a training showed.

    Attributes:
        epoch_length: iterations of an epoch of the whole training.
        iterations: how many were timed, after as many that warmed up.
        iteration_s: mean seconds an iteration, the wait for its batch included.
        valid_image_s: mean seconds an image of the validation after an epoch; 0 without one.
        device_mib: highest memory in use on the GPU, in MiB; NaN on a CPU.
        weights_bytes: size of the weights' file.
        state_bytes: size of what a checkpoint keeps beside them to go on from.
        checkpoint: the folder of the network that it left.
    """

    epoch_length: int
    iterations: int
    iteration_s: float
    valid_image_s: float
    device_mib: float
    weights_bytes: int
    state_bytes: int
    checkpoint: Path


class Trainer(Protocol):
    """Fits a member."""

    def __call__(
        self, inputs: FitInputs, data: FitData, recorder: Recorder, resume_from: Path | None = None
    ) -> FitResult:
        """Train, evaluating after each epoch.

        Args:
            inputs: what decides the outcome.
            data: what to learn from.
            recorder: hears about losses, scores and pictures; its folder receives the checkpoints.
            resume_from: the last checkpoint of an interrupted training with the same inputs: continues where it
                was written, at an epoch's end or inside one, and takes over the metrics up to there from the
                recorder's folder that it lies in.

        Raises:
            InputError: inputs or data that cannot be trained with, or a training that diverged.
            Interrupted: Ctrl-C or SIGTERM; the checkpoint to go on from is written.
        """


TRAINERS: Mapping[str, str] = {"mmdet": "hubmap_ml.training.mmdet"}
"""Where each trainer lives."""


def open_trainer(name: str) -> Trainer:
    """Import a trainer by its name in an experiment file.

    Raises:
        InputError: no such trainer.
    """
    fit: Trainer = _module(name).fit
    return fit


def check_resumable(name: str, checkpoint: Path, inputs: FitInputs) -> None:
    """Read all of a checkpoint that a trainer is to go on from.

    Args:
        name: of the trainer.
        checkpoint: the folder.
        inputs: of the training.

    Raises:
        InputError: it is missing, damaged, or of a training with other inputs.
    """
    _module(name).check_resumable(checkpoint, inputs)


def measure_cost(
    name: str, inputs: FitInputs, data: FitData, folder: Path, *, iterations: int, share: int = 1
) -> TrainingCost:
    """Find out what a training costs, by a few iterations on some of its data.

    Args:
        name: of the trainer.
        inputs: of the whole training; the weights that it starts from are not needed.
        data: of the whole training.
        folder: an empty one, for what is left.
        iterations: how many are timed.
        share: processes that share a batch; the part of one of them is worked on.

    Raises:
        InputError: inputs or data that cannot be trained with.
    """
    found: TrainingCost = _module(name).measure(inputs, data, folder, iterations=iterations, share=share)
    return found


def _module(name: str) -> Any:
    if name not in TRAINERS:
        raise InputError(f"trainer {name!r} is not known; there are {', '.join(TRAINERS)}")
    return import_module(TRAINERS[name])
