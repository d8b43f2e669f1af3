"""Maps (B, C, H, W) as tokens (B, H * W, C) in row-major order, and back."""

from torch import Tensor


def to_tokens(maps: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H * W, C)."""
    return maps.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """(B, height * width, C) to (B, C, height, width), row-major in memory."""
    # A single image's view would pass for another memory layout, and torch 2.12's batch normalisation on the CPU gives
    # it the gradients of other pixels.
    return tokens.transpose(1, 2).reshape(len(tokens), -1, height, width).contiguous()
