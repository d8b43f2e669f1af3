"""The rates of a schedule, as the training's own runner and hooks set them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from hubmap_ml.training.mmdet.batches import EpochOrder
from hubmap_ml.training.mmdet.optimisation import build_optimizer, register_hooks
from hubmap_ml.training.mmdet.runner import EpochRunner


class OneWeight(nn.Module):
    """Learns nothing: what counts is the rate."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def train_step(self, batch: Any, _: Any) -> dict[str, Any]:
        return {"loss": self.weight * 0, "log_vars": {"loss": 0.0}, "num_samples": 1}


class Nothing(Dataset):
    def __getitem__(self, key: tuple[int, int]) -> int:
        return 0


def learning_rates(
    config: dict[str, Any],
    *,
    epoch_length: int,
    epochs: int | None = None,
    after: int = 0,
    scores: Sequence[float] = (),
) -> list[float]:
    """The rate of each iteration.

    Args:
        config: optimizer, lr_config and runner of a member.
        epoch_length: iterations.
        epochs: how many are run; all by default.
        after: how many an interrupted training has done.
        scores: of each epoch, heard at its end.
    """
    rates: list[float] = []
    heard = list(scores[:after])
    model = OneWeight()
    runner = EpochRunner(
        model,
        optimizer=build_optimizer(model, config),
        max_epochs=config["runner"]["max_epochs"],
        device=torch.device("cpu"),
        seed=0,
        on_iteration=lambda values, *_: rates.append(values["lr"]),
        scores=heard,
    )
    register_hooks(runner, config)
    order = EpochOrder(np.zeros(epoch_length, bool), batch=1, seed=0)
    runner.start(
        DataLoader(Nothing(), batch_sampler=order, collate_fn=lambda _: {}),
        epochs_done=after,
        iterations_done=after * epoch_length,
    )
    for _ in range(after, epochs or runner.max_epochs):
        runner.train_epoch()
        heard.extend(scores[runner.epoch - 1 : runner.epoch])
    return rates
