"""The mean of several masks at the resolution of the image's pixels.

Kernels over plain arrays; `mean_masks` speaks about masks. They follow the paste of `instances` (mmdet's: bilinear
between the centres of a crop's cells, zeros around the crop, ``align_corners=False``): a mask reaches half a cell
beyond its box. They compute in float64, so that a mean of equal masks is that mask to the bit.
"""

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances.compiled import compiled

SOFT = 0

LANES = 32
"""A crop's rows are read to a multiple of this: what is left behind whole vectors would be read value by value."""

HALF = 0.5 + 1e-9
"""Means are rounded to the nearest value, halves up: also those that a product with 1 / weight puts just below."""


@compiled
def _reach(low: float, high: float, cells: int, begin: int, end: int) -> tuple[int, int]:
    """Pixels [first, stop) in [begin, end) whose centres lie nearer than a cell to the centre of one of the crop's."""
    half = 0.5 * (high - low) / cells
    first = max(float(begin), np.floor(low - half - 0.5))
    stop = min(float(end), np.ceil(high + half + 0.5))
    if stop <= first:
        return 0, 0
    return int(first), int(stop)


@compiled
def mean_windows(
    kinds: NDArray[np.uint8],
    index: NDArray[np.int64],
    solid: NDArray[np.bool_],
    soft_shapes: NDArray[np.int32],
    soft_boxes: NDArray[np.float32],
    bit_windows: NDArray[np.int32],
    cluster_offsets: NDArray[np.int64],
    member_rows: NDArray[np.int64],
    frames: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the window (x0, y0, x1, y1) of image pixels that the masks of each cluster reach, int64 (C, 4).

    Args:
        kinds, index: (N,) as in ``Masks``: 0 is a row of the soft masks, 1 a row of the bit masks.
        solid: which soft masks have any pixel (see ``instances.paste``).
        soft_shapes, soft_boxes, bit_windows: as in ``SoftMasks`` and ``BitMasks``.
        cluster_offsets, member_rows: clusters of rows in CSR form.
        frames: (C, 4) x0, y0, x1, y1 that a window must not leave.
    """
    out = np.zeros((len(cluster_offsets) - 1, 4), np.int64)
    for c in range(len(cluster_offsets) - 1):
        left, top, right, bottom = frames[c, 2], frames[c, 3], frames[c, 0], frames[c, 1]
        for k in range(cluster_offsets[c], cluster_offsets[c + 1]):
            row = member_rows[k]
            i = index[row]
            if kinds[row] == SOFT:
                if not solid[i]:
                    continue
                box = soft_boxes[i]
                x0, x1 = _reach(box[0], box[2], soft_shapes[i, 1], frames[c, 0], frames[c, 2])
                y0, y1 = _reach(box[1], box[3], soft_shapes[i, 0], frames[c, 1], frames[c, 3])
            else:
                x0 = max(bit_windows[i, 0], frames[c, 0])
                x1 = min(bit_windows[i, 0] + bit_windows[i, 2], frames[c, 2])
                y0 = max(64 * bit_windows[i, 1], frames[c, 1])
                y1 = min(64 * (bit_windows[i, 1] + bit_windows[i, 3]), frames[c, 3])
            if x1 > x0 and y1 > y0:
                left, top, right, bottom = min(left, x0), min(top, y0), max(right, x1), max(bottom, y1)
        if right > left and bottom > top:
            out[c, 0], out[c, 1], out[c, 2], out[c, 3] = left, top, right, bottom
    return out


@compiled
def mean_on_windows(
    kinds: NDArray[np.uint8],
    index: NDArray[np.int64],
    solid: NDArray[np.bool_],
    soft_values: NDArray[np.uint8],
    soft_offsets: NDArray[np.int64],
    soft_shapes: NDArray[np.int32],
    soft_boxes: NDArray[np.float32],
    bit_words: NDArray[np.uint64],
    bit_offsets: NDArray[np.int64],
    bit_windows: NDArray[np.int32],
    cluster_offsets: NDArray[np.int64],
    member_rows: NDArray[np.int64],
    weights: NDArray[np.float64],
    windows: NDArray[np.int64],
    out_offsets: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Return the weighted mean of each cluster's masks, one value in [0, 255] a pixel of its window, row-major.

    Args:
        kinds … member_rows: as in ``mean_windows``, with the masks' values and words.
        weights: of each entry of ``member_rows``, not negative.
        windows: (C, 4) as ``mean_windows`` gives them.
        out_offsets: (C + 1,) where each cluster's pixels begin in the result.
    """
    out = np.zeros(out_offsets[-1], np.uint8)
    longest, largest = 0, 0
    for c in range(len(windows)):
        longest = max(longest, windows[c, 2] - windows[c, 0], windows[c, 3] - windows[c, 1])
        largest = max(largest, out_offsets[c + 1] - out_offsets[c])
    rows, columns = 0, 0
    for i in range(len(soft_shapes)):
        rows, columns = max(rows, soft_shapes[i, 0]), max(columns, soft_shapes[i, 1])
    sums = np.empty(largest, np.float64)
    # Room that all masks share: allocating it for each would cost as much as the smaller masks themselves.
    wide = np.empty((rows + 2) * longest, np.float64)
    line = np.empty(columns + 1 + LANES, np.float64)
    west, east = np.empty(longest, np.uint64), np.empty(longest, np.float64)
    north, south = np.empty(longest, np.uint64), np.empty(longest, np.float64)
    for c in range(len(windows)):
        x0, y0 = windows[c, 0], windows[c, 1]
        width, height = windows[c, 2] - x0, windows[c, 3] - y0
        if width <= 0 or height <= 0:
            continue
        sums[: width * height] = 0.0
        total = 0.0
        for k in range(cluster_offsets[c], cluster_offsets[c + 1]):
            row, weight = member_rows[k], weights[k]
            total += weight
            i = index[row]
            if kinds[row] != SOFT:
                _add_bits(
                    bit_words, bit_offsets[i], bit_windows[i], x0, y0, width, height, 255.0 * weight, sums
                )
            elif solid[i]:
                box, tall, broad = soft_boxes[i], soft_shapes[i, 0], soft_shapes[i, 1]
                left, n_columns = _positions(float(box[0]), float(box[2]), broad, x0, width, west, east)
                top, n_rows = _positions(float(box[1]), float(box[3]), tall, y0, height, north, south)
                if n_columns > 0 and n_rows > 0:
                    _add_soft(
                        soft_values, soft_offsets[i], tall, broad, west, east, n_columns, north, south, n_rows,
                        top * width + left, width, weight, line, wide, sums,
                    )  # fmt: skip
        if total > 0.0:
            finished, share = out[out_offsets[c] : out_offsets[c + 1]], 1.0 / total
            for p in range(width * height):
                finished[p] = np.uint8(np.int32(min(255.0, sums[p] * share + HALF)))
    return out


@compiled
def _add_soft(
    values: NDArray[np.uint8], start: int, rows: int, columns: int,
    west: NDArray[np.uint64], east: NDArray[np.float64], n_columns: int,
    north: NDArray[np.uint64], south: NDArray[np.float64], n_rows: int,
    begin: int, width: int, weight: float,
    line: NDArray[np.float64], wide: NDArray[np.float64], sums: NDArray[np.float64],
) -> None:  # fmt: skip
    """Add ``weight`` times a crop to the window.

    Plain loops over unsigned numbers: slices would be counted references here, and signed numbers wrap around.

    Args:
        values, start, rows, columns: the crop, and where it begins in ``values``.
        west, east, n_columns: of each pixel column that the crop reaches, as ``_positions`` gives them, and how many.
        north, south, n_rows: likewise of pixel rows.
        begin: place of the first pixel in ``sums``.
        width: of the window.
        weight: of the crop.
        line, wide: scratch for columns + 1 + LANES and (rows + 2) * n_columns values.
        sums: of the window, row-major.
    """
    count, one = np.uint64(n_columns), np.uint64(1)
    at_once = np.uint64((columns + LANES - 1) // LANES * LANES)
    line[0] = 0.0
    # The crop's rows are widened first (few of them, gathering cells), so that the loop over all pixels only mixes two
    # neighbouring rows, value beside value.
    for row in range(int(north[0]), int(north[n_rows - 1]) + 2):
        to = np.uint64(row) * count
        if row == 0 or row == rows + 1:
            for x in range(count):
                wide[to + x] = 0.0
            continue
        cells = np.uint64(start + (row - 1) * columns)
        for x in range(min(at_once, np.uint64(len(values)) - cells)):
            line[x + one] = weight * float(values[cells + x])
        line[columns + 1] = 0.0
        for x in range(count):
            cell = west[x]
            wide[to + x] = line[cell] + east[x] * (line[cell + one] - line[cell])
    for y in range(n_rows):
        share, above = south[y], north[y] * count
        below, to = above + count, np.uint64(begin + y * width)
        for x in range(count):
            sums[to + x] += wide[above + x] + share * (wide[below + x] - wide[above + x])


@compiled
def _positions(
    low: float, high: float, cells: int, first: int, count: int,
    before: NDArray[np.uint64], past: NDArray[np.float64],
) -> tuple[int, int]:  # fmt: skip
    """Say where the centres of ``count`` pixels from ``first`` on fall in a crop of ``cells`` with a frame of one cell.

    Args:
        low, high: where the crop lies.
        cells, first, count: see above.
        before, past: are filled for the pixels that fall in: the framed cell before the centre (0 is the frame), and
            the distance past that cell's centre.

    Returns:
        ``(begin, inside)``: the first pixel that falls in, relative to ``first``, and how many do.
    """
    scale = cells / (high - low)
    begin, stop = 0, count
    while begin < stop and (first + begin + 0.5 - low) * scale - 0.5 <= -1.0:
        begin += 1
    while begin < stop and (first + stop - 0.5 - low) * scale - 0.5 >= cells:
        stop -= 1
    for k in range(stop - begin):
        position = (first + begin + k + 0.5 - low) * scale - 0.5
        cell = np.floor(position)
        before[np.uint64(k)] = np.uint64(int(cell) + 1)
        past[np.uint64(k)] = position - cell
    return begin, stop - begin


@compiled
def _add_bits(
    words: NDArray[np.uint64], start: int, bit_window: NDArray[np.int32],
    x0: int, y0: int, width: int, height: int, value: float, sums: NDArray[np.float64],
) -> None:  # fmt: skip
    """Add ``value`` at the mask's pixels."""
    for column in range(bit_window[2]):
        x = bit_window[0] + column - x0
        if x < 0 or x >= width:
            continue
        for k in range(bit_window[3]):
            word = words[start + column * bit_window[3] + k]
            y = 64 * (bit_window[1] + k) - y0
            while word != np.uint64(0):
                if word & np.uint64(1) and y >= 0 and y < height:
                    sums[y * width + x] += value
                word >>= np.uint64(1)
                y += 1
