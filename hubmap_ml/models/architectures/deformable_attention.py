"""Deformable attention over maps of several scales (Zhu et al., arXiv 2010.04159).

On a GPU mmcv's compiled op does it, elsewhere its exact counterpart in PyTorch (bilinear sampling with zeros outside,
a pixel's centre at its half).
"""

import math
from collections.abc import Sequence

import torch
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)
from torch import Tensor, nn

Size = tuple[int, int]

# How many images the compiled op works through at once; it must divide the batch or be larger.
IMAGES_AT_ONCE = 64


class DeformableAttention(nn.Module):
    """Each query gathers values at a few learnt offsets from its own place, on each level.

    Args:
        dim: channels of queries and values.
        levels: maps that the values come from.
        heads: `dim` times `ratio` is a multiple of it.
        points: sampled places a head and level.
        ratio: channels of the projected values by those of the given ones.
    """

    def __init__(self, dim: int, *, levels: int, heads: int, points: int, ratio: float) -> None:
        super().__init__()
        self.levels, self.heads, self.points = levels, heads, points
        inner = int(dim * ratio)
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, inner)
        self.output_proj = nn.Linear(inner, dim)
        self.init_weights()

    def init_weights(self) -> None:
        """Start with each head looking in a direction of its own, its points one pixel apart."""
        turns = torch.arange(self.heads, dtype=torch.float32) * (2.0 * math.pi / self.heads)
        directions = torch.stack([turns.cos(), turns.sin()], -1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1, dtype=torch.float32)
        offsets = directions[:, None, None] * steps[:, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.levels, -1, -1).reshape(-1))
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, queries: Tensor, places: Tensor, values: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Attend.

        Args:
            queries: (B, Nq, C).
            places: (Nq, 2) of each query as (x, y) in [0, 1], the same on every level.
            values: (B, Nv, C), level after level, each row-major.
            sizes: (height, width) of each level.
        """
        batch, n = queries.shape[:2]
        value = self.value_proj(values).view(batch, values.shape[1], self.heads, -1)
        shape = (batch, n, self.heads, self.levels, self.points)
        offsets = self.sampling_offsets(queries).view(*shape, 2)
        weights = self.attention_weights(queries).view(*shape[:3], -1).softmax(-1).view(shape)
        scale = offsets.new_tensor([(width, height) for height, width in sizes])
        locations = places[None, :, None, None, None] + offsets / scale[:, None]
        return self.output_proj(_gather(value, sizes, locations, weights))


def grid_places(sizes: Sequence[Size], like: Tensor) -> Tensor:
    """Centres of the pixels of some maps, one map after the other: (N, 2) as (x, y) in (0, 1)."""
    found = []
    for height, width in sizes:
        y = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) / height
        x = (torch.arange(width, dtype=like.dtype, device=like.device) + 0.5) / width
        found.append(torch.stack([x.repeat(height), y.repeat_interleave(width)], -1))
    return torch.cat(found)


def _gather(value: Tensor, sizes: Sequence[Size], locations: Tensor, weights: Tensor) -> Tensor:
    if not value.is_cuda:
        return multi_scale_deformable_attn_pytorch(value, sizes, locations, weights)
    shapes = torch.tensor(list(sizes), device=value.device)
    ends = shapes.prod(1).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    step = min(IMAGES_AT_ONCE, len(value))
    if len(value) % step:
        step = 1
    # The op has no half precision of its own worth having: sampling places need more than eleven bits.
    with torch.autocast("cuda", enabled=False):
        found: Tensor = MultiScaleDeformableAttnFunction.apply(
            value.float().contiguous(),
            shapes,
            starts,
            locations.float().contiguous(),
            weights.float().contiguous(),
            step,
        )
    return found.to(value.dtype)
