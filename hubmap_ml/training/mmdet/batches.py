"""Batches: which samples an epoch sees in which order, put together, and brought to the device."""

import signal
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from hubmap_ml.models import use_one_thread
from hubmap_ml.training.mmdet.dataset import TrainingSamples
from hubmap_ml.training.mmdet.draws import ORDER, derived_seed


class EpochOrder(Sampler):
    """Batches of (epoch, number) keys, in an order that depends on (seed, epoch) alone.

    As mmdet's GroupSampler: upright and wide images do not meet in a batch, and the last batch of either
    kind is filled up with images drawn again.

    Args:
        wide: bool (n,), whether each sample is wider than high.
        batch: samples a batch.
        seed: of the training.
        rank, world: this process's number among those that share each batch, and how many they are; each takes
            its part of the batch, in order.
    """

    def __init__(
        self, wide: NDArray[np.bool_], *, batch: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self._groups = [np.flatnonzero(wide == kind) for kind in (False, True)]
        self._batch = batch
        self._seed = seed
        self.epoch = 0
        self.skip = 0  # batches that an interrupted training has seen already
        self._part = slice(rank * batch // world, (rank + 1) * batch // world)

    def __len__(self) -> int:
        return sum(-(-len(group) // self._batch) for group in self._groups)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        draws = np.random.default_rng(derived_seed(self._seed, ORDER, self.epoch))
        batches: list[NDArray[np.int64]] = []
        for group in self._groups:
            if len(group):
                order = draws.permutation(group)
                missing = -len(order) % self._batch
                order = np.concatenate([order, draws.choice(group, missing)])
                batches += np.split(order, len(order) // self._batch)
        for number in draws.permutation(len(batches))[self.skip :]:
            yield [(self.epoch, int(sample)) for sample in batches[number][self._part]]


def open_loader(samples: TrainingSamples, order: EpochOrder, *, workers: int) -> DataLoader:
    """Load an order's batches, in this process or in others that stay for the whole training."""
    return DataLoader(
        samples,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_start_worker if workers else None,
        persistent_workers=workers > 0,
        # Of its own: a loader draws a seed for its workers, whose number must not move the training step's draws
        # (one draw an epoch without workers, one in all with workers that stay).
        generator=torch.Generator(),
        # Forked, also where this process was spawned itself: a spawned worker imports everything anew, nine seconds.
        multiprocessing_context="fork" if workers else None,
    )


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One batch: images padded with zeros at the right and below to a common size, the rest as lists."""
    height = max(sample["img"].shape[1] for sample in samples)
    width = max(sample["img"].shape[2] for sample in samples)
    images = samples[0]["img"].new_zeros((len(samples), 3, height, width))
    for image, sample in zip(images, samples, strict=True):
        image[:, : sample["img"].shape[1], : sample["img"].shape[2]] = sample["img"]
    batch: dict[str, Any] = {key: [sample[key] for sample in samples] for key in samples[0] if key != "img"}
    batch["img"] = images
    return batch


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch with its tensors on the device; masks stay on the CPU, where mmdet crops their targets."""
    if device.type == "cpu":
        return batch
    return {key: _moved(value, device) for key, value in batch.items()}


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, list) and value and isinstance(value[0], Tensor):
        return [item.to(device, non_blocking=True) for item in value]
    return value


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the training decides
    use_one_thread()
