"""The transformer part of BEiT (Bao et al., arXiv 2106.08254; v2: 2208.06366) for maps of any size: no class token, and
attention inside windows.
"""

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.drop import DropPath
from torch import Tensor, nn

from hubmap_ml.models.architectures.mlp import Mlp
from hubmap_ml.models.architectures.tokens import to_tokens
from hubmap_ml.models.architectures.windows import WindowAttention, from_windows, pad_to_multiple, to_windows
from hubmap_ml.spec import InputError

NORM_EPS = 1e-6


class PatchEmbedding(nn.Module):
    """An image as tokens, one for each patch."""

    def __init__(self, patch_size: int, in_channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, (H / patch) * (W / patch), dim)."""
        return to_tokens(self.proj(images))


class Block(nn.Module):
    """Attention and perceptron, each after a norm and scaled by a learnt value a channel.

    Args:
        dim: channels.
        heads: of the attention.
        window: its side in tokens.
        windowed: cut the map into windows; else all tokens see each other, which needs window x window of them.
        mlp_ratio: hidden channels of the perceptron by `dim`.
        qkv_bias: with biases of queries and values.
        qk_scale: of the attention's products; None takes the usual one.
        drop, attention_drop, drop_path: dropout of outputs, of attention weights, of whole branches.
        init_values: first value of the scales.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        window: int,
        *,
        windowed: bool,
        mlp_ratio: float,
        qkv_bias: bool,
        qk_scale: float | None,
        drop: float,
        attention_drop: float,
        drop_path: float,
        init_values: float,
    ) -> None:
        super().__init__()
        self.window, self.windowed = window, windowed
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = WindowAttention(
            dim,
            window,
            heads,
            bias="no_key" if qkv_bias else "none",
            scale=qk_scale,
            attention_drop=attention_drop,
            drop=drop,
        )
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop=drop)
        self.gamma_1 = nn.Parameter(torch.full((dim,), float(init_values)))
        self.gamma_2 = nn.Parameter(torch.full((dim,), float(init_values)))

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """(B, height * width, C) to the same."""
        tokens = tokens + self.drop_path(self.gamma_1 * self._attend(self.norm1(tokens), height, width))
        return tokens + self.drop_path(self.gamma_2 * self.mlp(self.norm2(tokens)))

    def _attend(self, tokens: Tensor, height: int, width: int) -> Tensor:
        if not self.windowed:
            if height * width != self.window**2:
                raise InputError(
                    f"attention over the whole map was built for {self.window} x {self.window} patches and the image "
                    f"has {height} x {width}: set window_attn, or another image size"
                )
            return self.attn(tokens)
        batch, _, dim = tokens.shape
        maps = pad_to_multiple(tokens.view(batch, height, width, dim), self.window)
        # Tokens of the padding take part: the published weights were trained so.
        found = self.attn(to_windows(maps, self.window))
        maps = from_windows(found, self.window, maps.shape[1], maps.shape[2])
        return maps[:, :height, :width].reshape(batch, height * width, dim)


def resized_positions(positions: Tensor, side: int, height: int, width: int) -> Tensor:
    """Resize a learnt embedding of positions (1, side^2, C) to another map: (1, height * width, C)."""
    grid = positions.view(1, side, side, -1).permute(0, 3, 1, 2)
    return to_tokens(F.interpolate(grid, (height, width), mode="bicubic", align_corners=False))
