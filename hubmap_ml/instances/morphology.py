"""Erosion, dilation, opening and closing of bit masks, 64 pixels at a time and only where they lie.

The convention is OpenCV's (``cv2.erode``, ``cv2.dilate``, ``cv2.morphologyEx`` with ``cv2.getStructuringElement``): a
kernel's anchor is its pixel (h // 2, w // 2), it is not mirrored for dilation (so that a kernel of even size moves a
mask by a pixel), and ``iterations`` repeats erosion and dilation each: opening twice is erode, erode, dilate, dilate.

One thing is stated here and left to the caller there: what lies beyond the image's edge. Dilation sees nothing there.
Erosion sees nothing either (``border=0``, the default: a mask that is cut off by the edge is eroded from that side
too), or a mask that goes on (``border=1``: what OpenCV does unless told otherwise).
"""

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.instances.bit_masks import BitMasks, per_row
from hubmap_ml.instances.morphology_kernels import DILATE, ERODE, morph
from hubmap_ml.spec import InputError

Shape = Literal["square", "cross", "ellipse"]
Border = Literal[0, 1]
KernelSize = int | tuple[int, int]


def eroded(
    bits: BitMasks,
    heights: ArrayLike,
    widths: ArrayLike,
    *,
    kernel: KernelSize = 3,
    shape: Shape = "square",
    iterations: int = 1,
    border: Border = 0,
) -> BitMasks:
    """Keep the pixels around which the whole kernel lies inside the mask.

    Args:
        bits: N masks.
        heights, widths: image sizes in pixels, one for all or (N,).
        kernel: size in pixels, one number or (height, width).
        shape: all of it, its middle row and column, or OpenCV's ellipse.
        iterations: how often; 0 changes nothing.
        border: what lies beyond the image's edge: nothing, or the mask going on.

    Returns:
        N masks, possibly empty.

    Raises:
        InputError: a kernel, shape, number of iterations or border that does not exist, or a mask with pixels
            outside its image.
    """
    return _changed(bits, heights, widths, [ERODE] * _times(iterations), kernel, shape, border)


def dilated(
    bits: BitMasks,
    heights: ArrayLike,
    widths: ArrayLike,
    *,
    kernel: KernelSize = 3,
    shape: Shape = "square",
    iterations: int = 1,
) -> BitMasks:
    """Add the pixels whose kernel meets the mask, inside the image; arguments as of ``eroded``."""
    return _changed(bits, heights, widths, [DILATE] * _times(iterations), kernel, shape, 0)


def opened(
    bits: BitMasks,
    heights: ArrayLike,
    widths: ArrayLike,
    *,
    kernel: KernelSize = 3,
    shape: Shape = "square",
    iterations: int = 1,
    border: Border = 0,
) -> BitMasks:
    """Erode, then dilate: what is thinner than the kernel goes; arguments as of ``eroded``."""
    steps = [ERODE] * _times(iterations) + [DILATE] * iterations
    return _changed(bits, heights, widths, steps, kernel, shape, border)


def closed(
    bits: BitMasks,
    heights: ArrayLike,
    widths: ArrayLike,
    *,
    kernel: KernelSize = 3,
    shape: Shape = "square",
    iterations: int = 1,
    border: Border = 0,
) -> BitMasks:
    """Dilate, then erode: gaps thinner than the kernel fill; arguments as of ``eroded``.

    With ``border=0`` a mask loses pixels at the image's edge, which a closing should not: ``border=1`` keeps them.
    """
    steps = [DILATE] * _times(iterations) + [ERODE] * iterations
    return _changed(bits, heights, widths, steps, kernel, shape, border)


def structuring_element(kernel: KernelSize, shape: Shape) -> NDArray[np.bool_]:
    """Return the pixels of a kernel, (h, w) bool: those of ``cv2.getStructuringElement``.

    Raises:
        InputError: a size or shape that does not exist.
    """
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    if not (1 <= height <= _LARGEST and 1 <= width <= _LARGEST):
        raise InputError(f"a kernel of {width} x {height} pixels: each side must be from 1 to {_LARGEST}")
    if shape == "square":
        return np.ones((height, width), np.bool_)
    out = np.zeros((height, width), np.bool_)
    middle_y, middle_x = height // 2, width // 2
    if shape == "cross":
        out[middle_y, :] = True
        out[:, middle_x] = True
    elif shape == "ellipse":
        for y in range(height):
            part = 1 - ((y - middle_y) / middle_y) ** 2 if middle_y else 0.0
            reach = round(middle_x * np.sqrt(part)) if part >= 0 else 0
            out[y, max(middle_x - reach, 0) : middle_x + reach + 1] = True
    else:
        raise InputError(f"a kernel of shape {shape!r}: allowed are square, cross, ellipse")
    return out


_LARGEST = 1023


def _times(iterations: int) -> int:
    if iterations < 0:
        raise InputError(f"{iterations} iterations: must be 0 or more")
    return iterations


def _changed(
    bits: BitMasks,
    heights: ArrayLike,
    widths: ArrayLike,
    steps: list[int],
    kernel: KernelSize,
    shape: Shape,
    border: Border,
) -> BitMasks:
    if border not in (0, 1):
        raise InputError(
            f"a border of {border!r}: 0 (nothing beyond the image's edge) or 1 (the mask goes on)"
        )
    words, offsets, windows, outside = morph(
        np.ascontiguousarray(bits.words),
        bits.offsets,
        bits.windows,
        per_row(heights, len(bits), np.int64),
        per_row(widths, len(bits), np.int64),
        np.array(steps, np.int64),
        _column_ranges(kernel if isinstance(kernel, int) else tuple(kernel), shape),
        border == 1,
    )
    if outside >= 0:
        raise InputError(f"mask {outside} has pixels outside its image: it belongs to another size")
    return BitMasks(words, offsets, windows)


@lru_cache(maxsize=64)
def _column_ranges(kernel: KernelSize, shape: Shape) -> NDArray[np.int64]:
    """Rows of a kernel, column by column: int64 (columns, 3) with dx, lowest and highest dy from the anchor.

    Columns with the same rows stand together, those with fewer rows first.
    """
    element = structuring_element(kernel, shape)
    height, width = element.shape
    ranges = []
    for x in np.flatnonzero(element.any(axis=0)).tolist():
        rows = np.flatnonzero(element[:, x])
        ranges.append((int(rows[0]) - height // 2, int(rows[-1]) - height // 2, x - width // 2))
    ranges.sort(key=lambda one: (one[1] - one[0], *one))
    return np.array([(dx, low, high) for low, high, dx in ranges], np.int64)
