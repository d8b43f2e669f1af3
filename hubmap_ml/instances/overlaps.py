"""Pixels that bit-packed masks share: of pairs, of all with all, and of a mask with those kept before it.

Kernels only; `BitMasks` and `fusion.suppression` speak about masks. Words are first laid row of words by row of words
(``by_rows``), so that two masks are compared along contiguous columns, whatever their windows; masks that lie apart are
never looked at.

How a number meets a threshold is decided here, once, for the whole package (tests/instances/test_thresholds.py):

- An overlap is one float64 quotient (of whole numbers for masks, of float64 areas for boxes), compared with the float64
  threshold as written. An IoU of exactly 2/5 is not greater than 0.4, and it does reach 0.4; as float32 it would exceed
  it. Suppression asks for *greater*, matching to truth for *at least*.
- A score is float32, and its threshold is rounded to float32 before: a score written as 0.7 passes 0.7.
- A pixel's probability is float32, and so is its threshold; at the threshold it is inside.
- Areas are whole numbers; a limit need not be.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances.compiled import compiled, count_high_zeros, count_low_zeros, count_ones

Laid = tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]
"""Masks laid out for comparing: words row after row, offsets, windows, bounds and pixels (see ``by_rows``)."""

SHARED, IOU, IOS, OF_FIRST = 0, 1, 2, 3
"""What of two masks: shared pixels, and those over the union, over the smaller mask, over the first one."""


@compiled
def by_rows(words: Any, offsets: Any, windows: Any) -> Any:
    """Masks laid out for comparing.

    Returns:
        the words of each mask in the same place, row of words after row of words instead of column after column;
        bounds int32 (N, 4): first column, first row, column and row after the last that hold a pixel, all of them
        zero for an empty mask; and pixels, int64 (N,).
    """
    out = np.empty(len(words), dtype=np.uint64)
    areas = np.empty(len(offsets) - 1, dtype=np.int64)
    bounds = np.zeros((len(offsets) - 1, 4), dtype=np.int32)
    for i in range(len(offsets) - 1):
        areas[i] = _lay(words, offsets[i], windows[i], out, offsets[i], bounds[i])
    return out, bounds, areas


@compiled
def _lay(words: Any, start: Any, window: Any, out: Any, to: Any, bounds: Any) -> Any:
    """Write a mask's words into ``out`` from ``to`` on, row after row, and its bounds; return its pixels."""
    n_columns, per_column = np.uint64(window[2]), np.uint64(window[3])
    top, bottom, area = -1, 0, np.int64(0)
    for k in range(per_column):
        source, line = np.uint64(start) + k, np.uint64(to) + k * n_columns
        some = np.uint64(0)
        for c in range(n_columns):
            word = words[source + c * per_column]
            out[line + c] = word
            some |= word
            area += count_ones(word)
        if some != np.uint64(0):
            row = 64 * (window[1] + np.int64(k))
            top = row + count_low_zeros(some) if top < 0 else top
            bottom = row + 64 - count_high_zeros(some)
    if bottom > 0:
        bounds[0], bounds[2] = window[0], window[0] + window[2]
        bounds[1], bounds[3] = top, bottom
    else:
        bounds[:] = 0
    return area


@compiled
def _shared(a_rows: Any, a_start: Any, a: Any, i: Any, b_rows: Any, b_start: Any, b: Any, j: Any) -> Any:
    """Pixels that two masks share; their windows are the rows ``i`` of ``a`` and ``j`` of ``b``."""
    left = max(a[i, 0], b[j, 0])
    right = min(a[i, 0] + a[i, 2], b[j, 0] + b[j, 2])
    top = max(a[i, 1], b[j, 1])
    bottom = min(a[i, 1] + a[i, 3], b[j, 1] + b[j, 3])
    total = np.int64(0)
    if right <= left:
        return total
    n = np.uint64(right - left)
    for k in range(top, bottom):
        a_at = np.uint64(a_start + np.int64(k - a[i, 1]) * a[i, 2] + left - a[i, 0])
        b_at = np.uint64(b_start + np.int64(k - b[j, 1]) * b[j, 2] + left - b[j, 0])
        for c in range(n):
            total += count_ones(a_rows[a_at + c] & b_rows[b_at + c])
    return total


@compiled
def _quotient(shared: Any, one: Any, two: Any, measure: Any) -> Any:
    """Overlap of masks of ``one`` and ``two`` pixels that share some."""
    if measure == IOU:
        return shared / (one + two - shared)
    if measure == IOS:
        return shared / min(one, two)
    return shared / one


@compiled
def overlap_pairs(
    a_rows: Any, a_offsets: Any, a_windows: Any, b_rows: Any, b_offsets: Any, b_windows: Any, pairs: Any
) -> Any:
    """Shared pixels of the pairs (row of a, row of b), int64 (P,)."""
    out = np.empty(len(pairs), dtype=np.int64)
    for p in range(len(pairs)):
        i, j = pairs[p, 0], pairs[p, 1]
        out[p] = _shared(a_rows, a_offsets[i], a_windows, i, b_rows, b_offsets[j], b_windows, j)
    return out


@compiled
def overlap_matrix(
    a_rows: Any, a_offsets: Any, a_windows: Any, a_bounds: Any, a_areas: Any, b_rows: Any, b_offsets: Any,
    b_windows: Any, b_bounds: Any, b_areas: Any, b_order: Any, crowd: Any, measure: Any, symmetric: Any, out: Any,
) -> None:  # fmt: skip
    """Write the overlap of each mask of a with each of b that meets it into ``out`` (A, B), which is zero before.

    Args:
        a_rows, a_offsets, a_windows, a_bounds, a_areas: masks laid out by ``by_rows``, and their pixels; likewise b.
        b_order: int64 (B,), b's masks by ascending first column.
        crowd: bool (B,), masks of b for which ``OF_FIRST`` counts instead of ``measure``.
        measure: ``SHARED``, ``IOU`` or ``IOS``.
        symmetric: a is b and nothing is a crowd: half is counted.
    """
    ordered = b_bounds[b_order]
    near = np.empty(len(b_order), dtype=np.int64)
    for position in range(len(out)):
        i = b_order[position] if symmetric else position
        left, top, right, bottom = a_bounds[i, 0], a_bounds[i, 1], a_bounds[i, 2], a_bounds[i, 3]
        if symmetric and a_areas[i] > 0:
            out[i, i] = a_areas[i] if measure == SHARED else 1
        count = 0
        for k in range(position + 1 if symmetric else 0, len(b_order)):
            if ordered[k, 0] >= right:
                break
            # counted, not branched on: where masks lie is nothing a processor can foresee
            near[count] = b_order[k]
            count += (ordered[k, 2] > left) & (ordered[k, 1] < bottom) & (ordered[k, 3] > top)
        for k in range(count):
            j = near[k]
            shared = _shared(a_rows, a_offsets[i], a_windows, i, b_rows, b_offsets[j], b_windows, j)
            value: Any = shared
            if measure != SHARED and shared > 0:
                value = _quotient(shared, a_areas[i], b_areas[j], OF_FIRST if crowd[j] else measure)
            out[i, j] = value
            if symmetric:
                out[j, i] = value


@compiled
def suppress_masks(
    words: Any, offsets: Any, windows: Any, labels: Any, order: Any, order_offsets: Any, threshold: Any, measure: Any
) -> Any:  # fmt: skip
    """Greedy suppression, image by image; overlaps are counted only with masks that are kept.

    Args:
        words, offsets, windows: as in ``BitMasks``.
        labels: int64 (N,)
        order: rows by descending score within an image; rows left out are not kept.
        order_offsets: int64 (M + 1,), where each image begins in ``order``.
        threshold: an overlap *greater* than this with a kept, earlier row of the label suppresses.
        measure: ``IOU`` or ``IOS``.

    Returns:
        bool (N,), which rows are kept.
    """
    keep = np.zeros(len(labels), dtype=np.bool_)
    most, largest = 0, 0
    for image in range(len(order_offsets) - 1):
        size = 0
        for position in range(order_offsets[image], order_offsets[image + 1]):
            size += offsets[order[position] + 1] - offsets[order[position]]
        most, largest = max(most, order_offsets[image + 1] - order_offsets[image]), max(largest, size)
    # An image's kept masks, in memory that the next image uses again: it stays in the processor's cache.
    rows, begins = np.empty(largest, dtype=np.uint64), np.empty(most, dtype=np.int64)
    kept, near = np.empty(most, dtype=np.int64), np.empty(most, dtype=np.bool_)
    lefts, tops = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.int32)
    rights, bottoms = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.int32)
    areas, bounds = np.empty(most, dtype=np.int64), np.empty(4, dtype=np.int32)
    for image in range(len(order_offsets) - 1):
        count, free = 0, np.int64(0)
        for position in range(order_offsets[image], order_offsets[image + 1]):
            i = order[position]
            area = _lay(words, offsets[i], windows[i], rows, free, bounds)
            left, top, right, bottom = bounds[0], bounds[1], bounds[2], bounds[3]
            for k in range(count):  # without a branch, many at once
                near[k] = (
                    (lefts[k] < right) & (rights[k] > left) & (tops[k] < bottom) & (bottoms[k] > top)
                )  # fmt: skip
            alone = True
            for k in range(count):
                if near[k] and labels[kept[k]] == labels[i]:
                    wide = min(right, rights[k]) - max(left, lefts[k])
                    high = min(bottom, bottoms[k]) - max(top, tops[k])
                    at_most = min(np.int64(wide) * high, area, areas[k])
                    if _quotient(at_most, area, areas[k], measure) > threshold:
                        shared = _shared(rows, free, windows, i, rows, begins[k], windows, kept[k])
                        if _quotient(shared, area, areas[k], measure) > threshold:
                            alone = False
                            break
            if alone:
                keep[i] = True
                kept[count], begins[count], areas[count] = i, free, area
                lefts[count], tops[count], rights[count], bottoms[count] = left, top, right, bottom
                count += 1
                free += offsets[i + 1] - offsets[i]
    return keep
