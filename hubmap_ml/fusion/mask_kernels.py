"""Mask kernels: the mean of several masks, at pixel resolution or on the crop grid of one of them.

Kernels over plain arrays; `mean_masks` speaks about masks. Both follow the paste of `instances` (mmdet's: bilinear
between the centres of a crop's cells, zeros around the crop, ``align_corners=False``): a mask reaches half a cell
beyond its box. They compute in float64, so that a mean of equal masks is that mask to the bit.
"""

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances.compiled import compiled

SOFT = 0


@compiled
def _is_solid(box: NDArray[np.float32]) -> bool:
    """Whether a soft mask over this box has any pixel (see ``instances.paste``)."""
    for axis in range(4):
        if not np.isfinite(box[axis]):
            return False
    return bool(box[2] > box[0] and box[3] > box[1])


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
                box = soft_boxes[i]
                if not _is_solid(box) or soft_shapes[i, 0] == 0 or soft_shapes[i, 1] == 0:
                    continue
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
    largest = 0
    for c in range(len(windows)):
        largest = max(largest, out_offsets[c + 1] - out_offsets[c])
    sums = np.empty(largest, np.float64)
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
            if kinds[row] == SOFT:
                _add_soft(
                    soft_values, soft_offsets[i], soft_shapes[i, 0], soft_shapes[i, 1], soft_boxes[i],
                    x0, y0, width, height, weight, sums,
                )  # fmt: skip
            else:
                _add_bits(
                    bit_words, bit_offsets[i], bit_windows[i], x0, y0, width, height, 255.0 * weight, sums
                )
        if total > 0.0:
            for p in range(width * height):
                out[out_offsets[c] + p] = np.uint8(min(255.0, sums[p] / total + 0.5))
    return out


@compiled
def _add_soft(
    values: NDArray[np.uint8], start: int, rows: int, columns: int, box: NDArray[np.float32],
    x0: int, y0: int, width: int, height: int, weight: float, sums: NDArray[np.float64],
) -> None:  # fmt: skip
    """Add ``weight`` times a crop, laid over its box, to the window."""
    if not _is_solid(box) or rows == 0 or columns == 0:
        return
    first, west, east = _positions(float(box[0]), float(box[2]), columns, x0, width)
    top, north, south = _positions(float(box[1]), float(box[3]), rows, y0, height)
    count, tall = len(west), len(north)
    if count == 0 or tall == 0:
        return
    # The crop's rows are widened first (few of them, gathering cells), so that the loop over all pixels only mixes two
    # neighbouring rows, value beside value.
    wide = np.empty((rows + 2, count), np.float64)
    line = np.zeros(columns + 2, np.float64)
    for row in range(int(north[0]), int(north[tall - 1]) + 2):
        widened = wide[row]
        if row == 0 or row == rows + 1:
            widened[:] = 0.0
            continue
        for x in range(columns):
            line[x + 1] = weight * float(values[start + (row - 1) * columns + x])
        for x in range(count):
            cell = west[x]
            widened[x] = line[cell] + east[x] * (line[cell + np.uint64(1)] - line[cell])
    for y in range(tall):
        share = south[y]
        above, below = wide[north[y]], wide[north[y] + np.uint64(1)]
        begin = (top + y) * width + first
        target = sums[begin : begin + count]
        for x in range(count):
            target[x] += above[x] + share * (below[x] - above[x])


@compiled
def _positions(
    low: float, high: float, cells: int, first: int, count: int
) -> tuple[int, NDArray[np.uint64], NDArray[np.float64]]:
    """Where the centres of ``count`` pixels from ``first`` on fall in a crop of ``cells`` with a frame of one cell.

    Returns:
        ``(begin, before, past)``: the first pixel that falls in, relative to ``first``; and for it and those after it
        that do, the framed cell before its centre (0 is the frame) and the distance past that cell's centre.
    """
    before = np.empty(count, np.uint64)
    past = np.empty(count, np.float64)
    scale = cells / (high - low)
    begin, inside = 0, 0
    for k in range(count):
        position = (first + k + 0.5 - low) * scale - 0.5
        if position > -1.0 and position < cells:
            if inside == 0:
                begin = k
            cell = np.floor(position)
            before[inside] = np.uint64(int(cell) + 1)
            past[inside] = position - cell
            inside += 1
    return begin, before[:inside], past[:inside]


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


@compiled
def mean_on_crops(
    index: NDArray[np.int64],
    values: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    shapes: NDArray[np.int32],
    boxes: NDArray[np.float32],
    cluster_offsets: NDArray[np.int64],
    member_rows: NDArray[np.int64],
    out_shapes: NDArray[np.int32],
    out_boxes: NDArray[np.float32],
    out_offsets: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Return the plain mean of each cluster's soft masks on a new crop grid.

    The probability of a cell is the mean of the members' values at its centre, zeros where a member does not reach. A
    member that lies over the same box with the same shape gives its values as they are.

    Args:
        index: (N,) row of the soft masks of each instance.
        values, offsets, shapes, boxes: as in ``SoftMasks``.
        cluster_offsets, member_rows: clusters of rows in CSR form.
        out_shapes, out_boxes: (C, 2) and (C, 4), the new grids.
        out_offsets: (C + 1,) where each new crop begins in the result.
    """
    out = np.zeros(out_offsets[-1], np.uint8)
    largest = 0
    for c in range(len(out_shapes)):
        largest = max(largest, out_offsets[c + 1] - out_offsets[c])
    sums = np.empty(largest, np.float64)
    for c in range(len(out_shapes)):
        rows, columns = out_shapes[c, 0], out_shapes[c, 1]
        target = out_boxes[c]
        sums[: rows * columns] = 0.0
        for k in range(cluster_offsets[c], cluster_offsets[c + 1]):
            i = index[member_rows[k]]
            box = boxes[i]
            same = shapes[i, 0] == rows and shapes[i, 1] == columns
            for axis in range(4):
                same = same and box[axis] == target[axis]
            if same:
                for p in range(rows * columns):
                    sums[p] += float(values[offsets[i] + p])
            elif _is_solid(box) and shapes[i, 0] > 0 and shapes[i, 1] > 0:
                _add_resampled(
                    values, offsets[i], shapes[i, 0], shapes[i, 1], box, target, rows, columns, sums
                )
        members = cluster_offsets[c + 1] - cluster_offsets[c]
        for p in range(rows * columns):
            out[out_offsets[c] + p] = np.uint8(sums[p] / members + 0.5)
    return out


@compiled
def _add_resampled(
    values: NDArray[np.uint8], start: int, rows: int, columns: int, box: NDArray[np.float32],
    target: NDArray[np.float32], target_rows: int, target_columns: int, sums: NDArray[np.float64],
) -> None:  # fmt: skip
    """Add a crop's values at the cell centres of another grid."""
    cell_x, past_x = _cell_positions(
        float(box[0]), float(box[2]), columns, float(target[0]), float(target[2]), target_columns
    )
    cell_y, past_y = _cell_positions(
        float(box[1]), float(box[3]), rows, float(target[1]), float(target[3]), target_rows
    )
    line = np.zeros(columns + 2, np.float64)
    for y in range(target_rows):
        row, south = cell_y[y], past_y[y]
        if row == -2:
            continue
        for x in range(columns):
            above = float(values[start + row * columns + x]) if row >= 0 else 0.0
            below = float(values[start + (row + 1) * columns + x]) if row + 1 < rows else 0.0
            line[x + 1] = (1.0 - south) * above + south * below
        for x in range(target_columns):
            if cell_x[x] != -2:
                column, east = cell_x[x], past_x[x]
                sums[y * target_columns + x] += (1.0 - east) * line[column + 1] + east * line[column + 2]


@compiled
def _cell_positions(
    low: float, high: float, cells: int, target_low: float, target_high: float, target_cells: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """As ``_positions``, for the centres of another grid's cells."""
    before = np.empty(target_cells, np.int64)
    past = np.zeros(target_cells, np.float64)
    for k in range(target_cells):
        centre = target_low + (k + 0.5) / target_cells * (target_high - target_low)
        position = (centre - low) / (high - low) * cells - 0.5
        if position > -1.0 and position < cells:
            cell = np.floor(position)
            before[k] = int(cell)
            past[k] = position - cell
        else:
            before[k] = -2
    return before, past
