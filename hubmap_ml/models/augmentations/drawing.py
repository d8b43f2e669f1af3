"""What all steps of ours share: draws from a generator of their own."""

import random
from typing import Any

import numpy as np


class Drawing:
    """A step that draws; `TrainPipeline.reseed` starts its generator anew for each sample."""

    def __init__(self, prob: float = 1.0) -> None:
        if isinstance(prob, bool) or not isinstance(prob, int | float) or not 0 <= prob <= 1:
            raise ValueError(f"prob must be from 0 to 1, not {prob!r}")
        self._prob = prob
        self._draws = np.random.default_rng(0)

    def set_random_state(self, draws: np.random.Generator, _: random.Random) -> None:
        """Draw from this generator from now on (the name is albumentations')."""
        self._draws = draws

    def _happens(self) -> bool:
        return bool(self._draws.random() < self._prob)


def image_fields(results: dict[str, Any]) -> list[str]:
    """Keys of a pipeline's results that hold pixels: images, then label maps."""
    return [*results.get("img_fields", ["img"]), *results.get("seg_fields", [])]
