"""Crops that lie on whole pixels, one value a pixel (fused masks): decided without sampling.

Pasting such a crop gives its own values back, up to float32's rounding of where a pixel lies; here they are compared as
they are, so that a threshold of exactly 153/255 keeps the value 153.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances.compiled import compiled


def on_whole_pixels(
    shapes: NDArray[np.int32],
    boxes: NDArray[np.float32],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
) -> bool:
    """Whether every crop has one value for each of the pixels that it lies over, all of them in its image."""
    sides = np.stack([boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], axis=1)
    inside = (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= widths).all() and (boxes[:, 3] <= heights).all()
    return bool(inside and np.array_equal(sides, shapes) and np.array_equal(boxes, np.floor(boxes)))


def decide_pixels(
    values: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    shapes: NDArray[np.int32],
    boxes: NDArray[np.float32],
    thresholds: NDArray[np.float32],
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32]]:
    """Return the pixels whose probability is at least a threshold, as ``paste.paste_words`` does.

    Args:
        values, offsets, shapes, boxes: of N crops, as in ``SoftMasks``, on whole pixels.
        thresholds: float32 (N, T), in (0, 1].

    Returns:
        words, offsets (N * T + 1), windows (N * T, 4); row ``i * T + t`` is crop ``i`` at its threshold ``t``.
    """
    probabilities = np.arange(256, dtype=np.float32) / np.float32(255)
    lowest = np.searchsorted(probabilities, thresholds.reshape(-1)).reshape(thresholds.shape)
    words, starts, windows = words_of_pixels(values, offsets, shapes, boxes.astype(np.int64), lowest)
    return words, starts, windows


@compiled
def words_of_pixels(values: Any, offsets: Any, shapes: Any, corners: Any, lowest: Any) -> Any:
    """See ``decide_pixels``; ``lowest`` int64 (N, T) is the smallest value that is in."""
    n, n_thresholds = lowest.shape
    windows = np.zeros((n * n_thresholds, 4), dtype=np.int32)
    starts = np.zeros(n * n_thresholds + 1, dtype=np.int64)
    out = np.empty(1024, dtype=np.uint64)
    used = 0
    for i in range(n):
        x0, y0 = corners[i, 0], corners[i, 1]
        height, width = shapes[i, 0], shapes[i, 1]
        word0 = y0 >> 6
        n_words = ((y0 + height - 1) >> 6) - word0 + 1 if height > 0 and width > 0 else 0
        rows = np.zeros(
            (n_words, width), dtype=np.uint64
        )  # words beside each other: the next column is the next word
        for t in range(n_thresholds):
            least = np.uint8(lowest[i, t])
            rows[:] = np.uint64(0)
            for y in range(height if n_words > 0 else 0):
                line = values[offsets[i] + y * width : offsets[i] + (y + 1) * width]
                bit = np.uint64((y0 + y) & 63)
                target = rows[((y0 + y) >> 6) - word0]
                for x in range(width):
                    target[x] |= np.uint64(line[x] >= least) << bit
            left, right, top, bottom = _bounds(rows)
            size = (right - left) * (bottom - top)
            if used + size > len(out):
                grown = np.empty(max(2 * len(out), used + size), dtype=np.uint64)
                grown[:used] = out[:used]
                out = grown
            for x in range(left, right):
                for k in range(top, bottom):
                    out[used] = rows[k, x]
                    used += 1
            row = i * n_thresholds + t
            if size > 0:
                windows[row, 0] = x0 + left
                windows[row, 1] = word0 + top
                windows[row, 2] = right - left
                windows[row, 3] = bottom - top
            starts[row + 1] = used
    return out[:used].copy(), starts, windows


@compiled
def _bounds(rows: Any) -> Any:
    """Columns [left, right) and words [top, bottom) of a (words, columns) block that hold a bit, or zeros."""
    left, right, top, bottom = rows.shape[1], 0, rows.shape[0], 0
    for k in range(rows.shape[0]):
        for x in range(rows.shape[1]):
            if rows[k, x] != np.uint64(0):
                left, right = min(left, x), max(right, x + 1)
                top, bottom = min(top, k), k + 1
    if right == 0:
        return 0, 0, 0, 0
    return left, right, top, bottom
