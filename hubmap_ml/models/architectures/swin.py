"""The Swin transformer with the argument names, keys and order of merged patches of its first release, which the
published weights of CBNetV2 have (mmdet's own ``SwinTransformer`` differs in all three).

Liu et al., arXiv 2103.14030.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.drop import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hubmap_ml.models.architectures.mlp import Mlp
from hubmap_ml.models.architectures.tokens import to_map, to_tokens
from hubmap_ml.models.architectures.windows import WindowAttention, from_windows, pad_to_multiple, to_windows

# What is added to the logits of tokens that are neighbours in a rolled map only.
APART = -100.0


@dataclass(frozen=True)
class SwinShape:
    """What a Swin transformer is made of.

    Attributes:
        embed_dim: channels of the first stage, doubled by each later one.
        depths: blocks of each stage.
        num_heads: of the attention in each stage.
        patch_size: side of a patch, pixels.
        in_chans: of the image.
        window_size: in tokens.
        mlp_ratio: hidden channels of a perceptron by its own.
        qkv_bias: with biases of queries, keys and values.
        qk_scale: of the attention's products; None takes the usual one.
        drop_rate, attn_drop_rate: dropout of outputs and of attention weights.
        drop_path_rate: of the last block's branches, rising linearly from 0.
        ape: add a learnt embedding of positions.
        patch_norm: a norm after the patch embedding.
        pretrain_img_size: image size that the embedding of positions belongs to, pixels.
        use_checkpoint: compute blocks again in the backward pass.
    """

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    patch_size: int = 4
    in_chans: int = 3
    window_size: int = 7
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    qk_scale: float | None = None
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.2
    ape: bool = False
    patch_norm: bool = True
    pretrain_img_size: int = 224
    use_checkpoint: bool = False

    def channels(self, stage: int) -> int:
        """Channels of a stage's tokens."""
        return self.embed_dim * 2**stage


class PatchEmbedding(nn.Module):
    """An image as a map of tokens, padded with zeros on the right and at the bottom to whole patches."""

    def __init__(self, shape: SwinShape) -> None:
        super().__init__()
        self.size = shape.patch_size
        self.proj = nn.Conv2d(shape.in_chans, shape.embed_dim, self.size, self.size)
        self.norm = nn.LayerNorm(shape.embed_dim) if shape.patch_norm else None

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, embed_dim, ceil(H / patch), ceil(W / patch))."""
        height, width = images.shape[-2:]
        maps = self.proj(F.pad(images, (0, -width % self.size, 0, -height % self.size)))
        return maps if self.norm is None else to_map(self.norm(to_tokens(maps)), *maps.shape[-2:])


class PatchMerging(nn.Module):
    """Four neighbouring tokens become one of twice the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """(B, height * width, C) to (B, ceil(height / 2) * ceil(width / 2), 2 C)."""
        maps = pad_to_multiple(tokens.view(len(tokens), height, width, -1), 2)
        # Upper left, lower left, upper right, lower right.
        corners = [maps[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, -1).flatten(1, 2)))


class Block(nn.Module):
    """Attention inside windows and a perceptron, each after a norm."""

    def __init__(self, shape: SwinShape, stage: int, *, shifted: bool, drop_path: float) -> None:
        super().__init__()
        dim = shape.channels(stage)
        self.window = shape.window_size
        self.shift = shape.window_size // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(
            dim,
            shape.window_size,
            shape.num_heads[stage],
            bias="all" if shape.qkv_bias else "none",
            scale=shape.qk_scale,
            attention_drop=shape.attn_drop_rate,
            drop=shape.drop_rate,
        )
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * shape.mlp_ratio), drop=shape.drop_rate, hidden_drop=shape.drop_rate)

    def forward(self, tokens: Tensor, height: int, width: int, mask: Tensor) -> Tensor:
        """(B, height * width, C) to the same; `mask` is the stage's `shift_mask`."""
        tokens = tokens + self.drop_path(self._attend(self.norm1(tokens), height, width, mask))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))

    def _attend(self, tokens: Tensor, height: int, width: int, mask: Tensor) -> Tensor:
        batch, _, dim = tokens.shape
        maps = pad_to_multiple(tokens.view(batch, height, width, dim), self.window)
        if self.shift:
            maps = maps.roll((-self.shift, -self.shift), (1, 2))
        found = self.attn(to_windows(maps, self.window), mask if self.shift else None)
        maps = from_windows(found, self.window, maps.shape[1], maps.shape[2])
        if self.shift:
            maps = maps.roll((self.shift, self.shift), (1, 2))
        return maps[:, :height, :width].reshape(batch, height * width, dim)


class Stage(nn.Module):
    """Blocks on maps of one size, and the merging to the next."""

    def __init__(self, shape: SwinShape, stage: int, drop_path: Sequence[float], *, last: bool) -> None:
        super().__init__()
        self.window, self.use_checkpoint = shape.window_size, shape.use_checkpoint
        self.blocks = nn.ModuleList(
            Block(shape, stage, shifted=number % 2 == 1, drop_path=rate)
            for number, rate in enumerate(drop_path)
        )
        self.downsample = None if last else PatchMerging(shape.channels(stage))

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """(B, height * width, C) to the same, before merging."""
        mask = shift_mask(height, width, self.window, like=tokens)
        for block in self.blocks:
            if self.use_checkpoint and self.training:
                tokens = checkpoint(block, tokens, height, width, mask, use_reentrant=False)
            else:
                tokens = block(tokens, height, width, mask)
        return tokens


class Swin(nn.Module):
    """The stages of one Swin transformer, with a norm for each output; who runs them decides what goes in.

    Args:
        shape: what it is made of.
        outputs: stages whose maps are given.
        with_patches: with the patch embedding; without, tokens come from elsewhere.
    """

    def __init__(self, shape: SwinShape, outputs: Sequence[int], *, with_patches: bool = True) -> None:
        super().__init__()
        self.shape, self.outputs = shape, tuple(outputs)
        self.patch_embed = PatchEmbedding(shape) if with_patches else None
        self.absolute_pos_embed = None
        if with_patches and shape.ape:
            side = shape.pretrain_img_size // shape.patch_size
            self.absolute_pos_embed = nn.Parameter(torch.zeros(1, shape.embed_dim, side, side))
        self.pos_drop = nn.Dropout(shape.drop_rate)
        total, done = sum(shape.depths), 0
        self.layers = nn.ModuleList()
        for stage, depth in enumerate(shape.depths):
            rates = [shape.drop_path_rate * (done + i) / max(1, total - 1) for i in range(depth)]
            self.layers.append(Stage(shape, stage, rates, last=stage == len(shape.depths) - 1))
            done += depth
        for stage in self.outputs:
            self.add_module(f"norm{stage}", nn.LayerNorm(shape.channels(stage)))

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to the first stage's map (B, embed_dim, h, w)."""
        assert self.patch_embed is not None
        maps = self.patch_embed(images)
        if self.absolute_pos_embed is not None:
            size = (maps.shape[-2], maps.shape[-1])
            maps = maps + F.interpolate(self.absolute_pos_embed, size, mode="bicubic")
        return to_map(self.pos_drop(to_tokens(maps)), *maps.shape[-2:])

    def forward(self, maps: Tensor, added: Sequence[Tensor | None] | None = None) -> list[Tensor]:
        """Run all stages.

        Args:
            maps: (B, embed_dim, h, w), as `embed` gives it.
            added: for each stage a map of its tokens' shape that is added before it.

        Returns:
            The normalised map of each output, (B, C, h, w).
        """
        height, width = maps.shape[-2:]
        tokens = to_tokens(maps)
        found = []
        for stage, layer in enumerate(self.layers):
            extra = None if added is None else added[stage]
            if extra is not None:
                tokens = tokens + to_tokens(extra)
            tokens = layer(tokens, height, width)
            if stage in self.outputs:
                found.append(to_map(getattr(self, f"norm{stage}")(tokens), height, width))
            if layer.downsample is not None:
                tokens = layer.downsample(tokens, height, width)
                height, width = -(-height // 2), -(-width // 2)
        return found


def shift_mask(height: int, width: int, window: int, *, like: Tensor) -> Tensor:
    """Keep apart, in the windows of a rolled map, tokens that were not neighbours before.

    Returns:
        (windows, window^2, window^2) of type and device of `like`: 0 within a region, -100 between two.
    """
    shift = window // 2

    def regions(size: int) -> Tensor:
        places = torch.arange(size + -size % window, device=like.device)
        return (places >= len(places) - window).long() + (places >= len(places) - shift).long()

    labels = 3 * regions(height)[:, None] + regions(width)[None]
    cut = to_windows(labels[None, ..., None], window)[..., 0]
    return torch.where(cut[:, None] == cut[:, :, None], 0.0, APART).to(like.dtype)
