"""Counting bit-packed masks: areas and tight boxes; packing and unpacking dense masks.

Kernels only; the structure that they work on, and what its fields mean, is `BitMasks`.
"""

from typing import Any

import numpy as np

from hubmap_ml.instances.compiled import compiled, count_high_zeros, count_low_zeros, count_ones


@compiled
def count_bits(words: Any, offsets: Any) -> Any:
    """Pixels of each mask, int64 (N,)."""
    out = np.empty(len(offsets) - 1, dtype=np.int64)
    for i in range(len(out)):
        pixels = np.int64(0)
        for k in range(offsets[i], offsets[i + 1]):
            pixels += count_ones(words[k])
        out[i] = pixels
    return out


@compiled
def bounding_boxes(words: Any, offsets: Any, windows: Any) -> Any:
    """Half-open pixel bounds x0, y0, x1, y1, int64 (N, 4); zeros for an empty mask."""
    out = np.zeros((len(offsets) - 1, 4), dtype=np.int64)
    for i in range(len(out)):
        x0, word0, n_columns, per_column = windows[i, 0], windows[i, 1], windows[i, 2], windows[i, 3]
        left, right, top, bottom = -1, 0, np.int64(1) << 62, np.int64(0)
        for c in range(n_columns):
            for k in range(per_column):
                word = words[offsets[i] + c * per_column + k]
                if word == np.uint64(0):
                    continue
                if left < 0:
                    left = c
                right = c + 1
                top = min(top, (word0 + k) * 64 + count_low_zeros(word))
                bottom = max(bottom, (word0 + k) * 64 + 64 - count_high_zeros(word))
        if left >= 0:
            out[i, 0], out[i, 1], out[i, 2], out[i, 3] = x0 + left, top, x0 + right, bottom
    return out


@compiled
def pack_dense(dense: Any, x0: Any, y0: Any, x1: Any, y1: Any) -> Any:
    """Words of a dense mask (H, W) uint8 inside its half-open pixel bounds, column after column."""
    word0 = y0 >> 6
    per_column = ((y1 - 1) >> 6) - word0 + 1
    out = np.zeros((x1 - x0) * per_column, dtype=np.uint64)
    for y in range(y0, y1):
        bit = np.uint64(1) << np.uint64(y & 63)
        for x in range(x0, x1):
            if dense[y, x] != 0:
                out[(x - x0) * per_column + (y >> 6) - word0] |= bit
    return out


@compiled
def unpack_dense(words: Any, window: Any, out: Any) -> Any:
    """Set the mask's pixels in ``out`` (H, W) bool; False if a pixel lies outside."""
    x0, word0, n_columns, per_column = window[0], window[1], window[2], window[3]
    for c in range(n_columns):
        for k in range(per_column):
            word = words[c * per_column + k]
            if word == np.uint64(0):
                continue
            for b in range(64):
                if (word >> np.uint64(b)) & np.uint64(1):
                    y = (word0 + k) * 64 + b
                    if y >= out.shape[0] or x0 + c >= out.shape[1]:
                        return False
                    out[y, x0 + c] = True
    return True
