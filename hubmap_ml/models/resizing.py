"""Parameters that belong to a size of patch, window or image, brought to another one."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import RectBivariateSpline
from scipy.optimize import brentq
from torch import Tensor

# What BEiT's tables hold behind the relative positions: class token to tokens, tokens to class token, to itself.
CLASS_TOKEN_ROWS = 3


def resized_patches(weight: Tensor, size: int) -> Tensor:
    """Resize the kernels of a patch embedding (C, 3, k, k) to (C, 3, size, size), bilinearly."""
    return F.interpolate(weight.float(), (size, size), mode="bilinear", align_corners=False).to(weight.dtype)


def resized_grid(positions: Tensor, tokens: int) -> Tensor:
    """Resize a learnt embedding of positions (1, n, C) to (1, tokens, C), bicubically, without a class token in front.

    Raises:
        ValueError: not the squares of two grids.
    """
    side, target = math.isqrt(positions.shape[1]), math.isqrt(tokens)
    if side**2 + 1 == positions.shape[1]:
        positions = positions[:, 1:]
    if side**2 != positions.shape[1] or target**2 != tokens:
        raise ValueError(f"{positions.shape[1]} positions are no square grid, or {tokens} are none")
    grid = positions.float().view(1, side, side, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, (target, target), mode="bicubic", align_corners=False)
    return grid.flatten(2).transpose(1, 2).to(positions.dtype)


def table_sides(rows: int) -> tuple[int, int]:
    """Side of the square of relative positions in a table, and how many rows follow it (0 or 3).

    Raises:
        ValueError: neither is a square of an odd side.
    """
    for extra in (0, CLASS_TOKEN_ROWS):
        side = math.isqrt(rows - extra)
        if side**2 == rows - extra and side % 2:
            return side, extra
    raise ValueError(f"{rows} rows are no table of relative positions")


def resized_table(table: Tensor, rows: int) -> Tensor:
    """Bring a table of relative positions (n, heads) to a window of another size: (rows, heads).

    A table of a class token loses its last three rows. Distances are taken to grow geometrically: 1, 1 + q,
    1 + q + q^2, ..., with the q that brings the largest one of the source to the largest one of the target, and each
    head is interpolated there by a cubic spline (BEiT's own way, arXiv 2106.08254).
    """
    side, extra = table_sides(len(table))
    target, _ = table_sides(rows)
    square = table[: len(table) - extra]
    if side == target:
        return square.clone()
    places = _geometric_places(side // 2, target // 2)
    wanted = np.arange(-(target // 2), target // 2 + 1, dtype=np.float64)
    heads = square.double().view(side, side, -1).permute(2, 0, 1).numpy()
    order = min(3, side - 1)
    resized = [
        RectBivariateSpline(places, places, head, kx=order, ky=order, s=0)(wanted, wanted) for head in heads
    ]
    return torch.from_numpy(np.stack(resized, -1).reshape(rows, -1)).to(table.dtype)


def resized_swin_table(table: Tensor, rows: int) -> Tensor:
    """Bring a table of relative positions (n, heads) to a window of another size, bicubically (Swin's own way)."""
    side, extra = table_sides(len(table))
    target, _ = table_sides(rows)
    grid = table[: len(table) - extra].float().view(1, side, side, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, (target, target), mode="bicubic", align_corners=False)
    return grid.permute(0, 2, 3, 1).reshape(rows, -1).to(table.dtype)


def _geometric_places(count: int, farthest: int) -> np.ndarray:
    """Places 0, ±1, ±(1 + q), ..., ±(1 + q + ... + q^(count - 1)) of which the last is `farthest`."""
    if count <= 1:
        return np.linspace(-farthest, farthest, 2 * count + 1)

    def beyond(q: float) -> float:
        return float(sum(q**power for power in range(count)) - farthest)

    steps = np.cumsum(brentq(beyond, 1e-6, float(farthest) + 1.0) ** np.arange(count))
    return np.concatenate([-steps[::-1], [0.0], steps])
