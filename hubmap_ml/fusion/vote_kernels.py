"""Kernels that count how many masks of a cluster hold a pixel, 64 pixels at a time, and decide by the count.

Counts are kept as bit planes: plane ``p`` of a word holds bit ``p`` of the counts of its 64 pixels, and a mask is added
by carrying its word through the planes. Kernels over plain arrays; `cluster_masks` speaks about masks.
"""

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances.compiled import compiled

_EVERY = np.uint64(0xFFFFFFFFFFFFFFFF)


@compiled
def vote_words(
    words: NDArray[np.uint64],
    offsets: NDArray[np.int64],
    windows: NDArray[np.int32],
    cluster_offsets: NDArray[np.int64],
    member_rows: NDArray[np.int64],
    needed: NDArray[np.int64],
    frames: NDArray[np.int64],
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32]]:
    """Return the pixels that at least ``needed`` masks of each cluster hold, inside the cluster's frame.

    Args:
        words, offsets, windows: bit masks, as in ``BitMasks``.
        cluster_offsets, member_rows: C clusters of their rows in CSR form.
        needed: (C,) at least 1.
        frames: (C, 4) x0, y0, x1, y1, pixels that may be in; not negative.

    Returns:
        words, offsets (C + 1) and windows of the decided masks, trimmed as ``BitMasks`` asks.
    """
    n = len(cluster_offsets) - 1
    out = np.empty(1024, np.uint64)
    out_offsets = np.zeros(n + 1, np.int64)
    out_windows = np.zeros((n, 4), np.int32)
    used = 0
    for c in range(n):
        rows = member_rows[cluster_offsets[c] : cluster_offsets[c + 1]]
        x0, x1, word0, word1 = _extent(windows, rows, frames[c])
        if x1 > x0 and word1 > word0:
            planes = _counts(words, offsets, windows, rows, x0, x1, word0, word1)
            decided = _at_least(planes, needed[c])
            _keep_rows(decided, word1 - word0, word0, frames[c, 1], frames[c, 3])
            left, right, top, bottom = _bounds(decided, x1 - x0, word1 - word0)
            size = (right - left) * (bottom - top)
            if used + size > len(out):
                grown = np.empty(max(2 * len(out), used + size), np.uint64)
                grown[:used] = out[:used]
                out = grown
            for x in range(left, right):
                for k in range(top, bottom):
                    out[used] = decided[x * (word1 - word0) + k]
                    used += 1
            if size > 0:
                out_windows[c, 0] = x0 + left
                out_windows[c, 1] = word0 + top
                out_windows[c, 2] = right - left
                out_windows[c, 3] = bottom - top
        out_offsets[c + 1] = used
    return out[:used].copy(), out_offsets, out_windows


@compiled
def _extent(
    windows: NDArray[np.int32], rows: NDArray[np.int64], frame: NDArray[np.int64]
) -> tuple[int, int, int, int]:
    """Columns [x0, x1) and words [word0, word1) that masks of the rows reach inside the frame."""
    x0, x1, word0, word1 = frame[2], frame[0], (frame[3] + 63) >> 6, frame[1] >> 6
    for row in rows:
        if windows[row, 2] > 0:
            x0 = min(x0, max(frame[0], windows[row, 0]))
            x1 = max(x1, min(frame[2], windows[row, 0] + windows[row, 2]))
            word0 = min(word0, max(frame[1] >> 6, windows[row, 1]))
            word1 = max(word1, min((frame[3] + 63) >> 6, windows[row, 1] + windows[row, 3]))
    return x0, x1, word0, word1


@compiled
def _counts(
    words: NDArray[np.uint64],
    offsets: NDArray[np.int64],
    windows: NDArray[np.int32],
    rows: NDArray[np.int64],
    x0: int,
    x1: int,
    word0: int,
    word1: int,
) -> NDArray[np.uint64]:
    """Return bit planes (planes, columns * words) of how many masks of the rows hold each pixel."""
    n_planes = 1
    while (1 << n_planes) <= len(rows):
        n_planes += 1
    per_column = word1 - word0
    planes = np.zeros((n_planes, (x1 - x0) * per_column), np.uint64)
    for row in rows:
        window = windows[row]
        for x in range(max(x0, window[0]), min(x1, window[0] + window[2])):
            at = offsets[row] + (x - window[0]) * window[3] - window[1]
            target = (x - x0) * per_column - word0
            for k in range(max(word0, window[1]), min(word1, window[1] + window[3])):
                carry = words[at + k]
                plane = 0
                while carry != np.uint64(0):
                    before = planes[plane, target + k]
                    planes[plane, target + k] = before ^ carry
                    carry &= before
                    plane += 1
    return planes


@compiled
def _at_least(planes: NDArray[np.uint64], needed: int) -> NDArray[np.uint64]:
    """Return words whose bits say that a count is at least ``needed``."""
    out = np.zeros(planes.shape[1], np.uint64)
    if needed >= (1 << len(planes)):
        return out
    for w in range(planes.shape[1]):
        greater = np.uint64(0)
        equal = _EVERY
        for plane in range(len(planes) - 1, -1, -1):
            bits = planes[plane, w]
            if (needed >> plane) & 1:
                equal &= bits
            else:
                greater |= equal & bits
                equal &= ~bits
        out[w] = greater | equal
    return out


@compiled
def _keep_rows(words: NDArray[np.uint64], per_column: int, word0: int, y0: int, y1: int) -> None:
    """Clear the pixels of image rows outside [y0, y1)."""
    for k in range(per_column):
        low = min(64, max(0, y0 - 64 * (word0 + k)))
        high = min(64, max(0, y1 - 64 * (word0 + k)))
        kept = np.uint64(0)
        if high > low:
            kept = (_EVERY >> np.uint64(64 - (high - low))) << np.uint64(low)
        if kept != _EVERY:
            for x in range(len(words) // per_column):
                words[x * per_column + k] &= kept


@compiled
def _bounds(words: NDArray[np.uint64], columns: int, per_column: int) -> tuple[int, int, int, int]:
    """Columns [left, right) and words [top, bottom) that hold a pixel; zeros where none does."""
    left, right, top, bottom = columns, 0, per_column, 0
    for x in range(columns):
        for k in range(per_column):
            if words[x * per_column + k] != np.uint64(0):
                left, right = min(left, x), x + 1
                top, bottom = min(top, k), max(bottom, k + 1)
    if right == 0:
        return 0, 0, 0, 0
    return left, right, top, bottom
