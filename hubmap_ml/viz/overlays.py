"""Outlines of instances drawn over their image, for eyes and not for measuring.

Headless: OpenCV draws on arrays, nothing opens a window.
"""

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Masks

# Bright, and none pink or purple: they stand out from stained tissue. Neighbours only have to differ.
PALETTE: tuple[tuple[int, int, int], ...] = (
    (70, 240, 240),
    (255, 225, 25),
    (60, 230, 90),
    (255, 150, 30),
    (255, 255, 255),
    (120, 180, 255),
)
FILL = 0.16
THICK_FROM = 480
BAR = 26
BAR_COLOUR = (24, 26, 31)
TEXT_COLOUR = (236, 238, 242)
GAP = 4

# As the report's galleries have them: told apart by readers who see no red and green, and by their lines' width too.
FOUND_COLOUR = (86, 196, 255)
MISSED_COLOUR = (255, 232, 60)
WRONG_COLOUR = (255, 122, 46)
DIMMED = 0.6
RIGHT, LEFT_OUT = "right", "left out"


class Drawable(Protocol):
    """What is drawn: `Instances` or `ImageAnnotations` of one image."""

    @property
    def boxes(self) -> NDArray[np.float32]: ...

    @property
    def masks(self) -> Masks | None: ...

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    def __len__(self) -> int: ...


def truth_and_prediction(
    image: NDArray[np.uint8],
    truth: Drawable | None,
    predictions: Drawable | None,
    *,
    mask_threshold: float = 0.5,
    kinds: Sequence[str] | None = None,
    finds: Sequence[int] | NDArray[np.int64] = (),
    caption: str = "",
    min_side: int = 320,
    max_side: int = 1024,
) -> NDArray[np.uint8]:
    """Draw the truth and the prediction of one image side by side, and what is wrong beside them.

    Args:
        image: (H, W, 3) uint8 RGB.
        truth: what is there, with masks; None leaves that half out (a tile without annotations).
        predictions: what a model says, with masks; None leaves that half out.
        mask_threshold: where soft masks become pixels; bit masks are drawn as they are.
        kinds: of each prediction ``right``, ``left out`` or a kind of error, for the third part; by default there is
            none.
        finds: for each prediction the number of the truth that it finds; -1 for none.
        caption: named in front of the counts, such as the tile's id; ASCII, other signs become ``?``.
        min_side: smaller images are enlarged by a whole number until their longer side reaches it (pixels).
        max_side: larger images are shrunk to it (pixels, longer side).

    Returns:
        (H', W', 3) uint8 RGB: a caption bar, below it ``truth | prediction`` and ``| errors``.

    Raises:
        ValueError: image is not (H, W, 3) uint8, or its size is not the instances'.
    """
    halves = []
    for name, instances in (("truth", truth), ("prediction", predictions)):
        if instances is not None:
            canvas = draw_instances(
                image, instances, mask_threshold=mask_threshold, min_side=min_side, max_side=max_side
            )
            halves.append((f"{name}: {len(instances)}", canvas))
    if kinds is not None and truth is not None and predictions is not None:
        canvas = draw_errors(image, truth, predictions, kinds, finds, min_side=min_side, max_side=max_side)
        right = sum(kind == RIGHT for kind in kinds)
        wrong = sum(kind not in (RIGHT, LEFT_OUT) for kind in kinds)
        halves.append((f"found {right}, missed {len(truth) - right}, wrong {wrong}", canvas))
    if not halves:
        halves = [("", scaled(image, min_side=min_side, max_side=max_side))]
    texts = [text for text, _ in halves]
    texts[0] = "  ".join(part for part in (caption, texts[0]) if part)
    columns: list[NDArray[np.uint8]] = []
    for text, (_, canvas) in zip(texts, halves, strict=True):
        if columns:
            columns.append(np.full((canvas.shape[0] + BAR, GAP, 3), BAR_COLOUR, dtype=np.uint8))
        columns.append(np.vstack([_bar(text, canvas.shape[1]), canvas]))
    return np.hstack(columns)


def draw_instances(
    image: NDArray[np.uint8],
    instances: Drawable,
    *,
    mask_threshold: float = 0.5,
    min_side: int = 0,
    max_side: int = 1024,
) -> NDArray[np.uint8]:
    """Draw each instance's outline, with a thin fill, over its image.

    Args:
        image: (H, W, 3) uint8 RGB.
        instances: of this image; those without masks are drawn as their boxes.
        mask_threshold: where soft masks become pixels.
        min_side: as in ``truth_and_prediction``; 0 never enlarges.
        max_side: as in ``truth_and_prediction``.

    Returns:
        (H', W', 3) uint8 RGB, without caption.

    Raises:
        ValueError: image is not (H, W, 3) uint8, or its size is not the instances'.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    if image.shape[:2] != (instances.height, instances.width):
        raise ValueError(
            f"image is {image.shape[:2]}, its instances are on {(instances.height, instances.width)}"
        )
    canvas = scaled(image, min_side=min_side, max_side=max_side)
    height, width = canvas.shape[:2]
    outlines = [
        outline(instances, row, height=height, width=width, mask_threshold=mask_threshold)
        for row in range(len(instances))
    ]
    filled = canvas.copy()
    for row, contours in enumerate(outlines):
        cv2.drawContours(filled, contours, -1, PALETTE[row % len(PALETTE)], thickness=cv2.FILLED)
    canvas = np.asarray(cv2.addWeighted(filled, FILL, canvas, 1.0 - FILL, 0.0), dtype=np.uint8)
    thickness = 2 if max(height, width) >= THICK_FROM else 1
    for row, contours in enumerate(outlines):
        cv2.drawContours(canvas, contours, -1, PALETTE[row % len(PALETTE)], thickness, cv2.LINE_AA)
    return canvas


def draw_errors(
    image: NDArray[np.uint8],
    truth: Drawable,
    predictions: Drawable,
    kinds: Sequence[str],
    finds: Sequence[int] | NDArray[np.int64],
    *,
    min_side: int = 0,
    max_side: int = 1024,
) -> NDArray[np.uint8]:
    """Draw what is found (blue), missed (yellow, thick) and wrong (orange) over the darkened grey image.

    Args:
        image, truth, predictions, kinds, finds, min_side, max_side: as for ``truth_and_prediction``; crowds are no
            truths here.

    Returns:
        (H', W', 3) uint8 RGB, without caption.
    """
    canvas = scaled(image, min_side=min_side, max_side=max_side)
    height, width = canvas.shape[:2]
    grey = cv2.cvtColor(cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    canvas = np.asarray(grey * DIMMED, dtype=np.uint8)
    found = {int(number) for number in finds if number >= 0}
    thin = 2 if max(height, width) >= THICK_FROM else 1
    drawn = [(truth, row, MISSED_COLOUR, thin + 1) for row in range(len(truth)) if row not in found]
    drawn += [
        (
            predictions,
            row,
            FOUND_COLOUR if kind == RIGHT else WRONG_COLOUR,
            thin if kind == RIGHT else thin + 1,
        )
        for row, kind in enumerate(kinds)
        if kind != LEFT_OUT
    ]
    contours = [outline(which, row, height=height, width=width) for which, row, _, _ in drawn]
    filled = canvas.copy()
    for (_, _, colour, _), shape in zip(drawn, contours, strict=True):
        cv2.drawContours(filled, shape, -1, colour, thickness=cv2.FILLED)
    canvas = np.asarray(cv2.addWeighted(filled, FILL, canvas, 1.0 - FILL, 0.0), dtype=np.uint8)
    for (_, _, colour, thickness), shape in zip(drawn, contours, strict=True):
        cv2.drawContours(canvas, shape, -1, colour, thickness, cv2.LINE_AA)
    return canvas


def _size(image: NDArray[np.uint8], min_side: int, max_side: int) -> tuple[int, int]:
    """Height and width of the picture: whole-number enlargement, so that a pixel stays a square."""
    height, width = image.shape[:2]
    longer = max(height, width)
    if longer > max_side:
        return max(1, round(height * max_side / longer)), max(1, round(width * max_side / longer))
    factor = 1
    while longer * factor < min_side:
        factor += 1
    return height * factor, width * factor


def scaled(image: NDArray[np.uint8], *, min_side: int = 0, max_side: int = 1024) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) at the size that pictures of it have; a copy."""
    height, width = _size(image, min_side, max_side)
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image).copy()
    how = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=how), dtype=np.uint8)


def outline(
    instances: Drawable, row: int, *, height: int, width: int, mask_threshold: float = 0.5
) -> list[NDArray[np.int32]]:
    """One instance's contours (holes included) on the picture at another size: int32 (points, 1, 2), x and y."""
    if instances.masks is None:
        scale = np.array([width / instances.width, height / instances.height] * 2)
        x1, y1, x2, y2 = (np.asarray(instances.boxes[row]) * scale).round().astype(int)
        return [np.array([[[x1, y1]], [[x2 - 1, y1]], [[x2 - 1, y2 - 1]], [[x1, y2 - 1]]], dtype=np.int32)]
    one = instances.masks.take(np.array([row]))
    size = np.array([instances.height]), np.array([instances.width])
    mask = one.binarize(mask_threshold, *size).to_dense(0, instances.height, instances.width)
    picture = mask.astype(np.uint8)
    if picture.shape != (height, width):
        how = cv2.INTER_LINEAR if height < picture.shape[0] else cv2.INTER_NEAREST
        resized = cv2.resize(picture * 255, (width, height), interpolation=how)
        picture = (np.asarray(resized) > 127).astype(np.uint8)
    contours, _ = cv2.findContours(picture, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [np.asarray(contour, dtype=np.int32) for contour in contours]


def _bar(text: str, width: int) -> NDArray[np.uint8]:
    """A dark strip with a line of text, which shrinks rather than run over the edge."""
    bar = np.full((BAR, width, 3), BAR_COLOUR, dtype=np.uint8)
    plain = text.encode("ascii", "replace").decode("ascii")
    scale = 0.48
    (needed, _), _ = cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    scale *= min(1.0, (width - 12) / max(needed, 1))
    if scale > 0.2:
        cv2.putText(
            bar, plain, (6, BAR - 9), cv2.FONT_HERSHEY_SIMPLEX, scale, TEXT_COLOUR, 1, lineType=cv2.LINE_AA
        )
    return bar
