"""Random draws that depend on (seed, epoch, sample) alone, in whichever process they happen.

mmdet's pipelines draw from python's, numpy's and torch's global states. A worker process has its own copies
of these, and mmdet's usual seeding of workers repeats the same draws in each of them and in every epoch (any
version); here each sample seeds all of them for itself and puts them back.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

# Separates the draws of samples, of the order and of the training step, which share seed and epoch.
SAMPLE, ORDER, STEP, INITIAL, RANK_STEP = range(5)


def derived_seed(*key: int) -> int:
    """A 64-bit seed from whole numbers; another for each key, unrelated for neighbouring keys."""
    words = np.random.SeedSequence(list(key)).generate_state(2, np.uint32)
    return int(words[0]) << 32 | int(words[1])


def seed_everything(*key: int) -> None:
    """Seed python, numpy and torch (all devices) of this process."""
    seed = derived_seed(*key)
    random.seed(seed)
    np.random.seed([seed >> 32, seed & 0xFFFFFFFF])  # noqa: NPY002
    torch.manual_seed(seed >> 1)  # torch takes 63 bits


def generator_states() -> dict[str, Any]:
    """The states of python's, numpy's and torch's generators, as tensors and plain values."""
    name, words, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(words, np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_generators(states: Mapping[str, Any]) -> None:
    """Put back what `generator_states` gave."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    name, numbers, *rest = states["numpy"]
    np.random.set_state((name, numbers.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


@contextmanager
def own_draws(*key: int) -> Iterator[int]:
    """Run a block with states of its own, seeded by `key`, and put back those of before; gives the seed."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    seed = derived_seed(*key)
    random.seed(seed)
    np.random.seed([seed >> 32, seed & 0xFFFFFFFF])  # noqa: NPY002
    # The CPU's generator only: torch.manual_seed would reseed GPUs too, and they are not put back.
    torch.random.default_generator.manual_seed(seed >> 1)
    try:
        yield seed
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])
