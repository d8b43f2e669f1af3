"""Erosion and dilation of packed words. Kernels over plain arrays; `morphology` speaks about masks.

Masks are laid side by side into a strip with zeros around each, row of words after row of words in one long line, so
that a step is a few passes over whole words along that line: up and down by shifts (the neighbouring row of words is a
fixed distance away), then sideways by reading a few words further. What runs over a mask's side lands in the zeros
there, which are cleared.
"""

from typing import Any

import numpy as np

from hubmap_ml.instances.compiled import compiled, count_high_zeros, count_low_zeros

ERODE, DILATE = 0, 1
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_NONE = np.uint64(0)
_STRIP = 1536
"""Words of a strip, unless one mask needs more: enough for long passes, few enough for a processor's nearest cache."""


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
            with equal rows stand together, shorter ones first.
        goes_on: whether erosion takes pixels beyond the image's edge as set.

    Returns:
        words, offsets, windows of the results, trimmed, and the first mask with pixels outside its image (or -1).
    """
    n = len(offsets) - 1
    new_windows = np.zeros((n, 4), dtype=np.int32)
    starts = np.zeros(n + 1, dtype=np.int64)
    side, lid = 0, 1  # columns and rows of words around a mask
    for r in range(len(ranges)):
        side = max(side, abs(ranges[r, 0]))
        lid = max(lid, (max(-ranges[r, 1], ranges[r, 2]) >> 6) + 1)
    places, outside = _places(words, offsets, windows, heights, widths, steps, ranges)
    if outside >= 0:
        return words[:0].copy(), starts, new_windows, outside
    rooms = np.zeros(n + 1, dtype=np.int64)  # where each result has room, before it is trimmed
    largest = _STRIP
    for i in range(n):
        across, deep = places[i, 1] - places[i, 0], places[i, 3] - places[i, 2]
        rooms[i + 1] = rooms[i] + across * deep
        largest = max(largest, (across + 2 * side) * (deep + 2 * lid))
    room = np.empty(rooms[n], dtype=np.uint64)
    frame, other = np.empty(largest, dtype=np.uint64), np.empty(largest, dtype=np.uint64)
    stacked = np.empty(largest, dtype=np.uint64)
    order = _by_depth(places)  # masks of a strip are equally deep
    begins = np.empty(n, dtype=np.int64)
    first = 0
    while first < n:
        i = order[first]
        deep = places[i, 3] - places[i, 2]
        if deep == 0:
            first += 1
            continue
        tall, wide, stop = deep + 2 * lid, 0, first
        while stop < n:
            i = order[stop]
            across = places[i, 1] - places[i, 0] + 2 * side
            if places[i, 3] - places[i, 2] != deep or (wide + across) * tall > largest:
                break
            begins[stop] = wide + side
            wide += across
            stop += 1
        frame[: tall * wide] = _NONE
        other[: tall * wide] = _NONE
        for m in range(first, stop):
            _lay(words, offsets, windows, order[m], places, frame, lid * wide + begins[m], wide)
        for s in range(len(steps)):
            erode = steps[s] == ERODE
            if erode and goes_on:
                for m in range(first, stop):
                    i = order[m]
                    _set_beyond(frame, tall, wide, begins[m], side, lid, places, i, heights[i], widths[i])
            _step(frame, lid, deep, wide, ranges, erode, stacked, other)
            for m in range(first, stop):
                i = order[m]
                _clear_beyond(other, lid * wide + begins[m], deep, wide, side, places, i, heights[i])
            if erode and goes_on:
                frame[: tall * wide] = _NONE
            frame, other = other, frame
        for m in range(first, stop):
            i = order[m]
            _take(frame, lid * wide + begins[m], wide, places, i, room, rooms[i], new_windows)
        first = stop
    for i in range(n):
        starts[i + 1] = starts[i] + np.int64(new_windows[i, 2]) * new_windows[i, 3]
    out = np.empty(starts[n], dtype=np.uint64)
    for i in range(n):
        for p in range(np.uint64(starts[i + 1] - starts[i])):
            out[np.uint64(starts[i]) + p] = room[np.uint64(rooms[i]) + p]
    return out, starts, new_windows, -1


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
            first, some = np.uint64(offsets[i] + k), _NONE
            for c in range(np.uint64(n_columns)):
                some |= words[first + c * np.uint64(per_column)]
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
def _by_depth(places: Any) -> Any:
    """Masks by ascending rows of words, and otherwise in their order."""
    depths = places[:, 3] - places[:, 2]
    begins = np.zeros((np.max(depths) if len(depths) > 0 else 0) + 2, dtype=np.int64)
    for depth in depths:
        begins[depth + 1] += 1
    begins = np.cumsum(begins)
    out = np.empty(len(depths), dtype=np.int64)
    for i in range(len(depths)):
        out[begins[depths[i]]] = i
        begins[depths[i]] += 1
    return out


@compiled
def _lay(words: Any, offsets: Any, windows: Any, i: Any, places: Any, frame: Any, at: Any, wide: Any) -> None:
    """Write mask ``i`` into the strip, its place's first word at ``at``."""
    per_column = np.uint64(windows[i, 3])
    for k in range(max(windows[i, 1], places[i, 2]), min(windows[i, 1] + windows[i, 3], places[i, 3])):
        to = np.uint64(at + (k - places[i, 2]) * wide + windows[i, 0] - places[i, 0])
        source = np.uint64(offsets[i] + k - windows[i, 1])
        for c in range(np.uint64(windows[i, 2])):
            frame[to + c] = words[source + c * per_column]


@compiled
def _take(frame: Any, at: Any, wide: Any, places: Any, i: Any, room: Any, to: Any, windows: Any) -> None:
    """Write what is left of a mask, trimmed, into ``room`` from ``to`` on, and where it lies into ``windows``."""
    across, deep = places[i, 1] - places[i, 0], places[i, 3] - places[i, 2]
    left, right, top, bottom = across, 0, deep, 0
    for k in range(deep):
        line = at + k * wide
        begin, end = 0, across
        while begin < end and frame[line + begin] == _NONE:
            begin += 1
        if begin == end:
            continue
        while frame[line + end - 1] == _NONE:
            end -= 1
        left, right = min(left, begin), max(right, end)
        top, bottom = min(top, k), k + 1
    if right == 0:
        return
    per_column, columns = np.uint64(bottom - top), np.uint64(right - left)
    for k in range(per_column):
        target, source = np.uint64(to) + k, np.uint64(at + top * wide + left) + k * np.uint64(wide)
        for c in range(columns):
            room[target + c * per_column] = frame[source + c]
    windows[i, 0], windows[i, 1] = places[i, 0] + left, places[i, 2] + top
    windows[i, 2], windows[i, 3] = right - left, bottom - top


@compiled
def _set_beyond(
    frame: Any,
    tall: Any,
    wide: Any,
    begin: Any,
    side: Any,
    lid: Any,
    places: Any,
    i: Any,
    height: Any,
    width: Any,
) -> None:
    """Set the pixels around a mask that lie beyond the image; the mask's first column is ``begin`` in the strip."""
    across = places[i, 1] - places[i, 0]
    for k in range(tall):
        word0 = places[i, 2] - lid + k
        rows_before_end = height - 64 * word0
        beyond = _NONE
        if word0 < 0 or rows_before_end <= 0:
            beyond = _ALL
        elif rows_before_end < 64:
            beyond = _ALL << np.uint64(rows_before_end)
        for c in range(-side, across + side):
            x = places[i, 0] + c
            frame[k * wide + begin + c] |= _ALL if x < 0 or x >= width else beyond


@compiled
def _clear_beyond(
    frame: Any, at: Any, deep: Any, wide: Any, side: Any, places: Any, i: Any, height: Any
) -> None:
    """Clear what lies beside a mask, and its pixels below the image's end; its first word stands at ``at``."""
    across = places[i, 1] - places[i, 0]
    for k in range(deep):
        line = at + k * wide
        for c in range(1, side + 1):
            frame[line - c] = _NONE
            frame[line + across + c - 1] = _NONE
    rows_before_end = height - 64 * (places[i, 3] - 1)
    if rows_before_end < 64:
        line = at + (deep - 1) * wide
        for c in range(across):
            frame[line + c] &= _ALL >> np.uint64(64 - rows_before_end)


@compiled
def _step(
    frame: Any, lid: Any, deep: Any, wide: Any, ranges: Any, erode: Any, stacked: Any, out: Any
) -> None:
    """Erode or dilate a strip into ``out``, rows of words [lid, lid + deep)."""
    r = 0
    while r < len(ranges):
        low, high = ranges[r, 1], ranges[r, 2]
        stop = r + 1
        while stop < len(ranges) and ranges[stop, 1] == low and ranges[stop, 2] == high:
            stop += 1
        if r > 0 and low <= ranges[r - 1, 1] and high >= ranges[r - 1, 2]:  # the rows before are among these
            _stack(frame, lid, deep, wide, low, ranges[r - 1, 1], False, erode, stacked)
            _stack(frame, lid, deep, wide, ranges[r - 1, 2], high, False, erode, stacked)
        else:
            _stack(frame, lid, deep, wide, low, high, True, erode, stacked)
        _spread(stacked, lid, deep, wide, ranges[r:stop, 0], r == 0, erode, out)
        r = stop


@compiled
def _stack(
    frame: Any, lid: Any, deep: Any, wide: Any, low: Any, high: Any, anew: Any, erode: Any, stacked: Any
) -> None:
    """Of each pixel: those from ``low`` to ``high`` rows further, all (erode) or any of them; three in a pass.

    Added to what ``stacked`` holds unless ``anew``. Plain loops over unsigned numbers: slices would be counted
    references here, and signed numbers wrap around.
    """
    n, to, below, one = np.uint64(deep * wide), np.uint64(lid * wide), np.uint64(wide), np.uint64(1)
    keep = _NONE if anew else _ALL
    for d in range(low, high + 1, 3):
        e, f = min(d + 1, high), min(d + 2, high)
        a, b, c = (
            np.uint64((lid + (d >> 6)) * wide),
            np.uint64((lid + (e >> 6)) * wide),
            np.uint64((lid + (f >> 6)) * wide),
        )
        a_by, b_by, c_by = np.uint64(d & 63), np.uint64(e & 63), np.uint64(f & 63)
        a_back, b_back, c_back = np.uint64(63) - a_by, np.uint64(63) - b_by, np.uint64(63) - c_by
        if erode:
            for p in range(n):
                stacked[to + p] = (
                    (stacked[to + p] | ~keep)
                    & (frame[a + p] >> a_by | frame[a + below + p] << one << a_back)
                    & (frame[b + p] >> b_by | frame[b + below + p] << one << b_back)
                    & (frame[c + p] >> c_by | frame[c + below + p] << one << c_back)
                )
        else:
            for p in range(n):
                stacked[to + p] = (
                    (stacked[to + p] & keep)
                    | (frame[a + p] >> a_by | frame[a + below + p] << one << a_back)
                    | (frame[b + p] >> b_by | frame[b + below + p] << one << b_back)
                    | (frame[c + p] >> c_by | frame[c + below + p] << one << c_back)
                )
        keep = _ALL


@compiled
def _spread(
    stacked: Any, lid: Any, deep: Any, wide: Any, columns: Any, anew: Any, erode: Any, out: Any
) -> None:
    """AND (erode) or OR into ``out`` the words so many columns further, three in a pass; see ``_stack``."""
    n, to = np.uint64(deep * wide), np.uint64(lid * wide)
    keep = _NONE if anew else _ALL
    last = len(columns) - 1
    for r in range(0, last + 1, 3):
        a = np.uint64(lid * wide + columns[r])
        b = np.uint64(lid * wide + columns[min(r + 1, last)])
        c = np.uint64(lid * wide + columns[min(r + 2, last)])
        if erode:
            for p in range(n):
                out[to + p] = (out[to + p] | ~keep) & stacked[a + p] & stacked[b + p] & stacked[c + p]
        else:
            for p in range(n):
                out[to + p] = (out[to + p] & keep) | stacked[a + p] | stacked[b + p] | stacked[c + p]
        keep = _ALL
