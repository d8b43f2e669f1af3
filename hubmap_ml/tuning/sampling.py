"""Optuna as a proposer of settings: TPE, seeded, in memory."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hubmap_ml.tuning.space import Setting, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_MASK_STEP = "mask_threshold_step"
"""Mask thresholds are known to Optuna by their place on the grid, which keeps their order."""


class Sampler:
    """Proposes settings and learns from their values. A space of fixed values proposes always the same."""

    def __init__(self, space: Space, seed: int) -> None:
        import optuna

        self._space = space
        self._fixed = {name: low for name, (low, high) in space.ranges.items() if low == high}
        if "mask_threshold" in self._fixed:
            self._fixed["mask_threshold"] = space.mask_grid[0]
        self._distributions = _distributions(space)
        with _silent():
            self._study = optuna.create_study(
                direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed)
            )
        self._asked: optuna.Trial | None = None

    def ask(self) -> Setting:
        """Return the next setting."""
        with _silent():
            self._asked = self._study.ask(self._distributions)
        found = dict(self._asked.params)
        if _MASK_STEP in found:
            found["mask_threshold"] = self._space.mask_grid[found.pop(_MASK_STEP)]
        every = {**self._fixed, **found}
        return {name: every[name] for name in self._space.ranges}

    def tell(self, setting: Setting, value: float) -> None:
        """Learn the value of the setting asked for last, or of any other (outside of the space: not learnt)."""
        import optuna

        with _silent():
            if self._asked is not None:
                self._study.tell(self._asked, value)
                self._asked = None
            elif self._space.holds(setting):
                params = {name: setting[name] for name in self._distributions if name in setting}
                if _MASK_STEP in self._distributions:
                    params[_MASK_STEP] = self._space.mask_grid.index(setting["mask_threshold"])
                self._study.add_trial(
                    optuna.create_trial(params=params, distributions=self._distributions, value=value)
                )


def _distributions(space: Space) -> "dict[str, BaseDistribution]":
    from optuna.distributions import FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for name, (low, high) in space.ranges.items():
        if low == high:
            continue
        if name == "mask_threshold":
            found[_MASK_STEP] = IntDistribution(0, len(space.mask_grid) - 1)
        elif name == "min_area":
            found[name] = IntDistribution(math.ceil(low), math.floor(high))
        else:
            found[name] = FloatDistribution(low, high)
    return found


@contextmanager
def _silent() -> Iterator[None]:
    """Keep Optuna from writing a line a trial."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
