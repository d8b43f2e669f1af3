"""A member's optimiser and schedule, made by mmcv's builders: parameter groups, and the hooks that step them."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import mmdet.core  # noqa: F401  (registers mmdet's hooks and optimiser constructors)
import torch
from mmcv.runner import (
    Fp16OptimizerHook,
    GradientCumulativeFp16OptimizerHook,
    GradientCumulativeOptimizerHook,
    Hook,
    wrap_fp16_model,
)
from mmcv.runner import build_optimizer as build_registered
from torch import nn

import hubmap_ml.training.mmdet.layer_decay
import hubmap_ml.training.mmdet.plateau  # noqa: F401  (registers its policy)
from hubmap_ml.spec import InputError
from hubmap_ml.training.mmdet.averaging import WeightAverage
from hubmap_ml.training.mmdet.freezing import Freezing
from hubmap_ml.training.mmdet.loss_schedule import LossSchedule
from hubmap_ml.training.mmdet.runner import EpochRunner


def build_optimizer(model: nn.Module, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Build a member's optimiser over a network's parameters.

    Raises:
        InputError: an unknown type, or arguments that it does not take.
    """
    try:
        return build_registered(model, copy.deepcopy(dict(config["optimizer"])))
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise InputError(
            f"the member's optimizer cannot be built: {type(error).__name__}: {error}"
        ) from error


def group_table(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """What is learned how fast: one row for each pair of learning rate and weight decay, the slowest first.

    Returns:
        Rows of ``lr``, ``weight_decay``, ``tensors`` and ``values`` (counts), and the name of the ``first``
        parameter; a last row without a learning rate for the frozen ones, if there are any.
    """
    names = {id(value): name for name, value in model.named_parameters()}
    rows: dict[tuple[float, float], list[nn.Parameter]] = {}
    for group in optimizer.param_groups:
        trained = [value for value in group["params"] if value.requires_grad]
        if trained:
            rows.setdefault((group["lr"], group.get("weight_decay", 0.0)), []).extend(trained)
    table = [
        {"lr": lr, "weight_decay": decay, **_counts(values, names)}
        for (lr, decay), values in sorted(rows.items())
    ]
    frozen = [value for value in model.parameters() if not value.requires_grad]
    if frozen:
        table.append({"lr": None, "weight_decay": None, **_counts(frozen, names)})
    return table


def _counts(values: list[nn.Parameter], names: Mapping[int, str]) -> dict[str, Any]:
    return {
        "tensors": len(values),
        "values": sum(value.numel() for value in values),
        "first": names[id(values[0])],
    }


def own_hooks(model: nn.Module, config: Mapping[str, Any]) -> tuple[WeightAverage | None, list[Hook]]:
    """The moving average of the weights, and all hooks of ours, that a member asks for."""
    average = None
    if config.get("ema") is not None:
        gathered = (config.get("optimizer_config") or {}).get("cumulative_iters", 1)
        average = WeightAverage(model, **config["ema"], every=gathered)
    hooks: list[Hook] = [] if average is None else [average]
    if config.get("freeze") is not None:
        hooks.append(Freezing(model, **config["freeze"]))
    if config.get("loss_weights") is not None:
        hooks.append(LossSchedule(model, config["loss_weights"]))
    return average, hooks


def register_hooks(
    runner: EpochRunner,
    config: Mapping[str, Any],
    half: Mapping[str, Any] | None = None,
    own: Iterable[Hook] = (),
) -> Fp16OptimizerHook | None:
    """Register mmcv's hooks for the schedule, the optimiser's step and what the member asks for beside them.

    Args:
        runner: not started yet.
        config: the member's configuration.
        half: options of half precision; None trains in single precision.
        own: hooks of ours, called after the optimiser's step.

    Returns:
        The half-precision hook, whose loss scale is part of the training's state; None in single precision.

    Raises:
        InputError: an unknown policy, or arguments that it does not take.
    """
    optimizer_config = dict(copy.deepcopy(config.get("optimizer_config") or {}))
    hook = None
    try:
        if half is not None:
            wrap_fp16_model(runner.model)
            several = optimizer_config.pop("type", None) == GradientCumulativeOptimizerHook.__name__
            kind = GradientCumulativeFp16OptimizerHook if several else Fp16OptimizerHook
            hook = kind(**optimizer_config, **half, distributed=False)
        runner.register_training_hooks(
            lr_config=copy.deepcopy(config.get("lr_config")) or {"policy": "fixed"},
            optimizer_config=optimizer_config if hook is None else hook,
            momentum_config=copy.deepcopy(config.get("momentum_config")),
            timer_config=None,
            custom_hooks_config=copy.deepcopy(list(config.get("custom_hooks") or ())) or None,
        )
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise InputError(f"the member's schedule cannot be built: {type(error).__name__}: {error}") from error
    for item in own:
        runner.register_hook(item)
    return hook
