"""How the transformer backbones and necks fill their parameters before training."""

import math

from torch import nn


def initialise(module: nn.Module) -> None:
    """Fill one layer: linear ones truncated normal (0.02), convolutions by their outputs (He), norms 1 and 0.

    To be used with `nn.Module.apply`; parameters that belong to no such layer are left alone.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        outputs = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / outputs))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm | nn.modules.batchnorm._BatchNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
