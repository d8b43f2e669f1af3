"""A member's ``loss_weights`` at work: each term of the loss is multiplied on its way from the network to the sum."""

from collections.abc import Mapping
from typing import Any

from mmcv.runner import Hook
from torch import nn

from hubmap_ml.spec import InputError
from hubmap_ml.spec.loss_weights import rule_of, weight_at


class LossSchedule(Hook):
    """Weighs what the network gives in training; what is logged of a term is what enters the sum.

    Args:
        model: the detector; its forward pass gives the terms by name.
        rules: see `hubmap_ml.spec.loss_weights`.
    """

    def __init__(self, model: nn.Module, rules: Mapping[str, Any]) -> None:
        self._rules = rules
        self._now: dict[str, float] = {}
        self._unused = set(rules)
        model.register_forward_hook(self._weighed)

    def before_train_iter(self, runner: Any) -> None:
        """Look up this iteration's weights, and have them logged as ``loss_weight/NAME``."""
        self._now = {
            name: weight_at(
                rule,
                epoch=runner.epoch,
                epochs=runner.max_epochs,
                iteration=runner.iter,
                iterations=runner.max_iters,
            )
            for name, rule in self._rules.items()
        }
        runner.log_buffer.update({f"loss_weight/{name}": value for name, value in self._now.items()})

    def _weighed(self, model: nn.Module, _: Any, terms: Any) -> Any:
        if not model.training:
            return None
        found = {term: rule_of(term, self._rules) for term in terms if "loss" in term}
        self._unused -= set(found.values())
        if self._unused:
            raise InputError(
                f"loss_weights.{min(self._unused)} stands for no term of the loss; there are {', '.join(found)}"
            )
        return {
            term: _times(value, self._now[name]) if (name := found.get(term)) is not None else value
            for term, value in terms.items()
        }


def _times(value: Any, weight: float) -> Any:
    return [item * weight for item in value] if isinstance(value, list) else value * weight
