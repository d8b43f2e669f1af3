"""The mean of several soft masks on the crop grid of one of them.

Kernels over plain arrays; `mean_masks` speaks about masks. They follow the paste of `instances` (see
`mask_kernels`) and compute in float64, so that a mean of equal masks is that mask to the bit.
"""

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances.compiled import compiled


@compiled
def mean_on_crops(
    index: NDArray[np.int64],
    solid: NDArray[np.bool_],
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
        solid: which soft masks have any pixel (see ``instances.paste``).
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
            elif solid[i]:
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
    """Where the centres of another grid's cells fall in the crop: the cell before (-1 … cells - 1; -2 is outside) and
    the distance past that cell's centre.
    """
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
