"""The moving average of a training's weights (EMA): a second model, often the better one, that is never trained itself.

As mmdet's ``ExpMomentumEMAHook`` over parameters and buffers, but beside the network instead of inside it: the network
keeps its names, and a frozen weight stays what it was to the last bit.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmcv.runner import Hook
from torch import Tensor, nn


class WeightAverage(Hook):
    """After each step of the optimiser ``average += m (weights - average)``, from the weights that were there first.

    ``m = momentum + (1 - momentum) exp(-(1 + i) / warm_up)`` in iteration ``i`` (from 0): with a warm-up the first
    weights are soon forgotten. What is no floating-point number (a count of batches) is the network's present one.

    Args:
        model: whose parameters and buffers are averaged; needs their memory once more.
        momentum: share of the present weights, in (0, 1).
        warm_up: iterations; 0 has the momentum at once.
        every: iterations whose gradients are gathered for one step.
    """

    def __init__(self, model: nn.Module, momentum: float, warm_up: int = 0, *, every: int = 1) -> None:
        self._model = model
        self._momentum = momentum
        self._warm_up = warm_up
        self._every = every
        self.values = self._copies()

    def after_train_iter(self, runner: object) -> None:
        """Follow the weights; mmcv calls it after the optimiser's hook."""
        if not (self.every_n_iters(runner, self._every) or self.is_last_iter(runner)):
            return
        momentum = self._momentum_at(runner.iter)  # type: ignore[attr-defined]
        with torch.no_grad():
            for name, value in self._model.state_dict().items():
                if value.dtype.is_floating_point:
                    self.values[name].lerp_(value, momentum)
                else:
                    self.values[name].copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[dict[str, Tensor]]:
        """Let the network have the averages inside the block; gives the weights that it is trained with, by name."""
        self._swap()
        try:
            yield self.values
        finally:
            self._swap()

    def restore(self, trained: dict[str, Tensor]) -> None:
        """Go on from a checkpoint: the network holds the averages, and is trained on from these weights."""
        self.values = self._copies()
        self._model.load_state_dict(trained)

    def _copies(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self._model.state_dict().items()}

    def _swap(self) -> None:
        with torch.no_grad():
            for name, value in self._model.state_dict().items():
                trained = value.clone()
                value.copy_(self.values[name])
                self.values[name].copy_(trained)

    def _momentum_at(self, iteration: int) -> float:
        if self._warm_up == 0:
            return self._momentum
        return self._momentum + (1 - self._momentum) * math.exp(-(1 + iteration) / self._warm_up)
