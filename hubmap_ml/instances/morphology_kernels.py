"""Erosion and dilation of packed words. Kernels over plain arrays; `morphology` speaks about masks.

A mask is unpacked row of words by row of words into a frame, so that a step is a few whole-word operations along many
columns at once: first up and down (shifts), then sideways.
"""

from typing import Any

import numpy as np

from hubmap_ml.instances.compiled import compiled, count_high_zeros, count_low_zeros

ERODE, DILATE = 0, 1
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_NONE = np.uint64(0)


@compiled
def morph(
    words: Any, offsets: Any, windows: Any, heights: Any, widths: Any, steps: Any, ranges: Any, goes_on: Any
) -> Any:
    """Apply steps to each mask.

    Args:
        words, offsets, windows: as in ``BitMasks``.
        heights, widths: int64 (N,), the image of each mask.
        steps: int64 (S,), ``ERODE`` or ``DILATE``.
        ranges: int64 (K, 3), the kernel's columns: dx and the rows dy from the anchor, [lowest, highest]; columns
            with equal rows stand together.
        goes_on: whether erosion takes pixels beyond the image's edge as set.

    Returns:
        words, offsets, windows of the results, trimmed, and the first mask with pixels outside its image (or -1).
    """
    n = len(offsets) - 1
    new_windows = np.zeros((n, 4), dtype=np.int32)
    starts = np.zeros(n + 1, dtype=np.int64)
    out = np.empty(len(words) + 1024, dtype=np.uint64)
    room = np.empty(1024, dtype=np.uint64)
    used = 0
    left, right, up, down = 0, 0, 0, 0  # how far the kernel reaches
    for r in range(len(ranges)):
        left, right = max(left, -ranges[r, 0]), max(right, ranges[r, 0])
        up, down = max(up, -ranges[r, 1]), max(down, ranges[r, 2])
    grows = 0
    for s in range(len(steps)):
        grows += steps[s] == DILATE
    side, lid = max(left, right), (max(up, down) + 63) >> 6  # columns and words around the frame
    for i in range(n):
        starts[i + 1] = used
        x0, word0, n_columns, per_column = windows[i, 0], windows[i, 1], windows[i, 2], windows[i, 3]
        if n_columns == 0:
            continue
        height, width = heights[i], widths[i]
        top, bottom = _rows_of(words, offsets[i], n_columns, per_column)
        top, bottom = top + 64 * word0, bottom + 64 * word0
        if x0 < 0 or x0 + n_columns > width or bottom > height:
            return out[:0].copy(), starts, new_windows, i
        # a pixel is added where its kernel meets the mask: a mask grows against the kernel's direction
        first, stop = max(0, x0 - grows * right), min(width, x0 + n_columns + grows * left)
        k_first, k_stop = max(0, top - grows * down) >> 6, (min(height, bottom + grows * up) + 63) >> 6
        across, deep = stop - first, k_stop - k_first
        wide, tall = across + 2 * side, deep + 2 * lid
        if 3 * tall * wide > len(room):
            room = np.empty(6 * tall * wide, dtype=np.uint64)
        frame = room[: tall * wide].reshape(tall, wide)
        stacked = room[tall * wide : 2 * tall * wide].reshape(tall, wide)
        result = room[2 * tall * wide : 3 * tall * wide].reshape(tall, wide)
        _fill(frame, _NONE)
        for k in range(max(word0, k_first), min(word0 + per_column, k_stop)):
            line = frame[lid + k - k_first, side + x0 - first : side + x0 - first + n_columns]
            column = words[offsets[i] + k - word0 : offsets[i + 1]]
            for c in range(n_columns):
                line[c] = column[c * per_column]
        for s in range(len(steps)):
            erode = steps[s] == ERODE
            _set_outside(frame, k_first - lid, first - side, height, width, erode and goes_on)
            _fill(result, _ALL if erode else _NONE)
            for r in range(len(ranges)):
                dx, low, high = ranges[r, 0], ranges[r, 1], ranges[r, 2]
                for k in range(lid, lid + deep):
                    if r == 0 or low != ranges[r - 1, 1] or high != ranges[r - 1, 2]:
                        _stack(frame, k, low, high, erode, stacked[k])
                    moved = stacked[k, side + dx : side + dx + across]
                    _combine(result[k, side : side + across], moved, erode)
            for k in range(tall):
                frame[k, :side] = _NONE
                frame[k, side + across :] = _NONE
                if lid <= k < lid + deep:
                    frame[k, side : side + across] = result[k, side : side + across]
                else:
                    frame[k, side : side + across] = _NONE
        _set_outside(frame, k_first - lid, first - side, height, width, False)
        c_first, c_stop, top_word, stop_word = _bounds(frame)
        columns, deep = c_stop - c_first, stop_word - top_word
        if used + columns * deep > len(out):
            grown = np.empty(2 * len(out) + columns * deep, dtype=np.uint64)
            grown[:used] = out[:used]
            out = grown
        for k in range(deep):
            line = frame[top_word + k, c_first:c_stop]
            column = out[used + k : used + columns * deep]
            for c in range(columns):
                column[c * deep] = line[c]
        used += columns * deep
        starts[i + 1] = used
        if columns > 0:
            new_windows[i, 0] = first - side + c_first
            new_windows[i, 1] = k_first - lid + top_word
            new_windows[i, 2] = columns
            new_windows[i, 3] = deep
    return out[:used].copy(), starts, new_windows, -1


@compiled
def _rows_of(words: Any, start: Any, n_columns: Any, per_column: Any) -> Any:
    """Rows [first, stop) of a mask's window that hold a pixel."""
    first, stop = 64 * per_column, 0
    for k in range(per_column):
        some = _NONE
        for c in range(n_columns):
            some |= words[start + c * per_column + k]
        if some != _NONE:
            first = min(first, 64 * k + count_low_zeros(some))
            stop = 64 * k + 64 - count_high_zeros(some)
    return first, stop


@compiled
def _fill(block: Any, value: Any) -> None:
    for k in range(block.shape[0]):
        line = block[k]
        for c in range(len(line)):
            line[c] = value


@compiled
def _set_outside(frame: Any, word0: Any, x0: Any, height: Any, width: Any, value: Any) -> None:
    """Set or clear the pixels of a frame, which begins at word row ``word0`` and column ``x0``, beyond the image."""
    for k in range(frame.shape[0]):
        rows_before_end = height - 64 * (word0 + k)
        inside = _ALL
        if word0 + k < 0 or rows_before_end <= 0:
            inside = _NONE
        elif rows_before_end < 64:
            inside = _ALL >> np.uint64(64 - rows_before_end)
        line = frame[k]
        if value:
            if inside != _ALL:
                for c in range(len(line)):
                    line[c] |= ~inside
            for c in range(min(len(line), max(0, -x0))):
                line[c] = _ALL
            for c in range(max(0, width - x0), len(line)):
                line[c] = _ALL
        elif inside != _ALL:
            for c in range(len(line)):
                line[c] &= inside


@compiled
def _stack(frame: Any, k: Any, low: Any, high: Any, erode: Any, out: Any) -> None:
    """Of each pixel of word row ``k``: those from ``low`` to ``high`` rows further, all (erode) or any of them."""
    for d in range(low, high + 1):
        near, far = frame[k + (d >> 6)], frame[min(k + (d >> 6) + 1, len(frame) - 1)]
        shift = np.uint64(d & 63)
        back = np.uint64(64) - shift
        if d & 63 == 0:
            if d == low:
                for c in range(len(out)):
                    out[c] = near[c]
            else:
                _combine(out, near, erode)
        elif d == low:
            for c in range(len(out)):
                out[c] = (near[c] >> shift) | (far[c] << back)
        elif erode:
            for c in range(len(out)):
                out[c] &= (near[c] >> shift) | (far[c] << back)
        else:
            for c in range(len(out)):
                out[c] |= (near[c] >> shift) | (far[c] << back)


@compiled
def _combine(target: Any, source: Any, erode: Any) -> None:
    if erode:
        for c in range(len(target)):
            target[c] &= source[c]
    else:
        for c in range(len(target)):
            target[c] |= source[c]


@compiled
def _bounds(frame: Any) -> Any:
    """Columns [first, stop) and word rows [first, stop) of a frame that hold a bit, or zeros."""
    deep, wide = frame.shape
    c_first, c_stop, k_first, k_stop = wide, 0, deep, 0
    for k in range(deep):
        line = frame[k]
        left = 0
        while left < wide and line[left] == _NONE:
            left += 1
        if left == wide:
            continue
        right = wide
        while line[right - 1] == _NONE:
            right -= 1
        c_first, c_stop = min(c_first, left), max(c_stop, right)
        k_first, k_stop = min(k_first, k), k + 1
    if c_stop == 0:
        return 0, 0, 0, 0
    return c_first, c_stop, k_first, k_stop
