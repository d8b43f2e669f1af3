"""Connected components of packed words by their runs. Kernels over plain arrays; `components` speaks about masks.

A run is a stretch of pixels of one column. Runs of neighbouring columns that touch are joined (union-find); the
lowest-numbered run, which has a component's first pixel in column order, stands for it.
"""

from typing import Any

import numpy as np

from hubmap_ml.instances.compiled import compiled, count_low_zeros

FILL, KEEP_LARGEST, KEEP_LARGE = 0, 1, 2
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_NONE = np.uint64(0)


@compiled
def counted(words: Any, offsets: Any, windows: Any, diagonal: Any) -> Any:
    """Components of each mask, int64 (N,); ``diagonal``: corners connect."""
    out = np.zeros(len(offsets) - 1, dtype=np.int64)
    for i in range(len(out)):
        n_columns, deep = windows[i, 2], windows[i, 3]
        runs, ends = _runs(words[offsets[i] : offsets[i + 1]], n_columns, deep, False)
        parent = _joined(runs, ends, diagonal)
        for r in range(len(parent)):
            out[i] += parent[r] == r
    return out


@compiled
def changed(words: Any, offsets: Any, windows: Any, diagonal: Any, rule: Any, limit: Any) -> Any:
    """Masks with components left out, or with holes filled.

    Args:
        words, offsets, windows: as in ``BitMasks``.
        diagonal: whether corners connect (pixels of the mask; of the background where holes are filled).
        rule: ``FILL`` holes of at most ``limit`` pixels, ``KEEP_LARGEST`` component, or ``KEEP_LARGE`` ones of at
            least ``limit`` pixels.
        limit: pixels.

    Returns:
        words, offsets, windows of the results, trimmed.
    """
    n = len(offsets) - 1
    new_windows = np.zeros((n, 4), dtype=np.int32)
    starts = np.zeros(n + 1, dtype=np.int64)
    out = np.empty(len(words), dtype=np.uint64)  # no rule makes a window larger
    used = 0
    for i in range(n):
        x0, word0, n_columns, deep = windows[i, 0], windows[i, 1], windows[i, 2], windows[i, 3]
        mask = words[offsets[i] : offsets[i + 1]].copy()
        runs, ends = _runs(mask, n_columns, deep, rule == FILL)
        parent = _joined(runs, ends, diagonal)
        areas = np.zeros(len(runs), dtype=np.int64)
        for r in range(len(runs)):
            areas[parent[r]] += runs[r, 1] - runs[r, 0]
        if rule == FILL:
            open_ = _open_runs(runs, ends, parent, 64 * deep)
            for c in range(n_columns):
                for r in range(ends[c], ends[c + 1]):
                    if not open_[parent[r]] and areas[parent[r]] <= limit:
                        _flip(mask, c * deep, runs[r, 0], runs[r, 1])
        else:
            largest = 0
            for r in range(len(runs)):
                if areas[r] > areas[largest]:
                    largest = r
            for c in range(n_columns):
                for r in range(ends[c], ends[c + 1]):
                    stays = parent[r] == largest if rule == KEEP_LARGEST else areas[parent[r]] >= limit
                    if not stays:
                        _flip(mask, c * deep, runs[r, 0], runs[r, 1])
        c_first, c_stop, k_first, k_stop = _bounds(mask, n_columns, deep)
        for c in range(c_first, c_stop):
            for k in range(k_first, k_stop):
                out[used] = mask[c * deep + k]
                used += 1
        starts[i + 1] = used
        if c_stop > c_first:
            new_windows[i, 0], new_windows[i, 1] = x0 + c_first, word0 + k_first
            new_windows[i, 2], new_windows[i, 3] = c_stop - c_first, k_stop - k_first
    return out[:used].copy(), starts, new_windows


@compiled
def _runs(mask: Any, n_columns: Any, deep: Any, background: Any) -> Any:
    """Runs of set (or unset) pixels, int64 (R, 2) first row and the row after the last, column after column; and
    where each column's runs begin, int64 (columns + 1,). Rows count from the window's first.
    """
    out = np.empty((64, 2), dtype=np.int64)
    ends = np.zeros(n_columns + 1, dtype=np.int64)
    used = 0
    for c in range(n_columns):
        for k in range(deep):
            word = mask[c * deep + k]
            if background:
                word = ~word
            while word != _NONE:
                low = count_low_zeros(word)
                length = count_low_zeros(~(word >> np.uint64(low)))
                if used > ends[c] and out[used - 1, 1] == 64 * k + low:
                    out[used - 1, 1] += length
                else:
                    if used == len(out):
                        grown = np.empty((2 * used, 2), dtype=np.int64)
                        grown[:used] = out
                        out = grown
                    out[used, 0], out[used, 1] = 64 * k + low, 64 * k + low + length
                    used += 1
                if low + length == 64:
                    break
                word &= _ALL << np.uint64(low + length)
        ends[c + 1] = used
    return out[:used], ends


@compiled
def _root(parent: Any, r: Any) -> Any:
    while parent[r] != r:
        parent[r] = parent[parent[r]]
        r = parent[r]
    return r


@compiled
def _joined(runs: Any, ends: Any, diagonal: Any) -> Any:
    """For each run the first run of its component, int64 (R,)."""
    parent = np.arange(len(runs))
    reach = 1 if diagonal else 0
    for c in range(1, len(ends) - 1):
        before, here = ends[c - 1], ends[c]
        while before < ends[c] and here < ends[c + 1]:
            if runs[before, 0] < runs[here, 1] + reach and runs[here, 0] < runs[before, 1] + reach:
                one, two = _root(parent, before), _root(parent, here)
                parent[max(one, two)] = min(one, two)
            if runs[before, 1] < runs[here, 1]:
                before += 1
            else:
                here += 1
    for r in range(len(runs)):
        parent[r] = parent[parent[r]]  # those before it are settled
    return parent


@compiled
def _open_runs(runs: Any, ends: Any, parent: Any, rows: Any) -> Any:
    """Whether each component of the background reaches the window's edge, by its first run; bool (R,)."""
    out = np.zeros(len(runs), dtype=np.bool_)
    for c in range(len(ends) - 1):
        for r in range(ends[c], ends[c + 1]):
            if c == 0 or c == len(ends) - 2 or runs[r, 0] == 0 or runs[r, 1] == rows:
                out[parent[r]] = True
    return out


@compiled
def _flip(mask: Any, column: Any, first: Any, stop: Any) -> None:
    """Turn the rows [first, stop) of the column that begins at word ``column`` over."""
    while first < stop:
        block = min(stop, (first | 63) + 1) - first
        mask[column + (first >> 6)] ^= (_ALL >> np.uint64(64 - block)) << np.uint64(first & 63)
        first += block


@compiled
def _bounds(mask: Any, n_columns: Any, deep: Any) -> Any:
    """Columns [first, stop) and words [first, stop) of a mask that hold a bit, or zeros."""
    c_first, c_stop, k_first, k_stop = n_columns, 0, deep, 0
    for c in range(n_columns):
        for k in range(deep):
            if mask[c * deep + k] != _NONE:
                c_first, c_stop = min(c_first, c), c + 1
                k_first, k_stop = min(k_first, k), max(k_stop, k + 1)
    if c_stop == 0:
        return 0, 0, 0, 0
    return c_first, c_stop, k_first, k_stop
