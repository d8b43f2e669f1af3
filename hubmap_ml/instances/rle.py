"""COCO's run lengths and their compressed text, to and from bit words, without a dense mask.

The format is pycocotools' (``common/maskApi.c``: ``rleEncode``, ``rleToString``, ``rleFrString``): runs over
the image in column-major order, zeros first; each count as the difference to the one two before it (from the
fourth on), in groups of five bits. Texts are byte for byte those of ``pycocotools.mask.encode``.
"""

from typing import Any

import numpy as np

from hubmap_ml.instances.compiled import compiled, count_high_zeros, count_low_zeros, count_ones

OUTSIDE = 1
"""A mask has pixels outside its image."""
BROKEN_TEXT = 1
"""A text ends inside a number or holds a character that cannot occur."""
WRONG_SUM = 2
"""Counts that do not add up to the number of pixels, or a negative count."""

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_NONE = np.uint64(0)


@compiled
def text_from_words(words: Any, offsets: Any, windows: Any, heights: Any, widths: Any) -> Any:
    """COCO's compressed text of each mask over its image.

    Returns:
        letters uint8, offsets int64 (N + 1), status uint8 (N,): 0 or ``OUTSIDE``.
    """
    n = len(offsets) - 1
    status = np.zeros(n, dtype=np.uint8)
    ends = np.zeros(n + 1, dtype=np.int64)
    most, letters = _room_for_text(words, offsets, windows, heights, widths)
    turns = np.empty(most, dtype=np.int64)
    out = np.empty(letters, dtype=np.uint8)
    used = 0
    for i in range(n):
        height, total = np.int64(heights[i]), np.int64(heights[i]) * widths[i]
        x0, n_columns = np.int64(windows[i, 0]), np.int64(windows[i, 2])
        count = -1
        if x0 >= 0 and x0 + n_columns <= widths[i]:
            count = _turns(words, offsets[i], windows[i], height, turns)
        if count < 0:
            status[i] = OUTSIDE
        else:
            if count == 0 or turns[count - 1] < total:
                turns[count] = total
                count += 1
            used = _write(turns, count, out, used)
        ends[i + 1] = used
    return out[:used], ends, status


@compiled
def _room_for_text(words: Any, offsets: Any, windows: Any, heights: Any, widths: Any) -> Any:
    """At least as many counts as any mask has, and letters as all have."""
    most, letters = 0, 0
    for i in range(len(offsets) - 1):
        turns = 3 + 2 * windows[i, 2]
        for k in range(offsets[i], offsets[i + 1]):
            turns += count_ones(words[k] ^ (words[k] << np.uint64(1))) + 1
        bits_and_sign = 66 - count_high_zeros(np.uint64(heights[i]) * np.uint64(widths[i]))
        most = max(most, turns)
        letters += turns * (bits_and_sign // 5 + 1)
    return most, letters


@compiled
def _turns(words: Any, start: Any, window: Any, height: Any, out: Any) -> Any:
    """Write the number of each pixel, in column-major order, that differs from the one before it.

    These are the bits of a word that differ from the word shifted by one; a column's first pixel follows the last one
    of the column before.

    Args:
        words, start: the mask is ``words[start:]``.
        window: as in ``BitMasks``.
        height: of the image.

    Returns:
        How many there are, -1 if a pixel lies outside the image.
    """
    x0, word0, per_column = np.int64(window[0]), np.int64(window[1]), np.int64(window[3])
    stop = np.int64(window[2]) * per_column
    count = 0
    value = _NONE  # of the pixel before
    base = x0 * height + 64 * word0  # number of the word's first pixel
    k: Any = np.int64(0)
    for at in range(start, start + stop):
        if k == 0 and word0 > 0 and value != _NONE:
            out[count] = base - 64 * word0
            count += 1
            value = _NONE
        word = words[at]
        changes = word ^ ((word << np.uint64(1)) | value)
        value = word >> np.uint64(63)
        rows = height - 64 * (word0 + k)
        if rows < 64:
            if rows <= 0 or (word >> np.uint64(rows)) != _NONE:
                return -1
            changes &= _ALL >> np.uint64(64 - rows)
            value = word >> np.uint64(rows - 1)
        while changes != _NONE:
            out[count] = base + count_low_zeros(changes)
            count += 1
            changes &= changes - np.uint64(1)
        k += 1
        base += 64
        if k == per_column:
            if rows > 64 and value != _NONE:
                out[count] = base
                count += 1
                value = _NONE
            k = 0
            base += height - 64 * per_column
    if value != _NONE:
        out[count] = base - 64 * word0
        count += 1
    return count


@compiled
def _write(turns: Any, n: Any, out: Any, used: Any) -> Any:
    """Write the text of the counts that end at the given pixels from ``out[used]`` on; returns where it ends."""
    at, before, two_before = np.int64(0), np.int64(0), np.int64(0)
    for k in range(n):
        count = turns[k] - at
        at = turns[k]
        x = count - two_before if k > 2 else count
        two_before, before = before, count
        # two groups of five bits without a branch (counts differ by little, but unpredictably), more with one
        two, three = not -16 <= x < 16, not -512 <= x < 512
        out[used] = 48 + (x & 0x1F) + 0x20 * two
        out[used + 1] = 48 + ((x >> 5) & 0x1F) + 0x20 * three
        used += 1 + two
        if three:
            x >>= 10
            while not -16 <= x < 16:
                out[used] = 48 + (0x20 | (x & 0x1F))
                used += 1
                x >>= 5
            out[used] = 48 + (x & 0x1F)
            used += 1
    return used


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
