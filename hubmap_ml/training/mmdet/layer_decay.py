"""Layer-wise learning rates for transformers: the nearer to the image, the slower; without decay of biases and norms.

As ViT-Adapter trains BEiT (and BEiT itself, appendix of arXiv:2106.08254)::

    optimizer = dict(
        type="AdamW", lr=1e-4, weight_decay=0.05,
        constructor="LayerDecayOptimizerConstructor", paramwise_cfg=dict(layer_decay_rate=0.9),
    )

A schedule's floor belongs to it as ``min_lr_ratio``: ``min_lr`` is one rate for all layers, over that of the slowest.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from mmcv.runner import DefaultOptimizerConstructor
from mmcv.runner.optimizer import OPTIMIZER_BUILDERS
from torch import nn

_EMBEDDING = re.compile(r"\.(?:patch_embed\.|pos_embed$|cls_token$|mask_token$)")
_BLOCK = re.compile(r"\.(?:(?:layers|stages)\.(\d+)\.)?blocks\.(\d+)\.")
_BETWEEN = re.compile(r"\.(?:layers|stages)\.(\d+)\.downsample\.")

OPTIONS = ("layer_decay_rate",)


def layer_numbers(names: Iterable[str]) -> tuple[dict[str, int], int]:
    """Number the layers that parameters belong to, by their names.

    Layer 0 embeds patches and positions; each block of the backbone is one more, counted over all stages (two
    pyramids count side by side); what joins two stages belongs to the block before it; everything else (the adapter,
    norms behind the blocks, neck and heads) is the last layer.

    Args:
        names: parameters of a detector, as ``named_parameters`` gives them.

    Returns:
        The layer of each name, and the number of layers.
    """
    names = list(names)
    of_backbone = [name for name in names if name.startswith("backbone.")]
    block_of = {
        name: (int(found[1] or 0), int(found[2])) for name in of_backbone if (found := _BLOCK.search(name))
    }
    number = {block: i for i, block in enumerate(sorted(set(block_of.values())), 1)}
    last = len(number) + 1
    layers = dict.fromkeys(names, last)
    for name in of_backbone:
        if name in block_of:
            layers[name] = number[block_of[name]]
        elif _EMBEDDING.search(name):
            layers[name] = 0
        elif between := _BETWEEN.search(name):
            layers[name] = max(i for (stage, _), i in number.items() if stage == int(between[1]))
    return layers, last + 1


@OPTIMIZER_BUILDERS.register_module()
class LayerDecayOptimizerConstructor(DefaultOptimizerConstructor):
    """Groups by layer: rate ``lr * layer_decay_rate ** (last layer - layer)``; biases and vectors have no decay.

    With a ``layer_decay_rate`` of 1 what remains is the two groups with and without weight decay.
    """

    def _validate_cfg(self) -> None:
        options: Mapping[str, Any] = self.paramwise_cfg or {}
        unknown = set(options) - set(OPTIONS)
        if unknown:
            raise ValueError(f"paramwise_cfg.{min(unknown)} is unknown here; there is {', '.join(OPTIONS)}")
        rate = options.get("layer_decay_rate")
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 1:
            raise ValueError(f"paramwise_cfg.layer_decay_rate must be over 0 and at most 1, not {rate!r}")

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **_: Any) -> None:
        """Put each parameter that learns into the group of its layer."""
        rate = self.paramwise_cfg["layer_decay_rate"]
        named = dict(module.named_parameters())
        layers, count = layer_numbers(named)
        if rate < 1 and count == 2:
            raise ValueError(
                "layer_decay_rate is for backbones with numbered blocks (BEiT, Swin), and this has none"
            )
        groups: dict[tuple[int, bool], dict[str, Any]] = {}
        for name, value in named.items():
            if not value.requires_grad:
                continue
            decays = value.ndim > 1 and not name.endswith(".bias")
            group = groups.setdefault((layers[name], decays), {"params": []})
            group["params"].append(value)
        for (layer, decays), group in sorted(groups.items()):
            group["lr"] = self.base_lr * rate ** (count - 1 - layer)
            if not decays:
                group["weight_decay"] = 0.0
            params.append(group)
