"""Counting and comparing bit-packed masks: areas, tight boxes, overlaps; packing and unpacking dense masks.

Kernels only; the structure that they work on, and what its fields mean, is `BitMasks`.
"""

from typing import Any

import numpy as np

from hubmap_ml.instances.compiled import compiled

_M1 = np.uint64(0x5555555555555555)
_M2 = np.uint64(0x3333333333333333)
_M4 = np.uint64(0x0F0F0F0F0F0F0F0F)
_H01 = np.uint64(0x0101010101010101)


@compiled
def _popcount(word: Any) -> Any:
    """Set bits of a word (LLVM makes one instruction of it)."""
    word = word - ((word >> np.uint64(1)) & _M1)
    word = (word & _M2) + ((word >> np.uint64(2)) & _M2)
    word = (word + (word >> np.uint64(4))) & _M4
    return np.int64((word * _H01) >> np.uint64(56))


@compiled
def count_bits(words: Any, offsets: Any) -> Any:
    """Pixels of each mask, int64 (N,)."""
    out = np.zeros(len(offsets) - 1, dtype=np.int64)
    for i in range(len(out)):
        for k in range(offsets[i], offsets[i + 1]):
            out[i] += _popcount(words[k])
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
                lowest = _popcount((word & (~word + np.uint64(1))) - np.uint64(1))
                highest = 63
                while (word >> np.uint64(highest)) == np.uint64(0):
                    highest -= 1
                top = min(top, (word0 + k) * 64 + lowest)
                bottom = max(bottom, (word0 + k) * 64 + highest + 1)
        if left >= 0:
            out[i, 0], out[i, 1], out[i, 2], out[i, 3] = x0 + left, top, x0 + right, bottom
    return out


@compiled
def _overlap(a_words: Any, a_start: Any, a: Any, i: Any, b_words: Any, b_start: Any, b: Any, j: Any) -> Any:
    """Pixels that two masks share; their windows are the rows ``i`` of ``a`` and ``j`` of ``b``."""
    left = max(a[i, 0], b[j, 0])
    right = min(a[i, 0] + a[i, 2], b[j, 0] + b[j, 2])
    top = max(a[i, 1], b[j, 1])
    bottom = min(a[i, 1] + a[i, 3], b[j, 1] + b[j, 3])
    total = 0
    if right <= left or bottom <= top:
        return total
    for x in range(left, right):
        a_at = a_start + (x - a[i, 0]) * a[i, 3] - a[i, 1]
        b_at = b_start + (x - b[j, 0]) * b[j, 3] - b[j, 1]
        for k in range(top, bottom):
            total += _popcount(a_words[a_at + k] & b_words[b_at + k])
    return total


@compiled
def overlap_pairs(
    a_words: Any, a_offsets: Any, a_windows: Any, b_words: Any, b_offsets: Any, b_windows: Any, pairs: Any
) -> Any:
    """Shared pixels of the pairs (row of a, row of b), int64 (P,)."""
    out = np.zeros(len(pairs), dtype=np.int64)
    for p in range(len(pairs)):
        i, j = pairs[p, 0], pairs[p, 1]
        out[p] = _overlap(a_words, a_offsets[i], a_windows, i, b_words, b_offsets[j], b_windows, j)
    return out


@compiled
def overlap_matrix(
    a_words: Any, a_offsets: Any, a_windows: Any, b_words: Any, b_offsets: Any, b_windows: Any, symmetric: Any
) -> Any:
    """Shared pixels of each mask of a with each of b, int64 (A, B); ``symmetric``: a is b, half counted."""
    out = np.zeros((len(a_offsets) - 1, len(b_offsets) - 1), dtype=np.int64)
    for i in range(out.shape[0]):
        for j in range(i if symmetric else 0, out.shape[1]):
            shared = _overlap(a_words, a_offsets[i], a_windows, i, b_words, b_offsets[j], b_windows, j)
            out[i, j] = shared
            if symmetric:
                out[j, i] = shared
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
