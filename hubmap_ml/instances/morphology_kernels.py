"""Erosion and dilation of packed words. Kernels over plain arrays; `morphology` speaks about masks.

A mask is laid into a frame of zeros, row of words after row of words in one long line, so that a step is a few
operations on whole words along that line: up and down by shifts (the neighbouring row of words is a fixed distance
away), then sideways by reading a few words further. What runs over a row's end lands in the frame's sides, which are
cleared.
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
    side, lid = 0, 1  # columns and rows of words around a frame
    for r in range(len(ranges)):
        side = max(side, abs(ranges[r, 0]))
        lid = max(lid, (max(-ranges[r, 1], ranges[r, 2]) + 63) >> 6)
    places, outside = _places(words, offsets, windows, heights, widths, steps, ranges)
    if outside >= 0:
        return words[:0].copy(), starts, new_windows, outside
    largest, total = 0, 0
    for i in range(n):
        across, deep = places[i, 1] - places[i, 0], places[i, 3] - places[i, 2]
        largest = max(largest, (across + 2 * side) * (deep + 2 * lid))
        total += across * deep
    out = np.empty(total, dtype=np.uint64)
    frame, other = np.zeros(largest, dtype=np.uint64), np.zeros(largest, dtype=np.uint64)
    stacked = np.zeros(largest, dtype=np.uint64)
    used = 0
    for i in range(n):
        starts[i + 1] = used
        first, stop, k_first, k_stop = places[i, 0], places[i, 1], places[i, 2], places[i, 3]
        if stop == first:
            continue
        across, deep = stop - first, k_stop - k_first
        wide, tall = across + 2 * side, deep + 2 * lid
        frame[: tall * wide] = _NONE
        other[: tall * wide] = _NONE
        per_column = windows[i, 3]
        for k in range(max(windows[i, 1], k_first), min(windows[i, 1] + per_column, k_stop)):
            at = (lid + k - k_first) * wide + side + windows[i, 0] - first
            line = frame[at : at + windows[i, 2]]
            column = words[offsets[i] + k - windows[i, 1] : offsets[i + 1]]
            for c in range(len(line)):
                line[c] = column[c * per_column]
        for s in range(len(steps)):
            erode = steps[s] == ERODE
            _set_outside(
                frame, tall, wide, k_first - lid, first - side, heights[i], widths[i], erode and goes_on
            )
            for r in range(len(ranges)):
                dx, low, high = ranges[r, 0], ranges[r, 1], ranges[r, 2]
                if r == 0 or low != ranges[r - 1, 1] or high != ranges[r - 1, 2]:
                    _stack(frame, lid, deep, wide, low, high, erode, stacked)
                _spread(stacked, lid, deep, wide, dx, 0 if r == 0 else 1 if erode else 2, other)
            for k in range(lid, lid + deep):
                for c in range(side):
                    other[k * wide + c] = _NONE
                    other[(k + 1) * wide - 1 - c] = _NONE
            frame[: tall * wide] = other[: tall * wide]
        _set_outside(frame, tall, wide, k_first - lid, first - side, heights[i], widths[i], False)
        c_first, c_stop, top, bottom = _bounds(frame, lid, deep, side, wide)
        columns, rows = c_stop - c_first, bottom - top
        for k in range(rows):
            line = frame[(top + k) * wide + c_first : (top + k) * wide + c_stop]
            column = out[used + k : used + columns * rows]
            for c in range(len(line)):
                column[c * rows] = line[c]
        used += columns * rows
        starts[i + 1] = used
        if columns > 0:
            new_windows[i, 0], new_windows[i, 1] = first - side + c_first, k_first - lid + top
            new_windows[i, 2], new_windows[i, 3] = columns, rows
    return out[:used].copy(), starts, new_windows, -1


@compiled
def _places(
    words: Any, offsets: Any, windows: Any, heights: Any, widths: Any, steps: Any, ranges: Any
) -> Any:
    """What each mask can reach: columns [first, stop) and rows of words [first, stop), int64 (N, 4); and the first
    mask with pixels outside its image, or -1.

    A pixel is added where its kernel meets the mask: a mask grows against the kernel's direction.
    """
    left, right, up, down, grows = 0, 0, 0, 0, 0
    for r in range(len(ranges)):
        left, right = max(left, -ranges[r, 0]), max(right, ranges[r, 0])
        up, down = max(up, -ranges[r, 1]), max(down, ranges[r, 2])
    for s in range(len(steps)):
        grows += steps[s] == DILATE
    out = np.zeros((len(offsets) - 1, 4), dtype=np.int64)
    for i in range(len(out)):
        x0, word0, n_columns, per_column = windows[i, 0], windows[i, 1], windows[i, 2], windows[i, 3]
        if n_columns == 0:
            continue
        top, bottom = 64 * per_column, 0
        for k in range(per_column):
            column = words[offsets[i] + k : offsets[i + 1]]
            some = _NONE
            for c in range(n_columns):
                some |= column[c * per_column]
            if some != _NONE:
                top = min(top, 64 * k + count_low_zeros(some))
                bottom = 64 * k + 64 - count_high_zeros(some)
        top, bottom = top + 64 * word0, bottom + 64 * word0
        if x0 < 0 or x0 + n_columns > widths[i] or bottom > heights[i]:
            return out, i
        out[i, 0], out[i, 1] = max(0, x0 - grows * right), min(widths[i], x0 + n_columns + grows * left)
        out[i, 2], out[i, 3] = (
            max(0, top - grows * down) >> 6,
            (min(heights[i], bottom + grows * up) + 63) >> 6,
        )
    return out, -1


@compiled
def _set_outside(
    frame: Any, tall: Any, wide: Any, word0: Any, x0: Any, height: Any, width: Any, value: Any
) -> None:
    """Set or clear the pixels of a frame, which begins at word row ``word0`` and column ``x0``, beyond the image."""
    for k in range(tall):
        rows_before_end = height - 64 * (word0 + k)
        inside = _ALL
        if word0 + k < 0 or rows_before_end <= 0:
            inside = _NONE
        elif rows_before_end < 64:
            inside = _ALL >> np.uint64(64 - rows_before_end)
        line = frame[k * wide : (k + 1) * wide]
        if value:
            if inside != _ALL:
                for c in range(len(line)):
                    line[c] |= ~inside
            line[: max(0, -x0)] = _ALL
            line[max(0, width - x0) :] = _ALL
        elif inside != _ALL:
            for c in range(len(line)):
                line[c] &= inside


@compiled
def _stack(frame: Any, lid: Any, deep: Any, wide: Any, low: Any, high: Any, erode: Any, stacked: Any) -> None:
    """Of each pixel: those from ``low`` to ``high`` rows further, all (erode) or any of them.

    Plain loops over unsigned numbers: slices would be counted references here, and signed numbers wrap around.
    """
    n, to = np.uint64(deep * wide), np.uint64(lid * wide)
    for d in range(low, high + 1):
        near = np.uint64((lid + (d >> 6)) * wide)
        far = near + np.uint64(wide)
        shift = np.uint64(d & 63)
        back = np.uint64(64) - shift
        if d & 63 == 0:
            if d == low:
                for p in range(n):
                    stacked[to + p] = frame[near + p]
            elif erode:
                for p in range(n):
                    stacked[to + p] &= frame[near + p]
            else:
                for p in range(n):
                    stacked[to + p] |= frame[near + p]
        elif d == low:
            for p in range(n):
                stacked[to + p] = (frame[near + p] >> shift) | (frame[far + p] << back)
        elif erode:
            for p in range(n):
                stacked[to + p] &= (frame[near + p] >> shift) | (frame[far + p] << back)
        else:
            for p in range(n):
                stacked[to + p] |= (frame[near + p] >> shift) | (frame[far + p] << back)


@compiled
def _spread(stacked: Any, lid: Any, deep: Any, wide: Any, dx: Any, how: Any, out: Any) -> None:
    """Write (0), AND (1) or OR (2) the words ``dx`` columns further into ``out``."""
    n, to = np.uint64(deep * wide), np.uint64(lid * wide)
    source = np.uint64(lid * wide + dx)
    if how == 0:
        for p in range(n):
            out[to + p] = stacked[source + p]
    elif how == 1:
        for p in range(n):
            out[to + p] &= stacked[source + p]
    else:
        for p in range(n):
            out[to + p] |= stacked[source + p]


@compiled
def _bounds(frame: Any, lid: Any, deep: Any, side: Any, wide: Any) -> Any:
    """Columns [first, stop) and rows of words [first, stop) of a frame that hold a bit, or zeros."""
    c_first, c_stop, k_first, k_stop = wide, 0, lid + deep, 0
    for k in range(lid, lid + deep):
        line = frame[k * wide : (k + 1) * wide]
        left, right = side, wide - side
        while left < right and line[left] == _NONE:
            left += 1
        if left == right:
            continue
        while line[right - 1] == _NONE:
            right -= 1
        c_first, c_stop = min(c_first, left), max(c_stop, right)
        k_first, k_stop = min(k_first, k), k + 1
    if c_stop == 0:
        return 0, 0, 0, 0
    return c_first, c_stop, k_first, k_stop
