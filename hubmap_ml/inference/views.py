"""Views: ways to show an image to a network, and the way back for boxes and masks.

The eight ways to lay a square on itself: mirrored, turned by quarters, or both. A view changes the image itself, before
any resizing, so that the way back is exact in image pixels whatever the size. ``diagonal`` is mmdet's word for both
mirrors at once (half a turn); ``rot90`` turns as ``numpy.rot90`` does, against the clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.spec import InputError


@dataclass(frozen=True)
class View:
    """A view as steps: rows and columns are exchanged first, then columns and rows are mirrored.

    Attributes:
        transposed: whether the view's height is the image's width.
        columns: whether left and right are mirrored, in the view.
        rows: whether top and bottom are mirrored, in the view.
    """

    transposed: bool = False
    columns: bool = False
    rows: bool = False


VIEWS: dict[str, View] = {
    "none": View(),
    "hflip": View(columns=True),
    "vflip": View(rows=True),
    "diagonal": View(columns=True, rows=True),
    "transpose": View(transposed=True),
    "rot90": View(transposed=True, rows=True),
    "rot270": View(transposed=True, columns=True),
    "transverse": View(transposed=True, columns=True, rows=True),
}


def check_views(views: Sequence[str]) -> tuple[str, ...]:
    """Return the views, if they are known and each is there once.

    Raises:
        InputError: none, an unknown one, or one twice.
    """
    for view in views:
        if view not in VIEWS:
            raise InputError(f"view {view!r} is not known; there are {', '.join(VIEWS)}")
    if not views or len(set(views)) != len(views):
        raise InputError(f"views are {list(views)!r}: name at least one, each once")
    return tuple(views)


def view_of_image(image: NDArray[np.uint8], view: str) -> NDArray[np.uint8]:
    """Show an image (H, W, 3) through a view: (H, W, 3), or (W, H, 3) where the view is transposed."""
    how = VIEWS[view]
    turned = image.swapaxes(0, 1) if how.transposed else image
    return np.ascontiguousarray(turned[:: -1 if how.rows else 1, :: -1 if how.columns else 1])


def boxes_in_view(boxes: NDArray[np.float32], view: str, *, height: int, width: int) -> NDArray[np.float32]:
    """Move boxes of an image into a view of it.

    Args:
        boxes: (N, 4) float32, xyxy pixels, half-open.
        view: one of `VIEWS`.
        height, width: of the image (not of the view), pixels.
    """
    how = VIEWS[view]
    if how.transposed:
        return _mirrored(boxes[:, [1, 0, 3, 2]], how, height=width, width=height)
    return _mirrored(boxes, how, height=height, width=width)


def boxes_from_view(boxes: NDArray[np.float32], view: str, *, height: int, width: int) -> NDArray[np.float32]:
    """Move boxes of a view back into the image; arguments as for ``boxes_in_view``, which this undoes."""
    how = VIEWS[view]
    if how.transposed:
        return np.ascontiguousarray(_mirrored(boxes, how, height=width, width=height)[:, [1, 0, 3, 2]])
    return _mirrored(boxes, how, height=height, width=width)


def crops_in_view(crops: NDArray[Any], view: str) -> NDArray[Any]:
    """Change mask crops (N, h, w), each over its box, as the view changes the image."""
    how = VIEWS[view]
    turned = crops.swapaxes(1, 2) if how.transposed else crops
    return np.ascontiguousarray(turned[:, :: -1 if how.rows else 1, :: -1 if how.columns else 1])


def crops_from_view(crops: NDArray[Any], view: str) -> NDArray[Any]:
    """Change mask crops of a view back to the image's; undoes ``crops_in_view``."""
    how = VIEWS[view]
    mirrored = crops[:, :: -1 if how.rows else 1, :: -1 if how.columns else 1]
    return np.ascontiguousarray(mirrored.swapaxes(1, 2) if how.transposed else mirrored)


def _mirrored(boxes: NDArray[np.float32], how: View, *, height: int, width: int) -> NDArray[np.float32]:
    """Mirror boxes in a view of the given size; applied twice they are the same again."""
    out = boxes.copy()
    if how.columns:
        out[:, 0], out[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    if how.rows:
        out[:, 1], out[:, 3] = height - boxes[:, 3], height - boxes[:, 1]
    return out
