"""A learning rate that falls when the validation score no longer rises.

``lr_config = dict(policy="Plateau", factor=0.1, patience=2)``: torch's ``ReduceLROnPlateau`` (``mode="max"``) on the
headline scores of the epochs so far. It follows from these alone, so that an interrupted training needs no state of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mmcv.runner import HOOKS
from mmcv.runner.hooks.lr_updater import LrUpdaterHook

POLICY = "Plateau"


def follows_scores(config: Mapping[str, Any]) -> bool:
    """Whether a member's learning rate depends on its scores."""
    return str((config.get("lr_config") or {}).get("policy", "")).title() == POLICY


@HOOKS.register_module()
class PlateauLrUpdaterHook(LrUpdaterHook):
    """Multiply the rate by ``factor`` after more than ``patience`` epochs without a better score.

    Args:
        factor: in (0, 1).
        patience: epochs without a better score that are borne.
        threshold: a score is better when it is over ``best * (1 + threshold)``.
        cooldown: epochs after a reduction that are not counted.
        min_lr: the floor.
        **options: warm-up, as of all of mmcv's policies.
    """

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not self.by_epoch:
            raise ValueError("a plateau is one of epochs: remove by_epoch")
        if not 0 < factor < 1:
            raise ValueError(f"factor must be over 0 and under 1, not {factor!r}")
        for name, value in (("patience", patience), ("cooldown", cooldown)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be a whole number from 0, not {value!r}")
        self.factor, self.patience, self.threshold = factor, patience, threshold
        self.cooldown, self.min_lr = cooldown, min_lr

    def get_lr(self, runner: Any, base_lr: float) -> float:
        """The rate of the epoch that begins, from ``runner.scores`` of those before it."""
        times = reductions(
            runner.scores, patience=self.patience, threshold=self.threshold, cooldown=self.cooldown
        )
        rate = base_lr
        for _ in range(times):
            rate = max(rate * self.factor, self.min_lr)
        return rate


def reductions(scores: Sequence[float], *, patience: int, threshold: float, cooldown: int) -> int:
    """How often a rate was reduced after these epochs; a score that is no number is no better one."""
    best, waited, cooling, times = float("-inf"), 0, 0, 0
    for score in scores:
        if score > best * (1 + threshold):
            best, waited = score, 0
        else:
            waited += 1
        if cooling > 0:
            cooling, waited = cooling - 1, 0
        if waited > patience:
            times, cooling, waited = times + 1, cooldown, 0
    return times
