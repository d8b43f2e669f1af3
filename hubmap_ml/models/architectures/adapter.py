"""How ViT-Adapter's transformer and its convolutional pyramid exchange what they see (arXiv 2205.08534, section 3.3).

The pyramid's tokens are those of strides 8, 16 and 32, one level after the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmcv.cnn.bricks.drop import DropPath
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from hubmap_ml.models.architectures.beit import NORM_EPS
from hubmap_ml.models.architectures.deformable_attention import DeformableAttention, Size, grid_places
from hubmap_ml.models.architectures.tokens import to_map, to_tokens


@dataclass(frozen=True)
class Geometry:
    """Sizes of both sides for one input.

    Attributes:
        tokens: (height, width) of the transformer's map, stride 16.
        levels: of the pyramid's maps.
        token_places, level_places: centres of their pixels, (N, 2) as (x, y) in (0, 1).
    """

    tokens: Size
    levels: tuple[Size, Size, Size]
    token_places: Tensor
    level_places: Tensor

    @classmethod
    def of(cls, height: int, width: int, like: Tensor) -> "Geometry":
        """Geometry of an image of `height` x `width` pixels, multiples of 32; places on the device of `like`."""
        tokens = (height // 16, width // 16)
        levels = ((height // 8, width // 8), tokens, (height // 32, width // 32))
        return cls(tokens, levels, grid_places([tokens], like), grid_places(levels, like))


class LevelwiseConvolution(nn.Module):
    """One depthwise 3 x 3 convolution, with the same weights on each level of the pyramid."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, tokens: Tensor, sizes: Sequence[Size]) -> Tensor:
        """(B, N, C) to the same."""
        parts = tokens.split([height * width for height, width in sizes], dim=1)
        done = [to_tokens(self.dwconv(to_map(part, *size))) for part, size in zip(parts, sizes, strict=True)]
        return torch.cat(done, dim=1)


class ConvolutionalFeedForward(nn.Module):
    """A perceptron with a convolution between its layers."""

    def __init__(self, dim: int, hidden: int, drop: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = LevelwiseConvolution(hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, tokens: Tensor, sizes: Sequence[Size]) -> Tensor:
        """(B, N, C) to the same."""
        hidden = F.gelu(self.dwconv(self.fc1(tokens), sizes))
        return self.drop(self.fc2(self.drop(hidden)))


class Injector(nn.Module):
    """The transformer's tokens look at the pyramid."""

    def __init__(self, dim: int, attention: dict[str, Any], init_values: float) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.feat_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = DeformableAttention(dim, levels=3, **attention)
        self.gamma = nn.Parameter(torch.full((dim,), float(init_values)))

    def forward(self, tokens: Tensor, pyramid: Tensor, at: Geometry) -> Tensor:
        """Return the changed tokens."""
        queries, values = self.query_norm(tokens), self.feat_norm(pyramid)
        return tokens + self.gamma * self.attn(queries, at.token_places, values, at.levels)


class Extractor(nn.Module):
    """The pyramid looks at the transformer's tokens."""

    def __init__(
        self, dim: int, attention: dict[str, Any], *, ffn_ratio: float | None, drop: float, drop_path: float
    ) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.feat_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = DeformableAttention(dim, levels=1, **attention)
        self.ffn = self.ffn_norm = None
        if ffn_ratio is not None:
            self.ffn = ConvolutionalFeedForward(dim, int(dim * ffn_ratio), drop)
            self.ffn_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.drop_path = DropPath(drop_path)

    def forward(self, pyramid: Tensor, tokens: Tensor, at: Geometry) -> Tensor:
        """Return the changed pyramid."""
        queries, values = self.query_norm(pyramid), self.feat_norm(tokens)
        pyramid = pyramid + self.attn(queries, at.level_places, values, [at.tokens])
        if self.ffn is not None and self.ffn_norm is not None:
            pyramid = pyramid + self.drop_path(self.ffn(self.ffn_norm(pyramid), at.levels))
        return pyramid


class Interaction(nn.Module):
    """Injector, some blocks of the transformer, extractor; the last one with two extractors more.

    Args:
        dim: channels of both sides.
        attention: `DeformableAttention`'s heads, points and ratio.
        init_values: first value of the injector's scale.
        ffn_ratio: of the extractor's perceptron; None for none.
        drop, drop_path: dropout of outputs and branches.
        extra: how many more extractors.
    """

    def __init__(
        self,
        dim: int,
        attention: dict[str, Any],
        *,
        init_values: float,
        ffn_ratio: float | None,
        drop: float,
        drop_path: float,
        extra: int,
    ) -> None:
        super().__init__()

        def extractor() -> Extractor:
            return Extractor(dim, attention, ffn_ratio=ffn_ratio, drop=drop, drop_path=drop_path)

        self.injector = Injector(dim, attention, init_values)
        self.extractor = extractor()
        self.extra_extractors = nn.ModuleList(extractor() for _ in range(extra)) if extra else None

    def forward(
        self, tokens: Tensor, pyramid: Tensor, blocks: Sequence[nn.Module], at: Geometry, *, recompute: bool
    ) -> tuple[Tensor, Tensor]:
        """Return both sides changed.

        Args:
            tokens: (B, N, C) of the transformer.
            pyramid: (B, 21 N / 4, C).
            blocks: of the transformer.
            at: sizes of both.
            recompute: keep no activations for the backward pass, compute them again.
        """
        run = _recomputed if recompute else _plain
        tokens = run(self.injector, tokens, pyramid, at)
        for block in blocks:
            tokens = run(block, tokens, *at.tokens)
        pyramid = run(self.extractor, pyramid, tokens, at)
        for extractor in self.extra_extractors or ():
            pyramid = run(extractor, pyramid, tokens, at)
        return tokens, pyramid


def _plain(body: Callable[..., Tensor], *arguments: Any) -> Tensor:
    return body(*arguments)


def _recomputed(body: Callable[..., Tensor], *arguments: Any) -> Tensor:
    found: Tensor = checkpoint(body, *arguments, use_reentrant=False)
    return found
