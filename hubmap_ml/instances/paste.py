"""Laying a soft crop over its box in the image, exactly as mmdet 2.28 does it.

The reference is ``mmdet/models/roi_heads/mask_heads/fcn_mask_head.py::_do_paste_mask`` with
``skip_empty=False`` (what mmdet does on a GPU; its CPU path cuts the result one pixel outside the box, which
loses pixels of large boxes at thresholds under 0.5), followed by torch's ``grid_sample(mode="bilinear",
padding_mode="zeros", align_corners=False)``. Arithmetic is float32 in the reference's order, with the
multiply-adds that torch's vectorised kernel fuses (AVX2 and AVX-512 builds; computed here in float64 and
rounded once, which is the same): results are equal bit for bit there. One difference on purpose: a box
without positive width and height, or with a coordinate that is not finite, gives an empty mask, where mmdet's
two paths give two different stripes.
"""

from typing import Any

import numpy as np

from hubmap_ml.instances.compiled import compiled

_ONE = np.float32(1)
_TWO = np.float32(2)
_HALF = np.float32(0.5)
_FULL = np.float32(255)


@compiled
def _fused(a: Any, b: Any, c: Any) -> Any:
    """a * b + c of float32 values, rounded once (float64 holds the product exactly)."""
    return np.float32(np.float64(a) * np.float64(b) + np.float64(c))


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
def _sample_positions(low: Any, high: Any, cells: Any, first: Any, stop: Any) -> Any:
    """Where the centres of pixels [first, stop) fall in the crop: the cell before them (-1 … cells - 1, or -2
    outside) and the distance past that cell's centre.
    """
    before = np.empty(stop - first, dtype=np.int64)
    past = np.empty(stop - first, dtype=np.float32)
    half_cells = np.float32(cells) / _TWO
    for k in range(stop - first):
        at = (np.float32(first + k) + _HALF - low) / (high - low) * _TWO - _ONE
        position = _fused(at + _ONE, half_cells, -_HALF)
        if not (position > np.float32(-1) and position < np.float32(cells)):
            before[k] = -2
            past[k] = np.float32(0)
        else:
            cell = np.floor(position)
            before[k] = int(cell)
            past[k] = position - cell
    return before, past


@compiled
def _framed(values: Any, start: Any, height: Any, width: Any) -> Any:
    """The crop as probabilities, transposed (width + 2, height + 2), in a frame of zeros."""
    out = np.zeros((width + 2, height + 2), dtype=np.float32)
    for y in range(height):
        for x in range(width):
            out[x + 1, y + 1] = np.float32(values[start + y * width + x]) / _FULL
    return out


@compiled
def _sample_column(crop: Any, column: Any, right: Any, rows: Any, down: Any, out: Any) -> None:
    """Probabilities of one image column; the four products in grid_sample's order."""
    left_cells = crop[column + 1]
    right_cells = crop[column + 2]
    left = _ONE - right
    for k in range(len(rows)):
        row = rows[k]
        if row == -2:
            out[k] = np.float32(0)
            continue
        south = down[k]
        north = _ONE - south
        value = left_cells[row + 1] * (north * left)
        value = _fused(right_cells[row + 1], north * right, value)
        value = _fused(left_cells[row + 2], south * left, value)
        out[k] = _fused(right_cells[row + 2], south * right, value)


@compiled
def paste_values(values: Any, shape: Any, box: Any, out: Any) -> None:
    """Write the pasted probabilities of one crop into ``out`` (H, W) float32, which is zero before."""
    x0, y0, x1, y1 = box[0], box[1], box[2], box[3]
    height, width = shape[0], shape[1]
    if not _is_solid(x0, y0, x1, y1) or height == 0 or width == 0:
        return
    first_x, stop_x = _reach(x0, x1, width, out.shape[1])
    first_y, stop_y = _reach(y0, y1, height, out.shape[0])
    columns, right = _sample_positions(x0, x1, width, first_x, stop_x)
    rows, down = _sample_positions(y0, y1, height, first_y, stop_y)
    crop = _framed(values, 0, height, width)
    line = np.empty(stop_y - first_y, dtype=np.float32)
    for c in range(stop_x - first_x):
        if columns[c] == -2:
            continue
        _sample_column(crop, columns[c], right[c], rows, down, line)
        for k in range(stop_y - first_y):
            out[first_y + k, first_x + c] = line[k]


@compiled
def paste_words(
    values: Any, offsets: Any, shapes: Any, boxes: Any, thresholds: Any, heights: Any, widths: Any
) -> Any:
    """Pasted crops at several thresholds, as bit words trimmed to their pixels.

    Args:
        values, offsets, shapes, boxes: as in ``SoftMasks``.
        thresholds: float32 (N, T); a pixel is set where its probability >= threshold.
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
        columns, right = _sample_positions(x0, x1, width, first_x, stop_x)
        rows, down = _sample_positions(y0, y1, height, first_y, stop_y)
        crop = _framed(values, offsets[i], height, width)
        line = np.empty(stop_y - first_y, dtype=np.float32)
        word0 = first_y >> 6
        per_column = ((stop_y - 1) >> 6) - word0 + 1
        n_columns = stop_x - first_x
        scratch = np.zeros((n_thresholds, n_columns, per_column), dtype=np.uint64)
        for c in range(n_columns):
            if columns[c] == -2:
                continue
            _sample_column(crop, columns[c], right[c], rows, down, line)
            for t in range(n_thresholds):
                threshold = thresholds[i, t]
                for k in range(stop_y - first_y):
                    y = first_y + k
                    bit = np.uint64(line[k] >= threshold) << np.uint64(y & 63)
                    scratch[t, c, (y >> 6) - word0] |= bit
        for t in range(n_thresholds):
            row = i * n_thresholds + t
            c_first, c_stop, k_first, k_stop = _bounds(scratch[t])
            size = (c_stop - c_first) * (k_stop - k_first)
            if used + size > len(out):
                grown = np.empty(max(2 * len(out), used + size), dtype=np.uint64)
                grown[:used] = out[:used]
                out = grown
            for c in range(c_first, c_stop):
                for k in range(k_first, k_stop):
                    out[used] = scratch[t, c, k]
                    used += 1
            if size > 0:
                windows[row, 0] = first_x + c_first
                windows[row, 1] = word0 + k_first
                windows[row, 2] = c_stop - c_first
                windows[row, 3] = k_stop - k_first
            starts[row + 1] = used
    return out[:used].copy(), starts, windows


@compiled
def _bounds(words: Any) -> Any:
    """Columns [first, stop) and words [first, stop) of a (columns, words) block that hold a bit, or zeros."""
    c_first, c_stop, k_first, k_stop = -1, 0, words.shape[1], 0
    for c in range(words.shape[0]):
        for k in range(words.shape[1]):
            if words[c, k] != np.uint64(0):
                if c_first < 0:
                    c_first = c
                c_stop = c + 1
                k_first = min(k_first, k)
                k_stop = max(k_stop, k + 1)
    if c_first < 0:
        return 0, 0, 0, 0
    return c_first, c_stop, k_first, k_stop
