"""What an experiment will cost: a few measured figures, multiplied by iterations, epochs, images and networks.

Pure arithmetic; `plan` measures. Hours are those of one training after the other, on the device that was measured.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hubmap_ml.spec.reference_costs import ReferenceCost

WHOLE_COPIES = 4
"""Checkpoints with all their state while a training goes on: the last and the one before it, in the work folder and
among the artifacts."""


@dataclass(frozen=True)
class Measured:
    """What a process showed that trained a few iterations, and predicted an image where there was one to predict.

    Attributes:
        iterations: how many were timed.
        iteration_s: seconds each.
        valid_image_s: seconds an image of the validation after an epoch.
        predict_image_s: seconds an image with all views and scales; NaN where nothing was predicted.
        process_mib: peak memory of the process.
        device_mib: peak memory of the GPU; NaN on a CPU.
        weights_bytes, state_bytes: of a checkpoint: its weights, and what it keeps beside them to go on from.
    """

    iterations: int
    iteration_s: float
    valid_image_s: float
    predict_image_s: float
    process_mib: float
    device_mib: float
    weights_bytes: int
    state_bytes: int

    @property
    def memory_mib(self) -> float:
        """Memory on the device: of the GPU, or of the process on a CPU."""
        return self.process_mib if math.isnan(self.device_mib) else self.device_mib


@dataclass(frozen=True)
class Row:
    """One stage of a member: how much of it there is, and what was measured of it.

    Attributes:
        trainings: networks that it trains; 0 where another row's are the same.
        epochs, epoch_length: of each training; iterations an epoch.
        valid_images: scored after each epoch.
        predicted_images: by all networks together, held-out and test images.
        kept: checkpoints that a finished training leaves in the store.
        measured: None where the process failed.
        note: why there is nothing to do, or what went wrong.
        reference: what the training cost elsewhere; None where that is not known.
    """

    member: str
    stage: str
    trainings: int
    epochs: int
    epoch_length: int
    valid_images: int
    predicted_images: int
    kept: int
    measured: Measured | None
    note: str = ""
    reference: ReferenceCost | None = None

    @property
    def training_s(self) -> float:
        """Seconds of one training: all iterations, and the validation after each epoch."""
        if self.measured is None:
            return math.nan
        a_epoch = self.epoch_length * self.measured.iteration_s
        return self.epochs * (a_epoch + self.valid_images * self.measured.valid_image_s)

    @property
    def predicting_s(self) -> float:
        """Seconds of all predictions."""
        if not self.predicted_images:
            return 0.0
        return math.nan if self.measured is None else self.predicted_images * self.measured.predict_image_s

    @property
    def seconds(self) -> float:
        """Of all trainings and predictions of this stage; NaN where it could not be measured."""
        return (self.trainings * self.training_s if self.trainings else 0.0) + self.predicting_s

    @property
    def disk_bytes(self) -> float:
        """What all trainings leave in the store."""
        if not self.trainings:
            return 0.0
        return math.nan if self.measured is None else self.trainings * self.kept * self.measured.weights_bytes

    @property
    def working_bytes(self) -> float:
        """What one training needs beside that while it goes on; the best epoch's weights lie in the work folder too."""
        if not self.trainings:
            return 0.0
        if self.measured is None:
            return math.nan
        return WHOLE_COPIES * (self.measured.weights_bytes + self.measured.state_bytes) + (
            self.measured.weights_bytes
        )

    def to_data(self) -> dict[str, Any]:
        """Return all of it as JSON-able data; what is not known is None."""
        told = asdict(self) | {"reference": None if self.reference is None else self.reference.model_dump()}
        if self.measured is not None:
            told["measured"] = _known(asdict(self.measured) | {"memory_mib": self.measured.memory_mib})
        figures = {"hours_each": self.training_s / 3600, "hours": self.seconds / 3600}
        disk = {"disk_gb": self.disk_bytes / 1e9, "working_gb": self.working_bytes / 1e9}
        return told | {"extrapolated": _known(figures | disk)}


@dataclass(frozen=True)
class Total:
    """Several rows together.

    Attributes:
        hours: one after the other.
        memory_mib: the most that any of them needs.
        disk_gb: what stays, and what the largest training needs beside it.
        missing: rows that could not be measured and are in none of these.
    """

    hours: float
    memory_mib: float
    disk_gb: float
    missing: int

    def to_data(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return asdict(self)


def total(rows: Sequence[Row]) -> Total:
    """Add up rows."""
    known = [row for row in rows if not math.isnan(row.seconds)]
    working = max((row.working_bytes for row in known), default=0.0)
    return Total(
        hours=sum(row.seconds for row in known) / 3600,
        memory_mib=max((row.measured.memory_mib for row in known if row.measured is not None), default=0.0),
        disk_gb=(sum(row.disk_bytes for row in known) + working) / 1e9,
        missing=len(rows) - len(known),
    )


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in values.items()
    }
