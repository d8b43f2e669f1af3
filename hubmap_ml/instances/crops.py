"""Bit masks as dense crops and back: for work on single masks that thinks in pixels, at the size of the object."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.instances import bits
from hubmap_ml.instances.bit_masks import BitMasks
from hubmap_ml.instances.ragged import offsets_of


def crop_of(masks: BitMasks, row: int) -> tuple[NDArray[np.bool_], int, int]:
    """One mask inside its window.

    Returns:
        (h, w) bool, and the image column and row of its first pixel. h is a multiple of 64 and may reach below the
        image's last row; an empty mask is (0, 0).
    """
    x0, word0, columns, per_column = (int(value) for value in masks.windows[row])
    out = np.zeros((64 * per_column, columns), dtype=np.bool_)
    words = np.ascontiguousarray(masks.words[masks.offsets[row] : masks.offsets[row + 1]])
    bits.unpack_dense(words, np.array([0, 0, columns, per_column], np.int32), out)
    return out, x0, 64 * word0


def from_crops(crops: Sequence[NDArray[Any]], x0: ArrayLike, y0: ArrayLike) -> BitMasks:
    """Masks from crops as ``crop_of`` gives them.

    Args:
        crops: N crops (h, w), non-zero = inside.
        x0, y0: (N,), the image column and row of each crop's first pixel.

    Raises:
        ValueError: a first row that is no multiple of 64.
    """
    tops = np.asarray(y0, np.int64).reshape(-1)
    if (tops % 64).any():
        raise ValueError("a crop's first image row must be a multiple of 64")
    found = BitMasks.from_dense(crops)
    inside = np.diff(found.offsets) > 0
    windows = found.windows.copy()
    windows[inside, 0] += np.asarray(x0, np.int32).reshape(-1)[inside]
    windows[inside, 1] += (tops[inside] // 64).astype(np.int32)
    return BitMasks(found.words, offsets_of(windows[:, 2:].astype(np.int64).prod(axis=1)), windows)
