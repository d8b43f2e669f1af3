"""Exact masks, 64 pixels a word, only where they lie."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.instances import bits, overlaps, rle
from hubmap_ml.instances.ragged import as_rows, concatenate_ragged, offsets_of, take_ragged
from hubmap_ml.spec import InputError


@dataclass(frozen=True, eq=False)
class BitMasks:
    """Ragged bit-packed crops, column after column as in COCO, words aligned to the image's grid.

    Word ``k`` of a column's window covers image rows ``64 (word0 + k)`` to ``64 (word0 + k) + 63``, bit ``b``
    the row ``64 (word0 + k) + b``, so that two masks of an image are compared by AND without shifts. Windows
    are as small as columns and whole words allow (equal masks have equal words); an empty mask has no
    columns. Image sizes are not kept: bits beyond an image's height do not occur.

    Attributes:
        words: uint64, all masks one after the other.
        offsets: int64 (N + 1,), mask ``i`` is ``words[offsets[i]:offsets[i + 1]]``.
        windows: int32 (N, 4): first column x0, first word row word0, columns, words per column.
    """

    words: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    windows: NDArray[np.int32]

    def __post_init__(self) -> None:
        if (
            self.words.dtype != np.uint64
            or self.windows.shape != (len(self.offsets) - 1, 4)
            or not np.array_equal(np.diff(self.offsets), self.windows[:, 2:].astype(np.int64).prod(axis=1))
            or self.offsets[0] != 0
            or self.offsets[-1] != len(self.words)
        ):
            raise ValueError("bit masks whose words, offsets and windows do not belong together")

    def __len__(self) -> int:
        return len(self.windows)

    @staticmethod
    def empty(length: int = 0) -> "BitMasks":
        """``length`` masks without a pixel."""
        return BitMasks(
            np.zeros(0, np.uint64), np.zeros(length + 1, np.int64), np.zeros((length, 4), np.int32)
        )

    @staticmethod
    def from_dense(masks: Sequence[NDArray[Any]]) -> "BitMasks":
        """N masks (H, W), non-zero = inside; sizes may differ. One array (N, H, W) will do."""
        words: list[NDArray[np.uint64]] = []
        windows = np.zeros((len(masks), 4), dtype=np.int32)
        for i, mask in enumerate(masks):
            inside = np.asarray(mask) != 0
            if inside.ndim != 2:
                raise ValueError(f"mask {i} has shape {inside.shape}, expected (height, width)")
            columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
            if len(columns) == 0:
                words.append(np.zeros(0, np.uint64))
                continue
            x0, x1, y0, y1 = int(columns[0]), int(columns[-1]) + 1, int(rows[0]), int(rows[-1]) + 1
            words.append(bits.pack_dense(np.ascontiguousarray(inside).view(np.uint8), x0, y0, x1, y1))
            windows[i] = x0, y0 >> 6, x1 - x0, ((y1 - 1) >> 6) - (y0 >> 6) + 1
        flat = np.concatenate(words) if words else np.zeros(0, np.uint64)
        return BitMasks(flat, offsets_of([len(part) for part in words]), windows)

    @staticmethod
    def from_rle(
        counts: Sequence[str | bytes | Sequence[int]],
        heights: ArrayLike,
        widths: ArrayLike,
        *,
        name_of: Callable[[int], str] = "mask {}".format,
    ) -> "BitMasks":
        """Masks from COCO run lengths.

        Args:
            counts: N compressed texts (``"counts"`` of ``pycocotools.mask.encode``) or plain lists of counts.
            heights, widths: image sizes, one for all or (N,).
            name_of: what to call a row in an error.

        Raises:
            InputError: text that is no run lengths, or counts that do not fill the image; names the row.
        """
        n = len(counts)
        tall, wide = per_row(heights, n, np.int64), per_row(widths, n, np.int64)
        parts: list[NDArray[np.int64]] = []
        texts = [
            part.encode(errors="surrogatepass")
            if isinstance(part, str)
            else part
            if isinstance(part, bytes)
            else b""
            for part in counts
        ]
        flat, offsets, status = rle.counts_from_text(
            np.frombuffer(b"".join(texts), dtype=np.uint8), offsets_of([len(text) for text in texts])
        )
        if status.any():
            row = int(np.flatnonzero(status)[0])
            raise InputError(f"{name_of(row)}: its counts are no COCO run lengths")
        if any(not isinstance(part, str | bytes) for part in counts):
            parts = [
                flat[offsets[i] : offsets[i + 1]]
                if isinstance(part, str | bytes)
                else np.array(part, dtype=np.int64)
                for i, part in enumerate(counts)
            ]
            flat, offsets = np.concatenate(parts), offsets_of([len(part) for part in parts])
        words, starts, windows, status = rle.words_from_counts(flat, offsets, tall, wide)
        if status.any():
            row = int(np.flatnonzero(status)[0])
            raise InputError(
                f"{name_of(row)}: its run lengths do not add up to {wide[row]} x {tall[row]} pixels "
                "(width x height)"
            )
        return BitMasks(words, starts, windows)

    def to_rle(self, heights: ArrayLike, widths: ArrayLike) -> list[str]:
        """COCO's compressed counts, byte for byte those of ``pycocotools.mask.encode``.

        Args:
            heights, widths: image sizes, one for all or (N,).

        Raises:
            InputError: a mask with pixels outside its image.
        """
        tall, wide = per_row(heights, len(self), np.int64), per_row(widths, len(self), np.int64)
        letters, ends, status = rle.text_from_words(*self._arrays(), tall, wide)
        if status.any():
            row = int(np.flatnonzero(status)[0])
            raise InputError(
                f"mask {row} has pixels outside its image of {wide[row]} x {tall[row]} (width x height)"
            )
        text = letters.tobytes().decode("ascii")
        return [text[start:stop] for start, stop in pairwise(ends.tolist())]

    def to_dense(self, row: int, height: int, width: int) -> NDArray[np.bool_]:
        """One mask (height, width).

        Raises:
            InputError: pixels outside that size.
        """
        out = np.zeros((height, width), dtype=np.bool_)
        words = np.ascontiguousarray(self.words[self.offsets[row] : self.offsets[row + 1]])
        if not bits.unpack_dense(words, self.windows[row], out):
            raise InputError(
                f"mask {row} has pixels outside its image of {width} x {height} (width x height)"
            )
        return out

    def take(self, rows: ArrayLike) -> "BitMasks":
        """The given rows (integers or a boolean selection), in that order."""
        picked = as_rows(rows, len(self))
        words, offsets = take_ragged(self.words, self.offsets, picked)
        return BitMasks(words, offsets, self.windows[picked])

    @staticmethod
    def concatenate(parts: Sequence["BitMasks"]) -> "BitMasks":
        """All rows of the parts, one part after the other."""
        if not parts:
            return BitMasks.empty()
        words, offsets = concatenate_ragged([(part.words, part.offsets) for part in parts])
        return BitMasks(words, offsets, np.concatenate([part.windows for part in parts]))

    def areas(self) -> NDArray[np.int64]:
        """Pixels of each mask (N,)."""
        return np.asarray(bits.count_bits(np.ascontiguousarray(self.words), self.offsets))

    def tight_boxes(self) -> NDArray[np.float32]:
        """x0, y0, x1, y1 half-open around each mask's pixels, float32 (N, 4); zeros for an empty mask."""
        found = bits.bounding_boxes(np.ascontiguousarray(self.words), self.offsets, self.windows)
        return np.asarray(found, dtype=np.float32)

    def intersections(self, other: "BitMasks", pairs: ArrayLike) -> NDArray[np.int64]:
        """Shared pixels of pairs (P, 2): row of this, row of ``other``; int64 (P,)."""
        chosen = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
        as_rows(chosen[:, 0], len(self))
        as_rows(chosen[:, 1], len(other))
        first = self.by_rows()[:3]
        second = first if other is self else other.by_rows()[:3]
        return np.asarray(overlaps.overlap_pairs(*first, *second, np.ascontiguousarray(chosen)))

    def intersection_matrix(self, other: "BitMasks | None" = None) -> NDArray[np.int64]:
        """Shared pixels of each mask with each of ``other`` (default: of this), int64 (N, M)."""
        return np.asarray(self._overlap_matrix(other, overlaps.SHARED, np.int64))

    def iou_matrix(
        self, other: "BitMasks | None" = None, iscrowd: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Intersection over union of each mask with each of ``other``, as ``pycocotools.mask.iou`` gives it.

        Args:
            other: M masks of the same image; default: this against itself.
            iscrowd: (M,) booleans; against a crowd the union is the area of this side's mask alone.

        Returns:
            float64 (N, M), quotients of whole numbers; 0 where nothing is shared.
        """
        return np.asarray(self._overlap_matrix(other, overlaps.IOU, np.float64, iscrowd))

    def ios_matrix(self, other: "BitMasks | None" = None) -> NDArray[np.float64]:
        """Intersection over the smaller mask of each with each of ``other`` (default: of this), float64 (N, M)."""
        return np.asarray(self._overlap_matrix(other, overlaps.IOS, np.float64))

    def _overlap_matrix(
        self, other: "BitMasks | None", measure: int, dtype: Any, iscrowd: ArrayLike | None = None
    ) -> NDArray[Any]:
        second = self if other is None else other
        crowd = per_row(False if iscrowd is None else iscrowd, len(second), np.bool_)
        symmetric = second is self and not crowd.any()
        first_side = self.by_rows()
        second_side = first_side if second is self else second.by_rows()
        order = np.argsort(second.windows[:, 0], kind="stable")
        out = np.zeros((len(self), len(second)), dtype)
        overlaps.overlap_matrix(*first_side, *second_side, order, crowd, measure, symmetric, out)
        return out

    def by_rows(self) -> overlaps.Laid:
        """Masks as the kernels of ``overlaps`` want them."""
        rows, bounds, areas = overlaps.by_rows(*self._arrays())
        return rows, self.offsets, self.windows, bounds, areas

    def _arrays(self) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32]]:
        return np.ascontiguousarray(self.words), self.offsets, self.windows


def per_row(value: ArrayLike, length: int, dtype: Any) -> NDArray[Any]:
    """One value for all rows, or one for each, as an array (length,).

    Raises:
        ValueError: another number of values.
    """
    values = np.asarray(value, dtype=dtype)
    if values.ndim == 0:
        return np.full(length, values, dtype=dtype)
    if values.shape != (length,):
        raise ValueError(f"{values.shape} values for {length} rows")
    return np.ascontiguousarray(values)
