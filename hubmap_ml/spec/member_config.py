"""What a member's configuration may say, and what belongs to the platform.

A member is an mmdet configuration reduced to what makes it a recipe: model, pipelines, optimiser, schedule.
Data, classes, starting weights, seed, hooks and evaluation come from the experiment. The check needs neither
torch nor mmdet, so that a typing error shows before anything is loaded.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from hubmap_ml.spec.errors import InputError
from hubmap_ml.spec.loss_weights import check_loss_weights

MEMBER_KEYS = (
    "model",
    "train_pipeline",
    "test_pipeline",
    "optimizer",
    "optimizer_config",
    "lr_config",
    "momentum_config",
    "runner",
    "fp16",
    "batch",
    "custom_hooks",
    "ema",
    "loss_weights",
    "freeze",
)
REQUIRED_KEYS = ("model", "train_pipeline", "test_pipeline", "optimizer", "runner", "batch")

PLATFORM_KEYS: Mapping[str, str] = {
    "data": "images and annotations come from the experiment's data section",
    "data_root": "images come from the experiment's data section",
    "dataset_type": "images and annotations come from the experiment's data section",
    "classes": "the classes are the data's categories",
    "num_classes": "the number of classes is that of the data's categories",
    "evaluation": "the platform evaluates after each epoch with the experiment's metric",
    "checkpoint_config": "the platform keeps the best and the last checkpoint",
    "log_config": "the platform logs to MLflow",
    "log_level": "the platform logs to MLflow",
    "load_from": "a stage finds the weights it starts from by itself",
    "resume_from": "an interrupted stage continues by itself",
    "auto_resume": "an interrupted stage continues by itself",
    "work_dir": "each run has its own folder",
    "seed": "the seed is the experiment's",
    "deterministic": "draws depend on the experiment's seed alone",
    "gpu_ids": "the device is chosen when a stage starts",
    "device": "the device is chosen when a stage starts",
    "workflow": "the platform trains and evaluates epoch by epoch",
    "dist_params": "the way of starting decides how many processes there are",
    "auto_scale_lr": "batch.global is the batch over all devices; set optimizer.lr for it",
    "opencv_num_threads": "the platform runs OpenCV with one thread",
    "mp_start_method": "the platform starts the loading workers",
}

CLASS_COUNT_KEYS = ("num_classes", "num_things_classes")
"""Counts that the platform sets from the data; a semantic branch (`semantic_head`) keeps its own."""

NMS_OPERATIONS = ("nms", "soft_nms")
"""Suppressions by name. mmcv evaluates the name as Python: nothing else may stand there."""

RUNNERS = ("EpochBasedRunner",)
OPTIMIZER_HOOKS = ("OptimizerHook", "GradientCumulativeOptimizerHook")
CUSTOM_HOOKS = ("SetEpochInfoHook",)
"""Hooks of mmcv and mmdet that neither write, load nor evaluate."""

PIPELINE_REFUSED: Mapping[str, str] = {
    "LoadProposals": "proposals come from the network",
    "LoadPanopticAnnotations": "the data has instances only",
    "LoadMultiChannelImageFromFiles": "images come from the experiment's data section",
}
TEST_REFUSED: Mapping[str, str] = {
    "RandomCrop": "a test pipeline changes nothing at random",
    "AutoAugment": "a test pipeline changes nothing at random",
    "Albu": "a test pipeline changes nothing at random",
    "PhotoMetricDistortion": "a test pipeline changes nothing at random",
    "D4": "a test pipeline changes nothing at random",
    "FlipPaste": "a test pipeline changes nothing at random",
    "RandomTile": "a test pipeline changes nothing at random",
    "StainJitter": "a test pipeline changes nothing at random",
}


def check(config: Mapping[str, Any], where: str) -> None:
    """Refuse a member configuration that leaves its own ground.

    Args:
        config: the configuration, all bases merged.
        where: its file, for the error.

    Raises:
        InputError: a key that is unknown, missing or the platform's, or a value of the wrong shape; named
            with what is allowed.
    """
    for key in config:
        if key in PLATFORM_KEYS:
            raise InputError(f"{where}: {key!r} is not the member's to set ({PLATFORM_KEYS[key]}): remove it")
        if key not in MEMBER_KEYS:
            raise InputError(f"{where}: unknown key {key!r}; a member has {', '.join(MEMBER_KEYS)}")
    for key in REQUIRED_KEYS:
        if key not in config:
            raise InputError(f"{where}: {key!r} is missing; a member needs {', '.join(REQUIRED_KEYS)}")
    for key in ("model", "optimizer", "runner", "batch"):
        if not isinstance(config[key], Mapping):
            raise InputError(f"{where}: {key!r} must be a dict, not {config[key]!r}")
    for key in ("model", "optimizer", "runner"):
        if not isinstance(config[key].get("type"), str):
            raise InputError(f"{where}: {key!r} needs a 'type' by name")
    _check_model(config["model"], where)
    _check_pipeline(config["train_pipeline"], f"{where}: train_pipeline", refused=PIPELINE_REFUSED)
    _check_pipeline(
        config["test_pipeline"], f"{where}: test_pipeline", refused={**PIPELINE_REFUSED, **TEST_REFUSED}
    )
    _check_schedule(config, where)


def _check_model(model: Mapping[str, Any], where: str) -> None:
    for path, key in _class_counts(model, "model"):
        raise InputError(
            f"{where}: {path} is not the member's to set ({PLATFORM_KEYS['num_classes']}): remove {key!r}"
        )
    for path, name in _suppressions(model, "model"):
        if name not in NMS_OPERATIONS:
            raise InputError(f"{where}: {path} is {name!r}; allowed: {', '.join(NMS_OPERATIONS)}")


def _class_counts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every class count below `value`, outside semantic branches, as (place, key)."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in CLASS_COUNT_KEYS:
                yield f"{path}.{key}", key
            elif key != "semantic_head":
                yield from _class_counts(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _class_counts(item, f"{path}[{i}]")


def _suppressions(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The name of every suppression below `value`, as (place, name)."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "nms" and isinstance(item, Mapping) and "type" in item:
                yield f"{path}.nms.type", item["type"]
            if key == "nms_type":
                yield f"{path}.nms_type", item
            yield from _suppressions(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _suppressions(item, f"{path}[{i}]")


def _check_pipeline(steps: Any, where: str, *, refused: Mapping[str, str]) -> None:
    if not isinstance(steps, list | tuple):
        raise InputError(f"{where} must be a list of steps, not {steps!r}")
    for i, step in enumerate(steps):
        if not isinstance(step, Mapping) or not isinstance(step.get("type"), str):
            raise InputError(f"{where}[{i}] must be a dict with a 'type' by name, not {step!r}")
        kind = step["type"]
        if kind in refused:
            raise InputError(f"{where}[{i}] is {kind} ({refused[kind]}): remove it")
        if kind == "LoadAnnotations" and step.get("with_seg"):
            raise InputError(
                f"{where}[{i}] asks for semantic maps, and the data has instances only: remove 'with_seg'"
            )
        if kind == "MultiScaleFlipAug":
            _check_pipeline(step.get("transforms"), f"{where}[{i}].transforms", refused=refused)


def _check_schedule(config: Mapping[str, Any], where: str) -> None:
    runner = config["runner"]
    if runner["type"] not in RUNNERS:
        raise InputError(f"{where}: runner.type is {runner['type']!r}; allowed: {', '.join(RUNNERS)}")
    unknown = set(runner) - {"type", "max_epochs"}
    if unknown:
        raise InputError(f"{where}: unknown key runner.{min(unknown)}; allowed: type, max_epochs")
    _check_count(runner.get("max_epochs"), f"{where}: runner.max_epochs")
    batch = config["batch"]
    unknown = set(batch) - {"global", "repeat"}
    if unknown:
        raise InputError(
            f"{where}: unknown key batch.{min(unknown)}; allowed: global (images an optimiser step), repeat (how "
            "often an epoch sees each image)"
        )
    _check_count(batch.get("global"), f"{where}: batch.global")
    _check_count(batch.get("repeat", 1), f"{where}: batch.repeat")
    hooks = config.get("custom_hooks") or ()
    if not isinstance(hooks, list | tuple):
        raise InputError(f"{where}: custom_hooks must be a list, not {hooks!r}")
    for i, hook in enumerate(hooks):
        kind = hook.get("type") if isinstance(hook, Mapping) else hook
        if isinstance(kind, str) and kind.endswith("EMAHook"):
            raise InputError(
                f"{where}: custom_hooks[{i}] is {kind}: say ema = dict(momentum=…, warm_up=…) instead"
            )
        if kind not in CUSTOM_HOOKS:
            raise InputError(f"{where}: custom_hooks[{i}] is {kind!r}; allowed: {', '.join(CUSTOM_HOOKS)}")
    optimizer_config = config.get("optimizer_config")
    if config.get("ema") is not None:
        _check_average(config["ema"], f"{where}: ema")
    if config.get("freeze") is not None:
        _check_freeze(config["freeze"], f"{where}: freeze")
    if config.get("loss_weights") is not None:
        check_loss_weights(config["loss_weights"], runner["max_epochs"], where)
    if optimizer_config is not None:
        if not isinstance(optimizer_config, Mapping):
            raise InputError(f"{where}: optimizer_config must be a dict, not {optimizer_config!r}")
        kind = optimizer_config.get("type", OPTIMIZER_HOOKS[0])
        if kind not in OPTIMIZER_HOOKS:
            raise InputError(
                f"{where}: optimizer_config.type is {kind!r}; allowed: {', '.join(OPTIMIZER_HOOKS)}"
            )
    lr_config = config.get("lr_config")
    if lr_config is not None and not (
        isinstance(lr_config, Mapping) and isinstance(lr_config.get("policy"), str)
    ):
        raise InputError(f"{where}: lr_config needs a 'policy' by name, such as 'step' or 'CosineAnnealing'")


def _check_average(average: Any, where: str) -> None:
    """Refuse what is no ``ema = dict(momentum=0.0002, warm_up=2000)``; a warm-up of 0 is none."""
    if not isinstance(average, Mapping) or not {"momentum"} <= average.keys() <= {"momentum", "warm_up"}:
        raise InputError(f"{where} must be a dict with momentum and perhaps warm_up, not {average!r}")
    momentum, warm_up = average["momentum"], average.get("warm_up", 0)
    if isinstance(momentum, bool) or not isinstance(momentum, int | float) or not 0 < momentum < 1:
        raise InputError(f"{where}.momentum must be over 0 and under 1, not {momentum!r}")
    if isinstance(warm_up, bool) or not isinstance(warm_up, int) or warm_up < 0:
        raise InputError(f"{where}.warm_up must be a whole number of iterations from 0, not {warm_up!r}")


def _check_freeze(freeze: Any, where: str) -> None:
    """Refuse what is no ``freeze = dict(modules=[...], batch_norms=True)``."""
    if not isinstance(freeze, Mapping) or not freeze or not freeze.keys() <= {"modules", "batch_norms"}:
        raise InputError(f"{where} must be a dict with modules or batch_norms, not {freeze!r}")
    modules = freeze.get("modules", ())
    if not isinstance(modules, list | tuple) or not all(isinstance(name, str) for name in modules):
        raise InputError(f"{where}.modules must be a list of modules' names, not {modules!r}")
    if not isinstance(freeze.get("batch_norms", False), bool):
        raise InputError(f"{where}.batch_norms must be True or False, not {freeze['batch_norms']!r}")


def _check_count(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{where} must be a whole number from 1, not {value!r}")
