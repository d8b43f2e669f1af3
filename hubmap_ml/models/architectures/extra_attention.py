"""Global self-attention on the coarsest map, before the pyramid of HTC++ (the neck of ViT-Adapter's detectors)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.drop import DropPath
from mmcv.runner import BaseModule
from mmdet.models.builder import NECKS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hubmap_ml.models.architectures.initial_values import initialise
from hubmap_ml.models.architectures.mlp import Mlp
from hubmap_ml.models.architectures.tokens import to_map, to_tokens


class GlobalAttention(nn.Module):
    """Multi-head self-attention over all tokens, without positions."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to the same."""
        batch, n, dim = tokens.shape
        query, key, value = self.qkv(tokens).view(batch, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(query, key, value)
        return self.proj(found.transpose(1, 2).reshape(batch, n, dim))


@NECKS.register_module()
class ExtraAttention(BaseModule):
    """One transformer layer on the last map; the others pass unchanged.

    Args:
        in_channels: of each map.
        num_head: the last of `in_channels` is a multiple of it.
        with_ffn: with the perceptron after the attention.
        ffn_ratio: its hidden channels by those of the map.
        drop_path: share of samples whose two branches are left out in training.
        init_values: first value of a learnt scale a channel of both branches; None has no such scale.
        with_cp: compute the layer again in the backward pass to save memory.
        use_final_norm: with a norm after all.
        norm_eps: of the layer norms.
        init_cfg: mmcv's.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_head: int,
        *,
        with_ffn: bool = True,
        ffn_ratio: float = 4.0,
        drop_path: float = 0.0,
        init_values: float | None = None,
        with_cp: bool = False,
        use_final_norm: bool = True,
        norm_eps: float = 1e-5,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        dim = in_channels[-1]
        self.with_cp = with_cp
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = GlobalAttention(dim, num_head)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps) if with_ffn else None
        self.ffn = Mlp(dim, int(dim * ffn_ratio)) if with_ffn else None
        self.final_norm = nn.LayerNorm(dim, eps=norm_eps) if use_final_norm else None
        self.gamma_1 = self.gamma_2 = None
        if init_values is not None:
            self.gamma_1 = nn.Parameter(torch.full((dim,), float(init_values)))
            self.gamma_2 = nn.Parameter(torch.full((dim,), float(init_values)))

    def init_weights(self) -> None:
        """Fill the layers."""
        self.apply(initialise)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps (B, C, H, W) of all levels to the same, the last one changed."""
        tokens = to_tokens(maps[-1])
        if self.with_cp and self.training:
            tokens = checkpoint(self._layer, tokens, use_reentrant=False)
        else:
            tokens = self._layer(tokens)
        return (*maps[:-1], to_map(tokens, *maps[-1].shape[-2:]))

    def _layer(self, tokens: Tensor) -> Tensor:
        tokens = tokens + _scaled(self.drop_path(self.attn(self.norm1(tokens))), self.gamma_1)
        if self.ffn is not None and self.norm2 is not None:
            tokens = tokens + _scaled(self.drop_path(self.ffn(self.norm2(tokens))), self.gamma_2)
        return tokens if self.final_norm is None else self.final_norm(tokens)


def _scaled(tokens: Tensor, gamma: Tensor | None) -> Tensor:
    return tokens if gamma is None else gamma * tokens
