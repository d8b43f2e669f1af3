"""Batch normalisation over all processes of a training where there are several, over the one there is otherwise.

Both have the same parameters and buffers, so that weights pass between them.
"""

import torch
from torch import nn


def synchronised() -> bool:
    """Whether batch statistics are exchanged: several processes train, each on a GPU."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    return torch.distributed.get_world_size() > 1 and torch.cuda.is_available()


def batch_norm(channels: int) -> nn.Module:
    """Batch normalisation of maps (B, C, H, W)."""
    return nn.SyncBatchNorm(channels) if synchronised() else nn.BatchNorm2d(channels)
