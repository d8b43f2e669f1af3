"""Probability crops over boxes: what a mask head says, before any threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.instances.bit_masks import BitMasks, per_row
from hubmap_ml.instances.paste import paste_values, paste_words
from hubmap_ml.instances.ragged import as_rows, concatenate_ragged, offsets_of, take_ragged
from hubmap_ml.instances.whole_pixels import decide_pixels, on_whole_pixels
from hubmap_ml.spec import InputError


@dataclass(frozen=True, eq=False)
class SoftMasks:
    """Ragged crops of probabilities, quantised to 1/255, each lying over its box.

    Attributes:
        values: uint8, all crops one after the other, each row-major; probability = value / 255.
        offsets: int64 (N + 1,), crop ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
        shapes: int32 (N, 2), height and width of each crop.
        boxes: float32 (N, 4), x0, y0, x1, y1 in pixels of the image, half-open: the crop's outer edges. Not
            necessarily the instance's box.
    """

    values: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    shapes: NDArray[np.int32]
    boxes: NDArray[np.float32]

    def __post_init__(self) -> None:
        sizes = self.shapes.astype(np.int64).prod(axis=1) if self.shapes.ndim == 2 else None
        if (
            self.values.dtype != np.uint8
            or self.boxes.dtype != np.float32
            or self.boxes.shape != (len(self.shapes), 4)
            or sizes is None
            or not np.array_equal(np.diff(self.offsets), sizes)
            or self.offsets[0] != 0
            or self.offsets[-1] != len(self.values)
        ):
            raise ValueError("soft masks whose values, offsets, shapes and boxes do not belong together")

    def __len__(self) -> int:
        return len(self.shapes)

    @staticmethod
    def empty() -> "SoftMasks":
        return SoftMasks(
            np.zeros(0, np.uint8),
            np.zeros(1, np.int64),
            np.zeros((0, 2), np.int32),
            np.zeros((0, 4), np.float32),
        )

    @staticmethod
    def from_crops(crops: Sequence[NDArray[Any]], boxes: ArrayLike) -> "SoftMasks":
        """Crops of any sizes.

        Args:
            crops: N arrays (h, w), or one array (N, h, w): uint8 as they are, floats as probabilities,
                rounded to 1/255 (values outside [0, 1] are clipped).
            boxes: (N, 4), see the class.

        Raises:
            InputError: a probability that is not a number, or another number of boxes than crops.
        """
        boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
        if len(boxes) != len(crops):
            raise InputError(f"{len(crops)} mask crops with {len(boxes)} boxes: each crop needs its box")
        if len(crops) == 0:
            return SoftMasks.empty()
        if isinstance(crops, np.ndarray) and crops.ndim == 3:
            n, height, width = crops.shape
            flat = quantise(crops).reshape(-1)
            shapes = np.tile(np.array([height, width], dtype=np.int32), (n, 1))
            return SoftMasks(flat, offsets_of(np.full(n, height * width)), shapes, boxes)
        shapes = np.array([np.shape(crop) for crop in crops], dtype=np.int32)
        flat = np.concatenate([quantise(np.asarray(crop)).reshape(-1) for crop in crops])
        return SoftMasks(flat, offsets_of(shapes.astype(np.int64).prod(axis=1)), shapes, boxes)

    def crop(self, row: int) -> NDArray[np.uint8]:
        """One crop (h, w), a view."""
        height, width = self.shapes[row]
        return self.values[self.offsets[row] : self.offsets[row + 1]].reshape(height, width)

    def take(self, rows: ArrayLike) -> "SoftMasks":
        """The given rows (integers or a boolean selection), in that order."""
        picked = as_rows(rows, len(self))
        values, offsets = take_ragged(self.values, self.offsets, picked)
        return SoftMasks(values, offsets, self.shapes[picked], self.boxes[picked])

    @staticmethod
    def concatenate(parts: Sequence["SoftMasks"]) -> "SoftMasks":
        """All rows of the parts, one part after the other."""
        if not parts:
            return SoftMasks.empty()
        values, offsets = concatenate_ragged([(part.values, part.offsets) for part in parts])
        shapes = np.concatenate([part.shapes for part in parts])
        return SoftMasks(values, offsets, shapes, np.concatenate([part.boxes for part in parts]))

    def paste(self, row: int, height: int, width: int) -> NDArray[np.float32]:
        """Probabilities (height, width) of one crop over its whole image, zero where it does not reach."""
        out = np.zeros((height, width), dtype=np.float32)
        values = np.ascontiguousarray(self.values[self.offsets[row] : self.offsets[row + 1]])
        paste_values(values, self.shapes[row], self.boxes[row], out)
        return out

    def binarize(self, thresholds: ArrayLike, heights: ArrayLike, widths: ArrayLike) -> BitMasks:
        """The pixels whose pasted probability is at least the threshold: mmdet's masks, pixel for pixel.

        Args:
            thresholds: one for all, or (N,); in (0, 1].
            heights, widths: image sizes, one for all or (N,).

        Returns:
            N bit masks.

        Raises:
            InputError: a threshold outside (0, 1]: at 0 mmdet's masks would be the whole image.
        """
        limits = per_row(thresholds, len(self), np.float32)
        return self._binarize_at(limits[:, None], heights, widths)[0]

    def paste_many(self, thresholds: ArrayLike, heights: ArrayLike, widths: ArrayLike) -> list[BitMasks]:
        """``binarize`` at each of several thresholds (T,), sampling each crop once."""
        limits = np.asarray(thresholds, dtype=np.float32).reshape(-1)
        return self._binarize_at(np.tile(limits, (len(self), 1)), heights, widths)

    def _binarize_at(
        self, thresholds: NDArray[np.float32], heights: ArrayLike, widths: ArrayLike
    ) -> list[BitMasks]:
        outside = ~((thresholds > 0) & (thresholds <= 1))
        if outside.any():
            found = thresholds[outside][0]
            raise InputError(f"mask threshold {found:g}: must be greater than 0 and at most 1")
        tall, wide = per_row(heights, len(self), np.int64), per_row(widths, len(self), np.int64)
        crops = np.ascontiguousarray(self.values), self.offsets, self.shapes, np.ascontiguousarray(self.boxes)
        if on_whole_pixels(self.shapes, self.boxes, tall, wide):
            words, offsets, windows = decide_pixels(*crops, thresholds)
        else:
            words, offsets, windows = paste_words(*crops, np.ascontiguousarray(thresholds), tall, wide)
        every = BitMasks(words, offsets, windows)
        n_thresholds = thresholds.shape[1]
        if n_thresholds == 1:
            return [every]
        rows = np.arange(len(self), dtype=np.int64) * n_thresholds
        return [every.take(rows + t) for t in range(n_thresholds)]


def quantise(probabilities: NDArray[Any]) -> NDArray[np.uint8]:
    """Probabilities rounded to 1/255 (uint8 stays as it is).

    Raises:
        InputError: a value that is not a number.
    """
    if probabilities.dtype == np.uint8:
        return np.ascontiguousarray(probabilities)
    if probabilities.dtype == np.bool_:
        return probabilities.astype(np.uint8) * np.uint8(255)
    if np.isnan(probabilities).any():
        raise InputError(
            "a mask crop holds values that are not numbers: the network diverged or its output is broken"
        )
    rounded: NDArray[np.uint8] = np.rint(np.clip(probabilities, 0, 1) * 255).astype(np.uint8)
    return rounded
