"""What the masks of an image hold together: their union, and each one's pixels that no earlier one holds.

Kernels over the words of `BitMasks` and the functions around them. All masks of an image share its grid of words, so
that nothing is shifted; what is laid out is one bit a pixel of the window that the image's masks span.
"""

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import BitMasks
from hubmap_ml.instances.compiled import compiled


def union_of_groups(bits: BitMasks, offsets: NDArray[np.int64]) -> BitMasks:
    """Return one mask a group: the pixels that any of its masks holds.

    Args:
        bits: N masks, group by group; those of a group are of one image.
        offsets: int64 (G + 1,), where each group begins.
    """
    words, starts, windows = _unions(np.ascontiguousarray(bits.words), bits.offsets, bits.windows, offsets)
    return BitMasks(words, starts, windows)


def without_earlier(bits: BitMasks, offsets: NDArray[np.int64]) -> BitMasks:
    """Return the N masks without the pixels that an earlier mask of their group holds; arguments as above."""
    words = _without_earlier(np.ascontiguousarray(bits.words), bits.offsets, bits.windows, offsets)
    return BitMasks(*_trimmed(words, bits.offsets, bits.windows))


@compiled
def _window(windows: NDArray[np.int32], first: int, stop: int) -> tuple[int, int, int, int]:
    """The window (x0, word0, columns, words per column) around those of the rows from first to stop."""
    left, top, right, bottom = 1 << 30, 1 << 30, 0, 0
    for i in range(first, stop):
        if windows[i, 2] > 0:
            left = min(left, windows[i, 0])
            top = min(top, windows[i, 1])
            right = max(right, windows[i, 0] + windows[i, 2])
            bottom = max(bottom, windows[i, 1] + windows[i, 3])
    if right == 0:
        return 0, 0, 0, 0
    return left, top, right - left, bottom - top


@compiled
def _unions(
    words: NDArray[np.uint64],
    starts: NDArray[np.int64],
    windows: NDArray[np.int32],
    offsets: NDArray[np.int64],
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32]]:
    n = len(offsets) - 1
    out_windows = np.zeros((n, 4), np.int32)
    out_starts = np.zeros(n + 1, np.int64)
    for group in range(n):
        x0, word0, columns, per_column = _window(windows, offsets[group], offsets[group + 1])
        out_windows[group, 0], out_windows[group, 1] = x0, word0
        out_windows[group, 2], out_windows[group, 3] = columns, per_column
        out_starts[group + 1] = out_starts[group] + columns * per_column
    out = np.zeros(out_starts[n], np.uint64)
    for group in range(n):
        x0, word0, per_column = out_windows[group, 0], out_windows[group, 1], out_windows[group, 3]
        for i in range(offsets[group], offsets[group + 1]):
            for column in range(windows[i, 2]):
                source = starts[i] + column * windows[i, 3]
                target = (
                    out_starts[group] + (windows[i, 0] + column - x0) * per_column + windows[i, 1] - word0
                )
                for k in range(windows[i, 3]):
                    out[target + k] |= words[source + k]
    return out, out_starts, out_windows


@compiled
def _without_earlier(
    words: NDArray[np.uint64],
    starts: NDArray[np.int64],
    windows: NDArray[np.int32],
    offsets: NDArray[np.int64],
) -> NDArray[np.uint64]:
    """The words of each mask, in its old window, without the bits of earlier masks of its group."""
    out = words.copy()
    for group in range(len(offsets) - 1):
        x0, word0, columns, per_column = _window(windows, offsets[group], offsets[group + 1])
        taken = np.zeros(columns * per_column, np.uint64)
        for i in range(offsets[group], offsets[group + 1]):
            for column in range(windows[i, 2]):
                source = starts[i] + column * windows[i, 3]
                target = (windows[i, 0] + column - x0) * per_column + windows[i, 1] - word0
                for k in range(windows[i, 3]):
                    out[source + k] = words[source + k] & ~taken[target + k]
                    taken[target + k] |= words[source + k]
    return out


@compiled
def _trimmed(
    words: NDArray[np.uint64], starts: NDArray[np.int64], windows: NDArray[np.int32]
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32]]:
    """Words, offsets and windows as small as columns and whole words allow."""
    n = len(windows)
    out_windows = np.zeros((n, 4), np.int32)
    out_starts = np.zeros(n + 1, np.int64)
    for i in range(n):
        columns, per_column = windows[i, 2], windows[i, 3]
        left, right, top, bottom = columns, 0, per_column, 0
        for column in range(columns):
            for k in range(per_column):
                if words[starts[i] + column * per_column + k] != np.uint64(0):
                    left, right = min(left, column), column + 1
                    top, bottom = min(top, k), max(bottom, k + 1)
        if right > 0:
            out_windows[i, 0], out_windows[i, 1] = windows[i, 0] + left, windows[i, 1] + top
            out_windows[i, 2], out_windows[i, 3] = right - left, bottom - top
        out_starts[i + 1] = out_starts[i] + np.int64(out_windows[i, 2]) * out_windows[i, 3]
    out = np.empty(out_starts[n], np.uint64)
    for i in range(n):
        for column in range(out_windows[i, 2]):
            for k in range(out_windows[i, 3]):
                source = (
                    starts[i]
                    + (out_windows[i, 0] - windows[i, 0] + column) * windows[i, 3]
                    + out_windows[i, 1]
                    - windows[i, 1]
                    + k
                )
                out[out_starts[i] + column * out_windows[i, 3] + k] = words[source]
    return out, out_starts, out_windows
