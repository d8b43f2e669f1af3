"""What the training of a detector costs, measured: a few iterations of it, with all that belongs to one."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import torch

from hubmap_ml.models import open_device
from hubmap_ml.models.checkpoints import RESUME, WEIGHTS
from hubmap_ml.models.detectors import without_pretrained
from hubmap_ml.spec import NullRecorder
from hubmap_ml.training.contract import FitData, FitInputs, TrainingCost
from hubmap_ml.training.mmdet.batches import EpochOrder
from hubmap_ml.training.mmdet.dataset import filter_images
from hubmap_ml.training.mmdet.trainer import fit

VALID_IMAGES = 2
SCHEDULES = ("lr_config", "momentum_config", "loss_weights")
"""What says something of each epoch; it changes no cost, and there are other epochs here."""


def measure(inputs: FitInputs, data: FitData, folder: Path, *, iterations: int, share: int) -> TrainingCost:
    """Train two short epochs, of which the first only warms up; see `hubmap_ml.training.measure_cost`.

    Weights are random and the learning rate is 0: neither changes what an iteration costs.
    """
    config = without_pretrained(inputs.config)
    rows = filter_images(data.train).rows
    wide = data.train.images.widths[rows] > data.train.images.heights[rows]
    whole, repeat = int(config["batch"]["global"]), int(config["batch"].get("repeat", 1))
    epoch_length = len(EpochOrder(np.tile(wide, repeat), batch=whole, seed=inputs.seed))
    batch = math.ceil(whole / share)
    some = rows[: iterations * batch]
    short = {
        **{key: value for key, value in config.items() if key not in SCHEDULES},
        "optimizer": {**config["optimizer"], "lr": 0.0},
        "runner": {**config["runner"], "max_epochs": 2},
        "batch": {"global": batch, "repeat": math.ceil(iterations * batch / len(some))},
    }
    valid = data.valid
    if valid is not None:
        valid = valid.take_images(np.arange(min(VALID_IMAGES, len(valid.images))))
    few = dataclasses.replace(
        data, train=data.train.take_images(some), valid=valid, overlay_tiles=0, save_every=0
    )
    device = open_device(data.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    result = fit(
        dataclasses.replace(inputs, config=short, init_weights=None), few, NullRecorder(folder / "training")
    )
    measured = result.history[-1]
    return TrainingCost(
        epoch_length=epoch_length,
        iterations=iterations,
        iteration_s=measured["time/iteration_s"],
        valid_image_s=0.0 if valid is None else measured["time/epoch_valid_s"] / len(valid.images),
        device_mib=torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else math.nan,
        weights_bytes=(result.last / WEIGHTS).stat().st_size,
        state_bytes=(result.last / RESUME).stat().st_size,
        checkpoint=result.last,
    )
