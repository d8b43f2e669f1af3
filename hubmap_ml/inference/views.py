"""Views: ways to show an image to a network, and the way back for boxes and masks.

A view flips the image itself, before any resizing, so that the way back is exact in image pixels whatever
the size. ``diagonal`` is mmdet's word for both flips at once (half a turn).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.spec import InputError

# For each view, whether it mirrors columns (left and right) and rows (top and bottom).
VIEWS: dict[str, tuple[bool, bool]] = {
    "none": (False, False),
    "hflip": (True, False),
    "vflip": (False, True),
    "diagonal": (True, True),
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


def flip_image(image: NDArray[np.uint8], view: str) -> NDArray[np.uint8]:
    """Show an image (H, W, 3) through a view; applied twice it is the image again."""
    columns, rows = VIEWS[view]
    return np.ascontiguousarray(image[:: -1 if rows else 1, :: -1 if columns else 1])


def flip_boxes(boxes: NDArray[np.float32], view: str, *, height: int, width: int) -> NDArray[np.float32]:
    """Move boxes between an image and its view; the same function leads there and back.

    Args:
        boxes: (N, 4) float32, xyxy pixels, half-open.
        view: one of `VIEWS`.
        height: of the image, pixels.
        width: of the image, pixels.
    """
    columns, rows = VIEWS[view]
    flipped = boxes.copy()
    if columns:
        flipped[:, 0], flipped[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    if rows:
        flipped[:, 1], flipped[:, 3] = height - boxes[:, 3], height - boxes[:, 1]
    return flipped


def flip_crops(crops: NDArray[np.uint8], view: str) -> NDArray[np.uint8]:
    """Flip mask crops (N, h, w), each over its box, as the view flips the image."""
    columns, rows = VIEWS[view]
    return np.ascontiguousarray(crops[:, :: -1 if rows else 1, :: -1 if columns else 1])
