"""mmcv's epoch runner, without its pauses, with a guard against losses that are no numbers.

mmcv's own `EpochBasedRunner` (1.7) sleeps two seconds an epoch and one at the end, against a deadlock of
loaders that are started anew for every epoch; ours stay. Hooks for learning rate, momentum and optimiser are
mmcv's.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from mmcv.runner import EpochBasedRunner, GradientCumulativeOptimizerHook
from torch import nn
from torch.utils.data import DataLoader

from hubmap_ml.spec import InputError
from hubmap_ml.training.mmdet.batches import to_device
from hubmap_ml.training.mmdet.draws import RANK_STEP, STEP, restore_generators, seed_everything

log = logging.getLogger(__name__)

# A single bad batch happens (and is passed over); three running mean that the weights are gone or going.
NON_FINITE_LIMIT = 3

IterationListener = Callable[[dict[str, float], int, float, float], None]
EndListener = Callable[[int], None]


class EpochRunner(EpochBasedRunner):
    """Runs one epoch after the other.

    Args:
        model: the detector, on `device`.
        optimizer: over its parameters.
        max_epochs: when learning rate policies end.
        device: where batches go.
        seed: of the training.
        on_iteration: hears after each iteration the loss parts and learning rate, the number of iterations
            done, and the seconds of the iteration and of those the wait for its batch.
        on_end: called after it with the iterations done of this epoch; a place to write a checkpoint, or to leave.
        rank: this process's number among those that train together.
        scores: the headline of each epoch so far, for policies that follow it; the caller's list, which grows.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: torch.optim.Optimizer,
        max_epochs: int,
        device: torch.device,
        seed: int,
        on_iteration: IterationListener,
        on_end: EndListener | None = None,
        rank: int = 0,
        scores: Sequence[float] = (),
    ) -> None:
        # The half-precision hook writes into `meta` and fails where there is none.
        super().__init__(model, optimizer=optimizer, logger=log, max_epochs=max_epochs, meta={})
        self._device = device
        # Rank 0 of several draws what a training of its own draws.
        self._draws = (seed, STEP) if rank == 0 else (seed, RANK_STEP, rank)
        self._on_iteration = on_iteration
        self._on_end = on_end
        self.scores = scores
        self.non_finite: list[int] = []

    def start(self, loader: DataLoader, *, epochs_done: int = 0, iterations_done: int = 0) -> None:
        """Tell the hooks that a run begins, after `epochs_done` epochs of an earlier one."""
        self.data_loader = loader
        self._epoch, self._iter = epochs_done, iterations_done
        self._max_iters = self._max_epochs * len(loader)
        self.call_hook("before_run")
        for hook in self.hooks:
            if isinstance(hook, GradientCumulativeOptimizerHook):
                # It counts from where it began; it began at the first iteration, whoever went on from there.
                hook.divisible_iters = self._max_iters // hook.cumulative_iters * hook.cumulative_iters
                hook.remainder_iters = self._max_iters - hook.divisible_iters
                hook.initialized = True

    @property
    def can_be_saved(self) -> bool:
        """Whether the state is whole: no gradients are being gathered over several iterations."""
        steps = [
            hook.cumulative_iters for hook in self.hooks if isinstance(hook, GradientCumulativeOptimizerHook)
        ]
        return all(self.iter % step == 0 for step in steps)

    def train_epoch(self, *, skip: int = 0, generators: Mapping[str, Any] | None = None) -> None:
        """Train one epoch; scoring and saving are the caller's.

        Args:
            skip: iterations of it that an interrupted training has done.
            generators: states of the generators after them (`draws.generator_states`).

        Raises:
            InputError: `NON_FINITE_LIMIT` losses in a row were not finite.
        """
        loader = self.data_loader
        loader.batch_sampler.epoch = self.epoch
        loader.batch_sampler.skip = skip
        # mmdet's samplers of regions, dropout and the like draw from the global states.
        seed_everything(*self._draws, self.epoch)
        self.model.train()
        self.mode = "train"
        self.call_hook("before_train_epoch")
        before = time.perf_counter()
        for number, batch in enumerate(_said_plainly(loader), skip):
            if generators is not None:
                restore_generators(generators)
                generators = None
            self._inner_iter = number
            self.data_batch = to_device(batch, self._device)
            loaded = time.perf_counter()
            self.call_hook("before_train_iter")
            self._step(self.data_batch)
            del self.data_batch
            self._iter += 1
            after = time.perf_counter()
            self._on_iteration(self._spoken(), self._iter, after - before, loaded - before)
            if self._on_end is not None:
                self._on_end(number + 1)
            before = time.perf_counter()
        self.call_hook("after_train_epoch")
        self._epoch += 1

    def finish(self) -> None:
        """Tell the hooks that the run is over."""
        self.call_hook("after_run")

    def _step(self, batch: dict[str, Any]) -> None:
        self.outputs = self.model.train_step(batch, self.optimizer)
        if math.isfinite(float(self.outputs["log_vars"]["loss"])):  # the mean of all ranks' losses
            self.non_finite.clear()
            self.call_hook("after_train_iter")  # the optimiser's step is a hook
            return
        self.non_finite.append(self.iter + 1)
        if len(self.non_finite) >= NON_FINITE_LIMIT:
            which = ", ".join(map(str, self.non_finite))
            raise InputError(
                f"training stopped: the loss was not finite in iterations {which} (epoch {self.epoch + 1}); "
                "lower optimizer.lr, warm up longer or clip gradients (optimizer_config.grad_clip)"
            )
        log.warning("iteration %d: the loss is not finite; its batch changes no weight", self.iter + 1)

    def _spoken(self) -> dict[str, float]:
        """What this iteration has to say: loss parts, gradient norm if clipped, learning rate of the first
        group.
        """
        values = dict(self.outputs["log_vars"])
        for (
            key,
            history,
        ) in self.log_buffer.val_history.items():  # hooks such as gradient clipping write there
            values[key] = history[-1]
        self.log_buffer.clear()
        values["lr"] = self.optimizer.param_groups[0]["lr"]
        return {key: float(value) for key, value in values.items()}


def _said_plainly(loader: DataLoader) -> Iterator[dict[str, Any]]:
    """The loader's batches; bad input met in a loading process comes as the line it was, not wrapped in a traceback."""
    try:
        yield from loader
    except InputError as error:
        # torch raises the worker's error anew with its formatted traceback as the message.
        raise InputError(str(error).rpartition("InputError: ")[2]) from error
