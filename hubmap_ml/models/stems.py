"""The switch ``stem_stride`` of a backbone's configuration: 1 keeps the stem's first convolution at full resolution.

Small cells need finer maps: with it all of a backbone's maps are twice as large, so that anchors and regions of
interest have strides 2, 4, 8, ... (as a winner of Sartorius 2021 did). Weights are those of the ordinary network.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from hubmap_ml.models.architectures.efficientnet import TimmEfficientNet
from hubmap_ml.spec import InputError

KEY = "stem_stride"
STRIDES = (1, 2)


def take_stem_stride(model: dict[str, Any]) -> int:
    """Take the switch out of a detector's configuration (in place); 2, the ordinary stride, where it is not there.

    Raises:
        InputError: neither 1 nor 2, or anchors whose first stride is not that of the first map.
    """
    backbone = model.get("backbone")
    if not isinstance(backbone, dict) or KEY not in backbone:
        return 2
    stride = backbone.pop(KEY)
    if stride not in STRIDES:
        raise InputError(f"model.backbone.{KEY} is {stride!r}; it is 1 or 2")
    anchors = model.get("rpn_head", {}).get("anchor_generator", {}).get("strides")
    first = min(backbone.get("out_indices", (0,)), default=0) - _levels_before(backbone)
    if anchors is not None and anchors[0] != 2 * stride * 2**first:
        raise InputError(
            f"model.backbone.{KEY} {stride} gives a first map of stride {2 * stride * 2**first}, and the anchors begin "
            f"with stride {anchors[0]}: set rpn_head.anchor_generator.strides and the RoI extractors' featmap_strides"
        )
    return int(stride)


def set_stem_stride(backbone: nn.Module, stride: int) -> None:
    """Set the stride of a backbone's first convolution (in place).

    Raises:
        InputError: a backbone without such a convolution.
    """
    if stride == 2:
        return
    stem = backbone.net.conv_stem if isinstance(backbone, TimmEfficientNet) else _first_of_resnet(backbone)
    if stem is None:
        raise InputError(
            f"model.backbone.{KEY}: {type(backbone).__name__} has no stem whose stride could be taken away; "
            "ResNet, ResNeXt and TimmEfficientNet have"
        )
    stem.stride = (stride, stride)


def _first_of_resnet(backbone: nn.Module) -> Any:
    if getattr(backbone, "deep_stem", False):
        return backbone.stem[0]
    return getattr(backbone, "conv1", None)


def _levels_before(backbone: Mapping[str, Any]) -> int:
    """How timm counts: its level 0 is the stem's, mmdet's the first stage's."""
    return 1 if backbone.get("type") == "TimmEfficientNet" and "out_indices" in backbone else 0
