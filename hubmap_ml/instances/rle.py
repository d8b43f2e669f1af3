"""COCO's run lengths and their compressed text, to and from bit words, without a dense mask.

The format is pycocotools' (``common/maskApi.c``: ``rleEncode``, ``rleToString``, ``rleFrString``): runs over
the image in column-major order, zeros first; each count as the difference to the one two before it (from the
fourth on), in groups of five bits. Texts are byte for byte those of ``pycocotools.mask.encode``.
"""

from typing import Any

import numpy as np

from hubmap_ml.instances.compiled import compiled

OUTSIDE = 1
"""A mask has pixels outside its image."""
BROKEN_TEXT = 1
"""A text ends inside a number or holds a character that cannot occur."""
WRONG_SUM = 2
"""Counts that do not add up to the number of pixels, or a negative count."""

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@compiled
def _lowest_bit(word: Any) -> Any:
    """Number of zeros below the lowest set bit; 64 for zero."""
    if word == np.uint64(0):
        return 64
    at = 0
    if (word & np.uint64(0xFFFFFFFF)) == np.uint64(0):
        word >>= np.uint64(32)
        at += 32
    if (word & np.uint64(0xFFFF)) == np.uint64(0):
        word >>= np.uint64(16)
        at += 16
    if (word & np.uint64(0xFF)) == np.uint64(0):
        word >>= np.uint64(8)
        at += 8
    if (word & np.uint64(0xF)) == np.uint64(0):
        word >>= np.uint64(4)
        at += 4
    if (word & np.uint64(0x3)) == np.uint64(0):
        word >>= np.uint64(2)
        at += 2
    if (word & np.uint64(0x1)) == np.uint64(0):
        at += 1
    return at


@compiled
def _reaches(word: Any, rows: Any) -> Any:
    """Whether a word has a bit at or beyond ``rows`` (under 64, possibly negative)."""
    return word != np.uint64(0) and (rows <= 0 or (word >> np.uint64(rows)) != np.uint64(0))


@compiled
def counts_from_words(words: Any, offsets: Any, windows: Any, heights: Any, widths: Any) -> Any:
    """Run lengths of each mask over its image.

    Returns:
        counts int64, offsets int64 (N + 1), status uint8 (N,): 0 or ``OUTSIDE``.
    """
    n = len(offsets) - 1
    status = np.zeros(n, dtype=np.uint8)
    ends = np.zeros(n + 1, dtype=np.int64)
    out = np.empty(1024, dtype=np.int64)
    used = 0
    for i in range(n):
        x0, word0, n_columns, per_column = windows[i, 0], windows[i, 1], windows[i, 2], windows[i, 3]
        height = heights[i]
        if x0 < 0 or x0 + n_columns > widths[i]:
            status[i] = OUTSIDE
            ends[i + 1] = used
            continue
        last = np.int64(0)  # pixels before this one are counted
        ones_end = np.int64(-1)  # where the last run of ones ends, -1 before the first
        for c in range(n_columns):
            for k in range(per_column):
                word = words[offsets[i] + c * per_column + k]
                top = (word0 + k) * 64
                if top + 64 > height and _reaches(word, height - top):
                    status[i] = OUTSIDE
                    word = np.uint64(0)
                base = np.int64(x0 + c) * height + top
                while word != np.uint64(0):
                    low = _lowest_bit(word)
                    length = _lowest_bit((word >> np.uint64(low)) ^ _ALL)
                    start = base + low
                    if used + 3 > len(out):
                        grown = np.empty(2 * len(out), dtype=np.int64)
                        grown[:used] = out[:used]
                        out = grown
                    if start == ones_end:
                        out[used - 1] += length
                    else:
                        out[used] = start - last
                        out[used + 1] = length
                        used += 2
                    last = start + length
                    ones_end = last
                    if low + length >= 64:
                        break
                    word = (word >> np.uint64(low + length)) << np.uint64(low + length)
        total = np.int64(height) * widths[i]
        if last < total or total == 0:
            if used + 1 > len(out):
                grown = np.empty(2 * len(out), dtype=np.int64)
                grown[:used] = out[:used]
                out = grown
            out[used] = total - last
            used += 1
        ends[i + 1] = used
    return out[:used].copy(), ends, status


@compiled
def text_from_counts(counts: Any, offsets: Any) -> Any:
    """COCO's compressed text of each row of counts: bytes uint8, offsets int64 (N + 1)."""
    n = len(offsets) - 1
    out = np.empty(2 * len(counts) + 1024, dtype=np.uint8)
    ends = np.zeros(n + 1, dtype=np.int64)
    used = 0
    for i in range(n):
        for k in range(offsets[i], offsets[i + 1]):
            x = counts[k]
            if k - offsets[i] > 2:
                x -= counts[k - 2]
            if used + 13 > len(out):  # 13 groups of five bits hold an int64
                grown = np.empty(2 * len(out), dtype=np.uint8)
                grown[:used] = out[:used]
                out = grown
            more = True
            while more:
                group = x & 0x1F
                x >>= 5
                more = x != -1 if group & 0x10 else x != 0
                if more:
                    group |= 0x20
                out[used] = group + 48
                used += 1
        ends[i + 1] = used
    return out[:used].copy(), ends


@compiled
def counts_from_text(text: Any, offsets: Any) -> Any:
    """Run lengths of each compressed text.

    Returns:
        counts int64, offsets int64 (N + 1), status uint8 (N,): 0 or ``BROKEN_TEXT``.
    """
    n = len(offsets) - 1
    out = np.empty(max(1, len(text)), dtype=np.int64)
    ends = np.zeros(n + 1, dtype=np.int64)
    status = np.zeros(n, dtype=np.uint8)
    used = 0
    for i in range(n):
        first = used
        at = offsets[i]
        while at < offsets[i + 1]:
            x = np.int64(0)
            shift = np.int64(0)
            more = True
            while more:
                if at >= offsets[i + 1] or text[at] < 48 or text[at] > 111 or shift > 60:
                    status[i] = BROKEN_TEXT
                    break
                group = np.int64(text[at]) - 48
                x |= (group & 0x1F) << shift
                more = (group & 0x20) != 0
                at += 1
                shift += 5
                if not more and (group & 0x10) and shift < 64:
                    x |= np.int64(-1) << shift
            if status[i] != 0:
                break
            if used - first > 2:
                x += out[used - 2]
            out[used] = x
            used += 1
        ends[i + 1] = used
    return out[:used].copy(), ends, status


@compiled
def words_from_counts(counts: Any, offsets: Any, heights: Any, widths: Any) -> Any:
    """Bit words of each row of counts, trimmed to its pixels.

    Returns:
        words uint64, offsets int64 (N + 1), windows int32 (N, 4), status uint8 (N,): 0 or ``WRONG_SUM``.
    """
    n = len(offsets) - 1
    windows = np.zeros((n, 4), dtype=np.int32)
    starts = np.zeros(n + 1, dtype=np.int64)
    status = np.zeros(n, dtype=np.uint8)
    for i in range(n):
        height = np.int64(heights[i])
        total = np.int64(0)
        left, right, top, bottom = np.int64(-1), np.int64(0), height, np.int64(0)
        for k in range(offsets[i], offsets[i + 1]):
            count = counts[k]
            if count < 0 or count > height * widths[i] - total:
                status[i] = WRONG_SUM
                break
            if count > 0 and (k - offsets[i]) % 2 == 1:
                first_x, last_x = total // height, (total + count - 1) // height
                if left < 0:
                    left = first_x
                right = last_x + 1
                if first_x == last_x:
                    top = min(top, total % height)
                    bottom = max(bottom, (total + count - 1) % height + 1)
                else:
                    top, bottom = np.int64(0), height
            total += count
        if total != height * widths[i]:
            status[i] = WRONG_SUM
        starts[i + 1] = starts[i]
        if status[i] == 0 and left >= 0:
            windows[i, 0] = left
            windows[i, 1] = top >> 6
            windows[i, 2] = right - left
            windows[i, 3] = ((bottom - 1) >> 6) - (top >> 6) + 1
            starts[i + 1] += np.int64(windows[i, 2]) * windows[i, 3]
    words = np.zeros(starts[n], dtype=np.uint64)
    for i in range(n):
        if starts[i + 1] == starts[i]:
            continue
        height = np.int64(heights[i])
        x0, word0, per_column = np.int64(windows[i, 0]), np.int64(windows[i, 1]), np.int64(windows[i, 3])
        at = np.int64(0)
        for k in range(offsets[i], offsets[i + 1]):
            stop = at + counts[k]
            if (k - offsets[i]) % 2 == 1:
                while at < stop:
                    x = at // height
                    y = at - x * height
                    end = min(y + (stop - at), height)  # of this column
                    at += end - y
                    column = starts[i] + (x - x0) * per_column - word0
                    while y < end:
                        block = min(end, (y & ~np.int64(63)) + 64) - y  # bits of one word
                        mask = _ALL >> np.uint64(64 - block)
                        words[column + (y >> 6)] |= mask << np.uint64(y & 63)
                        y += block
            at = stop
    return words, starts, windows, status
