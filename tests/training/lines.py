"""A model of two numbers on a few points, and the training's own runner around it: enough for an optimiser's step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmcv.runner import Fp16OptimizerHook
from torch import nn
from torch.utils.data import DataLoader, Dataset

from hubmap_ml.training.mmdet.batches import EpochOrder
from hubmap_ml.training.mmdet.optimisation import build_optimizer, own_hooks, register_hooks
from hubmap_ml.training.mmdet.runner import EpochRunner


class Line(nn.Module):
    """A line through points; the loss is the mean over the batch, times a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, -0.25], dtype=torch.float64))
        self._factor = factor

    def train_step(self, batch: dict[str, Any], _: Any) -> dict[str, Any]:
        x = batch["x"]
        loss = ((self.weight[0] * x + self.weight[1] - x.sin()) ** 2).mean() * self._factor
        return {"loss": loss, "log_vars": {"loss": loss.item()}, "num_samples": len(x)}


class Points(Dataset):
    def __getitem__(self, key: tuple[int, int]) -> float:
        return key[1] / 4


class _InOrder(EpochOrder):
    batches: Sequence[list[tuple[int, int]]] = ()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return iter(self.batches)


def opened(
    model: nn.Module,
    config: dict[str, Any],
    *,
    batch: int = 4,
    half: Mapping[str, Any] | None = None,
    said: list[dict[str, float]] | None = None,
) -> tuple[EpochRunner, Fp16OptimizerHook | None]:
    """A runner about to see 16 points in order, and its half-precision hook; it says to `said` what it has to say."""
    heard = [] if said is None else said
    _, own = own_hooks(model, config)
    runner = EpochRunner(
        model,
        optimizer=build_optimizer(model, config),
        max_epochs=1,
        device=torch.device("cpu"),
        seed=0,
        on_iteration=lambda values, *_: heard.append(values),
    )
    hook = register_hooks(runner, config, half, own)
    order = _InOrder(np.zeros(16, bool), batch=batch, seed=0)
    order.batches = [[(0, sample) for sample in range(start, start + batch)] for start in range(0, 16, batch)]
    collated = {"batch_sampler": order, "collate_fn": lambda parts: {"x": torch.tensor(parts).double()}}
    runner.start(DataLoader(Points(), **collated))
    return runner, hook
