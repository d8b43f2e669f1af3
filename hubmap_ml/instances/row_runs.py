"""Row-major, 1-indexed run lengths ("start length start length …"), to and from bit words.

The text of Sartorius 2021 and of Data Science Bowl 2018: pixels are counted from 1 along the first image row, then
along the next. (COCO counts down the columns and from 0: see ``rle``.) A run may go on into the next row.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hubmap_ml.instances.bit_masks import BitMasks, per_row
from hubmap_ml.instances.compiled import compiled
from hubmap_ml.instances.ragged import offsets_of

NO_NUMBER, ODD, OUTSIDE, TWICE, EMPTY = 1, 2, 3, 4, 5
_REASONS = {
    NO_NUMBER: "its run lengths hold something that is no whole number from 1 up",
    ODD: "its run lengths are not pairs of start and length",
    OUTSIDE: "its run lengths reach beyond the image of {width} x {height} pixels (width x height)",
    TWICE: "its run lengths give a pixel twice",
    EMPTY: "it has no pixel",
}


def from_row_runs(
    texts: Sequence[str], heights: ArrayLike, widths: ArrayLike
) -> tuple[BitMasks, list[str | None]]:
    """Masks from texts; a text that cannot be read gives an empty mask and the reason.

    Args:
        texts: N texts; runs in any order.
        heights, widths: image sizes in pixels, one for all or (N,).

    Returns:
        N masks, and for each None or what is wrong with its text (one without a pixel is wrong, too).
    """
    n = len(texts)
    tall, wide = per_row(heights, n, np.int64), per_row(widths, n, np.int64)
    encoded = [text.encode(errors="surrogatepass") for text in texts]
    letters = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    pairs, starts, status = _parse(letters, offsets_of([len(text) for text in encoded]), tall * wide)
    words, offsets, windows, twice = _words(pairs, starts, tall, wide)
    status = np.where(twice, np.uint8(TWICE), status)
    masks = BitMasks(words, offsets, windows)
    if twice.any():
        kept = masks.take(np.flatnonzero(~twice))
        masks = BitMasks.concatenate([kept, BitMasks.empty(1)]).take(
            np.where(twice, len(kept), np.cumsum(~twice) - 1)
        )
    reasons = [
        _REASONS[int(code)].format(height=tall[k], width=wide[k]) if code else None
        for k, code in enumerate(status)
    ]
    return masks, reasons


def to_row_runs(masks: BitMasks, heights: ArrayLike, widths: ArrayLike) -> list[str]:
    """The texts of N masks: runs by ascending start, as long as possible; "" for an empty mask.

    Args:
        heights, widths: image sizes in pixels, one for all or (N,).

    Raises:
        ValueError: a mask with pixels outside its image.
    """
    n = len(masks)
    tall, wide = per_row(heights, n, np.int64), per_row(widths, n, np.int64)
    boxes = masks.tight_boxes()
    if (boxes[:, 2] > wide).any() or (boxes[:, 3] > tall).any():
        raise ValueError("a mask has pixels outside its image")
    pairs, ends = _runs(np.ascontiguousarray(masks.words), masks.offsets, masks.windows, tall, wide)
    numbers = pairs.reshape(-1).tolist()
    return [" ".join(map(str, numbers[2 * ends[k] : 2 * ends[k + 1]])) for k in range(n)]


@compiled
def _parse(letters: Any, offsets: Any, pixels: Any) -> Any:
    """Pairs of 0-based first pixel and length, int64 (P, 2); offsets int64 (N + 1,); status uint8 (N,)."""
    n = len(offsets) - 1
    out = np.empty((len(letters) // 4 + n + 1, 2), dtype=np.int64)  # a pair has four letters with its spaces
    ends = np.zeros(n + 1, dtype=np.int64)
    status = np.zeros(n, dtype=np.uint8)
    used = 0
    for i in range(n):
        first = used
        at, stop, count, start = offsets[i], offsets[i + 1], 0, np.int64(0)
        while at < stop:
            if letters[at] == 32 or (9 <= letters[at] <= 13):
                at += 1
                continue
            value = np.int64(0)
            while at < stop and 48 <= letters[at] <= 57:
                value = min(value * 10 + letters[at] - 48, np.int64(1) << 50)
                at += 1
            if value == 0 or (at < stop and letters[at] != 32 and not (9 <= letters[at] <= 13)):
                status[i] = NO_NUMBER
                break
            if count % 2 == 0:
                start = value - 1
            else:
                if start + value > pixels[i]:
                    status[i] = OUTSIDE
                    break
                out[used, 0], out[used, 1] = start, value
                used += 1
            count += 1
        if status[i] == 0 and count % 2 == 1:
            status[i] = ODD
        if status[i] == 0 and count == 0:
            status[i] = EMPTY
        if status[i] != 0:
            used = first
        ends[i + 1] = used
    return out[:used].copy(), ends, status


@compiled
def _words(pairs: Any, starts: Any, heights: Any, widths: Any) -> Any:
    """Bit words of runs as ``BitMasks`` holds them, and which masks have a pixel twice, bool (N,)."""
    n = len(starts) - 1
    windows = np.zeros((n, 4), dtype=np.int32)
    offsets = np.zeros(n + 1, dtype=np.int64)
    twice = np.zeros(n, dtype=np.bool_)
    for i in range(n):
        width = np.int64(widths[i])
        left, right, top, bottom = width, np.int64(0), np.int64(heights[i]), np.int64(0)
        for p in range(starts[i], starts[i + 1]):
            start, last = pairs[p, 0], pairs[p, 0] + pairs[p, 1] - 1
            y0, y1 = start // width, last // width
            top, bottom = min(top, y0), max(bottom, y1 + 1)
            if y0 == y1:
                left, right = min(left, start - y0 * width), max(right, last - y1 * width + 1)
            else:
                left, right = np.int64(0), width
        offsets[i + 1] = offsets[i]
        if starts[i + 1] > starts[i]:
            # a run into the next row claims all columns; what it does not fill is trimmed below
            if left == 0 and right == width:
                left, right = _columns(pairs, starts[i], starts[i + 1], width)
            windows[i, 0], windows[i, 1] = left, top >> 6
            windows[i, 2], windows[i, 3] = right - left, ((bottom - 1) >> 6) - (top >> 6) + 1
            offsets[i + 1] += np.int64(windows[i, 2]) * windows[i, 3]
    words = np.zeros(offsets[n], dtype=np.uint64)
    for i in range(n):
        width = np.int64(widths[i])
        x0, word0, per_column = np.int64(windows[i, 0]), np.int64(windows[i, 1]), np.int64(windows[i, 3])
        for p in range(starts[i], starts[i + 1]):
            y = pairs[p, 0] // width
            x = pairs[p, 0] - y * width
            for _ in range(pairs[p, 1]):
                at = offsets[i] + (x - x0) * per_column + (y >> 6) - word0
                bit = np.uint64(1) << np.uint64(y & 63)
                if words[at] & bit:
                    twice[i] = True
                words[at] |= bit
                x += 1
                if x == width:
                    x = 0
                    y += 1
    return words, offsets, windows, twice


@compiled
def _columns(pairs: Any, first: Any, stop: Any, width: Any) -> Any:
    """First and last (half-open) column that runs touch, some of which go on into the next row."""
    left, right = width, np.int64(0)
    for p in range(first, stop):
        x0 = pairs[p, 0] % width
        x1 = x0 + pairs[p, 1]
        if x1 > width:  # reaches the last column and begins again at the first
            return np.int64(0), width
        left, right = min(left, x0), max(right, x1)
    return left, right


@compiled
def _runs(words: Any, offsets: Any, windows: Any, heights: Any, widths: Any) -> Any:
    """Pairs of 1-based first pixel and length, int64 (P, 2), and offsets int64 (N + 1,)."""
    n = len(offsets) - 1
    out = np.empty((1024, 2), dtype=np.int64)
    ends = np.zeros(n + 1, dtype=np.int64)
    used = 0
    for i in range(n):
        x0, word0, n_columns, per_column = windows[i, 0], windows[i, 1], windows[i, 2], windows[i, 3]
        width = np.int64(widths[i])
        end = np.int64(-1)  # behind the last pixel of the last run
        for y in range(word0 * 64, min(np.int64(word0 + per_column) * 64, heights[i])):
            bit = np.uint64(y & 63)
            at = offsets[i] + (y >> 6) - word0
            for c in range(n_columns):
                if (words[at + np.int64(c) * per_column] >> bit) & np.uint64(1):
                    pixel = np.int64(y) * width + x0 + c
                    if pixel == end:
                        out[used - 1, 1] += 1
                    else:
                        if used == len(out):
                            grown = np.empty((2 * len(out), 2), dtype=np.int64)
                            grown[:used] = out
                            out = grown
                        out[used, 0], out[used, 1] = pixel + 1, 1
                        used += 1
                    end = pixel + 1
        ends[i + 1] = used
    return out[:used].copy(), ends
