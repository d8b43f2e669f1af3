"""Laying a soft crop over its box in the image, exactly as mmdet 2.28 does it.

The reference is ``mmdet/models/roi_heads/mask_heads/fcn_mask_head.py::_do_paste_mask`` with
``skip_empty=False`` (what mmdet does on a GPU; its CPU path cuts the result one pixel outside the box, which
loses pixels of large boxes at thresholds under 0.5), followed by torch's ``grid_sample(mode="bilinear",
padding_mode="zeros", align_corners=False)``. Arithmetic is float32 in the reference's order, with the
multiply-adds that torch's vectorised kernel fuses (AVX2 and AVX-512 builds): results are equal bit for bit
there. One difference on purpose: a box without positive width and height, or with a coordinate that is not
finite, gives an empty mask, where mmdet's two paths give two different stripes.

An image is walked down its columns, as its words run. A column lies between two columns of the crop; each of these is
stretched to the image's rows once (``_stretch``), so that all further work goes along contiguous rows.
"""

from typing import Any

import numpy as np

from hubmap_ml.instances.compiled import compiled, fused

_ONE = np.float32(1)
_TWO = np.float32(2)
_HALF = np.float32(0.5)
_FULL = np.float32(255)


@compiled
def _is_solid(x0: Any, y0: Any, x1: Any, y1: Any) -> Any:
    finite = np.isfinite(x0) and np.isfinite(y0) and np.isfinite(x1) and np.isfinite(y1)
    return finite and x1 > x0 and y1 > y0


@compiled
def _reach(low: Any, high: Any, cells: Any, size: Any) -> Any:
    """Pixels [first, stop) of an image side that a crop side of ``cells`` can touch, and some to spare."""
    extent = float(high) - float(low)
    margin = 0.5 * extent / cells + 2.0 + 1e-5 * extent
    first = max(0.0, np.floor(float(low) - margin))
    stop = min(float(size), np.ceil(float(high) + margin))
    if stop <= first:
        return 0, 0
    return int(first), int(stop)


@compiled
def _sample_positions(low: Any, high: Any, cells: Any, first: Any, before: Any, past: Any) -> None:
    """Where the centres of the pixels from ``first`` on fall in the crop.

    Writes the cell before each in a frame of one zero cell on each side (0 … cells; -1 outside) and the distance past
    that cell's centre.
    """
    half_cells = np.float32(cells) / _TWO
    for k in range(len(before)):
        at = (np.float32(first + k) + _HALF - low) / (high - low) * _TWO - _ONE
        position = fused(at + _ONE, half_cells, -_HALF)
        if not (position > np.float32(-1) and position < np.float32(cells)):
            before[k] = -1
            past[k] = np.float32(0)
        else:
            cell = np.floor(position)
            before[k] = int(cell) + 1
            past[k] = position - cell


@compiled
def _framed(values: Any, height: Any, width: Any, out: Any) -> None:
    """Write a crop as probabilities (height + 2, width + 2), row-major, in a frame of zeros."""
    wide = width + 2
    for k in range(wide):
        out[k] = np.float32(0)
        out[(height + 1) * wide + k] = np.float32(0)
    for y in range(height):
        line = out[(y + 1) * wide : (y + 2) * wide]
        row = values[y * width : (y + 1) * width]
        line[0] = np.float32(0)
        line[width + 1] = np.float32(0)
        for x in range(width):
            line[x + 1] = np.float32(row[x]) / _FULL


@compiled
def _stretch(crop: Any, wide: Any, column: Any, rows: Any, upper: Any, lower: Any) -> None:
    """One column of a framed crop at the image's rows: the cells above and below each row's centre."""
    for k in range(len(rows)):
        at = max(rows[k], 0) * wide + column  # outside, upper is the frame's zero and lower has no weight
        upper[k] = crop[at]
        lower[k] = crop[at + wide]


@compiled
def _sample(
    upper_left: Any, lower_left: Any, upper_right: Any, lower_right: Any, down: Any, right: Any, out: Any
) -> None:
    """Probabilities of one image column; the four products in grid_sample's order."""
    left = _ONE - right
    for k in range(len(down)):
        south = down[k]
        north = _ONE - south
        value = upper_left[k] * (north * left)
        value = fused(upper_right[k], north * right, value)
        value = fused(lower_left[k], south * left, value)
        out[k] = fused(lower_right[k], south * right, value)


@compiled
def _pack(line: Any, threshold: Any, out: Any) -> None:
    """Set bit b of word k where pixel 64 k + b reaches the threshold (as many pixels as the words have bits)."""
    for k in range(len(out)):
        pixels = line[64 * k : 64 * k + 64]
        word = np.uint64(0)
        for b in range(64):
            word |= np.uint64(pixels[b] >= threshold) << np.uint64(b)
        out[k] = word


@compiled
def paste_values(values: Any, shape: Any, box: Any, out: Any) -> None:
    """Write the pasted probabilities of one crop into ``out`` (H, W) float32, which is zero before."""
    x0, y0, x1, y1 = box[0], box[1], box[2], box[3]
    height, width = shape[0], shape[1]
    if not _is_solid(x0, y0, x1, y1) or height == 0 or width == 0:
        return
    first_x, stop_x = _reach(x0, x1, width, out.shape[1])
    first_y, stop_y = _reach(y0, y1, height, out.shape[0])
    columns, right = np.empty(stop_x - first_x, np.int64), np.empty(stop_x - first_x, np.float32)
    rows, down = np.empty(stop_y - first_y, np.int64), np.empty(stop_y - first_y, np.float32)
    _sample_positions(x0, x1, width, first_x, columns, right)
    _sample_positions(y0, y1, height, first_y, rows, down)
    crop = np.empty((height + 2) * (width + 2), np.float32)
    _framed(values, height, width, crop)
    lines = np.empty((5, stop_y - first_y), np.float32)
    for c in range(stop_x - first_x):
        if columns[c] >= 0:
            _stretch(crop, width + 2, columns[c], rows, lines[0], lines[1])
            _stretch(crop, width + 2, columns[c] + 1, rows, lines[2], lines[3])
            _sample(lines[0], lines[1], lines[2], lines[3], down, right[c], lines[4])
            for k in range(stop_y - first_y):
                out[first_y + k, first_x + c] = lines[4, k]


@compiled
def paste_words(
    values: Any, offsets: Any, shapes: Any, boxes: Any, thresholds: Any, heights: Any, widths: Any
) -> Any:
    """Pasted crops at several thresholds, as bit words trimmed to their pixels.

    Args:
        values, offsets, shapes, boxes: as in ``SoftMasks``.
        thresholds: float32 (N, T); a pixel is set where its probability >= threshold (> 0).
        heights, widths: int64 (N,), the image of each crop.

    Returns:
        words uint64, offsets int64 (N * T + 1), windows int32 (N * T, 4); row ``i * T + t`` is crop ``i`` at
        its threshold ``t``.
    """
    n, n_thresholds = thresholds.shape
    windows = np.zeros((n * n_thresholds, 4), dtype=np.int32)
    starts = np.zeros(n * n_thresholds + 1, dtype=np.int64)
    out = np.empty(1024, dtype=np.uint64)
    used = 0
    cells, across, deep = 0, 0, 0  # the most of any
    for i in range(n):
        cells = max(cells, np.int64(shapes[i, 0] + 2) * (shapes[i, 1] + 2))
    crop = np.empty(cells, np.float32)
    columns, right = np.empty(0, np.int64), np.empty(0, np.float32)
    rows, down = np.empty(0, np.int64), np.empty(0, np.float32)
    even_upper, even_lower = np.empty(0, np.float32), np.empty(0, np.float32)
    odd_upper, odd_lower = np.empty(0, np.float32), np.empty(0, np.float32)
    line = np.empty(0, np.float32)
    scratch = np.empty(0, np.uint64)
    for i in range(n):
        x0, y0, x1, y1 = boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3]
        height, width = shapes[i, 0], shapes[i, 1]
        first_x, stop_x, first_y, stop_y = 0, 0, 0, 0
        if _is_solid(x0, y0, x1, y1) and height > 0 and width > 0:
            first_x, stop_x = _reach(x0, x1, width, widths[i])
            first_y, stop_y = _reach(y0, y1, height, heights[i])
        if stop_x <= first_x or stop_y <= first_y:
            for t in range(n_thresholds):
                starts[i * n_thresholds + t + 1] = used
            continue
        word0 = first_y >> 6
        per_column = ((stop_y - 1) >> 6) - word0 + 1
        n_columns = stop_x - first_x
        if n_columns > across:
            across = 2 * n_columns
            columns, right = np.empty(across, np.int64), np.empty(across, np.float32)
        if per_column > deep:
            deep = 2 * per_column
            rows, down = np.empty(64 * deep, np.int64), np.empty(64 * deep, np.float32)
            even_upper, even_lower = np.empty(64 * deep, np.float32), np.empty(64 * deep, np.float32)
            odd_upper, odd_lower = np.empty(64 * deep, np.float32), np.empty(64 * deep, np.float32)
            line = np.empty(64 * deep, np.float32)
        if n_thresholds * n_columns * per_column > len(scratch):
            scratch = np.empty(2 * n_thresholds * n_columns * per_column, np.uint64)
        across_x, past_x = columns[:n_columns], right[:n_columns]
        across_y, past_y = rows[: 64 * per_column], down[: 64 * per_column]
        _sample_positions(x0, x1, width, first_x, across_x, past_x)
        _sample_positions(y0, y1, height, 64 * word0, across_y, past_y)
        for k in range(stop_y - 64 * word0, 64 * per_column):  # beyond the image
            across_y[k] = -1
            past_y[k] = np.float32(0)
        _framed(values[offsets[i] : offsets[i + 1]], height, width, crop)
        held_even, held_odd = -1, -1  # which columns of the crop are stretched
        size = n_columns * per_column
        for c in range(n_columns):
            column = across_x[c]
            if column < 0:
                for t in range(n_thresholds):
                    scratch[t * size + c * per_column : t * size + (c + 1) * per_column] = np.uint64(0)
                continue
            even, odd = column + (column & 1), column | 1
            if held_even != even:
                held_even = even
                _stretch(crop, width + 2, even, across_y, even_upper, even_lower)
            if held_odd != odd:
                held_odd = odd
                _stretch(crop, width + 2, odd, across_y, odd_upper, odd_lower)
            if column == even:
                _sample(even_upper, even_lower, odd_upper, odd_lower, past_y, past_x[c], line)
            else:
                _sample(odd_upper, odd_lower, even_upper, even_lower, past_y, past_x[c], line)
            for t in range(n_thresholds):
                at = t * size + c * per_column
                _pack(line, thresholds[i, t], scratch[at : at + per_column])
        for t in range(n_thresholds):
            row = i * n_thresholds + t
            block = scratch[t * size : (t + 1) * size]
            c_first, c_stop, k_first, k_stop = _bounds(block, n_columns, per_column)
            need = used + (c_stop - c_first) * (k_stop - k_first)
            if need > len(out):
                grown = np.empty(max(2 * len(out), need), dtype=np.uint64)
                grown[:used] = out[:used]
                out = grown
            for c in range(c_first, c_stop):
                for k in range(k_first, k_stop):
                    out[used] = block[c * per_column + k]
                    used += 1
            if c_stop > c_first:
                windows[row, 0], windows[row, 1] = first_x + c_first, word0 + k_first
                windows[row, 2], windows[row, 3] = c_stop - c_first, k_stop - k_first
            starts[row + 1] = used
    return out[:used].copy(), starts, windows


@compiled
def _bounds(words: Any, n_columns: Any, per_column: Any) -> Any:
    """Columns [first, stop) and words [first, stop) of a block, column after column, that hold a bit, or zeros."""
    c_first, c_stop, k_first, k_stop = n_columns, 0, per_column, 0
    for c in range(n_columns):
        for k in range(per_column):
            if words[c * per_column + k] != np.uint64(0):
                c_first, c_stop = min(c_first, c), c + 1
                k_first, k_stop = min(k_first, k), max(k_stop, k + 1)
    if c_stop == 0:
        return 0, 0, 0, 0
    return c_first, c_stop, k_first, k_stop
