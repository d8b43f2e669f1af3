"""Detectors from mmdet's registry and `hubmap_ml.models.architectures`, fitted to the data's categories."""

import copy
from collections.abc import Mapping
from typing import Any

from mmcv import ConfigDict
from mmdet.models import build_detector as build_registered
from torch import nn

from hubmap_ml.models.architectures.normalisation import synchronised
from hubmap_ml.models.architectures.two_pyramids import COMPOSITES
from hubmap_ml.models.architectures.two_pyramids import NECK as TWO_PYRAMID_NECK
from hubmap_ml.models.compatibility import hush_loggers
from hubmap_ml.models.stems import set_stem_stride, take_stem_stride
from hubmap_ml.spec import InputError

hush_loggers()

# Heads that predict one value, box or mask a class. The region proposal network's head has no class count,
# and a semantic branch counts the classes of its own label maps.
CLASS_HEADS = ("bbox_head", "mask_head", "mask_iou_head", "point_head", "glbctx_head")


def build_detector(config: Mapping[str, Any], n_categories: int) -> nn.Module:
    """Build a member's network with its class counts set; weights are torch's own initial ones, nothing is
    read.

    Args:
        config: a member's configuration (plain data). With the neck of a composite backbone (CBFPN) a detector's name
            stands for the one that learns from both pyramids; `SyncBN` is `BN` where one process trains;
            ``backbone.stem_stride`` is that of `hubmap_ml.models.stems`.
        n_categories: classes of the data, at least 1.

    Raises:
        InputError: an unknown type, or arguments that it does not take.
    """
    if n_categories < 1:
        raise InputError("a detector needs at least one category: the data has none")
    model = copy.deepcopy(dict(config["model"]))
    set_class_counts(model, n_categories)
    if _has_two_pyramids(model):
        model["type"] = COMPOSITES.get(model["type"], model["type"])
    stem_stride = take_stem_stride(model)
    if not synchronised():
        model = _single_process(model)
    try:
        detector: nn.Module = build_registered(ConfigDict(model))
    except (KeyError, TypeError, ValueError, AssertionError, AttributeError) as error:
        raise InputError(f"the member's model cannot be built: {type(error).__name__}: {error}") from error
    set_stem_stride(detector.backbone, stem_stride)
    return detector


def set_class_counts(model: dict[str, Any], n_categories: int) -> None:
    """Set `num_classes` of every head that counts classes, in single heads and in lists of stages (in
    place).
    """
    for key, value in model.items():
        if key == "semantic_head":
            continue
        for part in value if isinstance(value, list | tuple) else (value,):
            if isinstance(part, dict):
                if key in CLASS_HEADS:
                    part["num_classes"] = n_categories
                set_class_counts(part, n_categories)


def without_pretrained(config: Mapping[str, Any]) -> dict[str, Any]:
    """A member's configuration whose network fetches no weights: every `Pretrained` initialisation is taken
    out.
    """
    return {**config, "model": _without_pretrained(copy.deepcopy(dict(config["model"])))}


def _without_pretrained(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_pretrained(item)
            for key, item in value.items()
            if key != "pretrained" and not (key == "init_cfg" and _is_pretrained(item))
        }
    if isinstance(value, list | tuple):
        return type(value)(_without_pretrained(item) for item in value)
    return value


def _is_pretrained(init: Any) -> bool:
    return isinstance(init, dict) and init.get("type") == "Pretrained"


def _has_two_pyramids(model: Mapping[str, Any]) -> bool:
    neck = model.get("neck")
    parts = neck if isinstance(neck, list | tuple) else [neck]
    return any(isinstance(part, Mapping) and part.get("type") == TWO_PYRAMID_NECK for part in parts)


def _single_process(value: Any) -> Any:
    """Synchronised batch normalisation needs a process group; its weights and buffers are those of the
    plain one.
    """
    if isinstance(value, dict):
        return {
            key: "BN" if key == "type" and item == "SyncBN" else _single_process(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(_single_process(item) for item in value)
    return value
