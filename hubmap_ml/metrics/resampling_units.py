"""What a bootstrap draws: blocks of neighbouring tiles inside a slide, or whole slides.

Neighbouring tiles resemble each other (the same vessel, the same stain, the same annotator on the same day), so a draw
of single tiles would find the score more certain than it is. Blocks are drawn in their place, each slide's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Images

BLOCK_SIDES = (4, 3, 2, 1)
"""Sides of blocks that are tried, in tiles; the first is that of folds by blocks."""

BLOCKS_A_SLIDE = 4
"""A slide with fewer blocks is cut into smaller ones."""

ENOUGH_FREEDOM = 15
"""Blocks less slides; where all slides together give fewer, smaller blocks are tried on all of them."""


@dataclass(frozen=True, eq=False)
class Units:
    """What is drawn with replacement: M images in U units in strata; a draw has as many units of a stratum as it holds.

    Attributes:
        of_image: int64 (M,), units are numbered stratum by stratum.
        strata: int64 (U,), the stratum of each unit, ascending.
        words: what they are.
    """

    of_image: NDArray[np.int64]
    strata: NDArray[np.int64]
    words: str

    def __len__(self) -> int:
        return len(self.strata)

    @property
    def freedom(self) -> int:
        """Units less strata: how many numbers the spread is known from."""
        return len(self.strata) - len(np.unique(self.strata))


def blocks_in_slides(images: Images) -> Units:
    """Return spatial blocks, drawn slide by slide.

    A tile belongs to the block of its centre. Blocks are squares of four tiles a side, and smaller where a slide has
    fewer than ``BLOCKS_A_SLIDE`` of them or all together leave too little freedom; at the last they are single tiles.
    An image without a position is a block of its own. Slides of a single block are drawn together, and so is
    everything where no slide is known.
    """
    for skipped in range(len(BLOCK_SIDES)):
        units = _blocks(images, BLOCK_SIDES[skipped:])
        if units.freedom >= ENOUGH_FREEDOM:
            return units
    return _blocks(images, ())


def _blocks(images: Images, sides: Sequence[int]) -> Units:
    slides, slide_of = np.unique(images.slides.astype(str), return_inverse=True)
    names = np.empty((len(images), 3), np.int64)  # stratum, and the block's two numbers in it
    blocked = False
    for number in range(len(slides)):
        rows = np.flatnonzero(slide_of == number)
        cells = _cells(images.take(rows), sides) if slides[number] else None
        blocked |= cells is not None
        single = np.stack([np.full(len(rows), -1), rows], 1)
        names[rows] = np.column_stack([np.full(len(rows), number), single if cells is None else cells])
        if len(np.unique(names[rows], axis=0)) == 1:
            names[rows] = len(slides), number, -1
    blocks, of_image = np.unique(names, axis=0, return_inverse=True)
    known = sum(1 for name in slides if name)
    what = f"{len(blocks)} {'blocks of neighbouring tiles' if blocked else 'images'}"
    where = f" on {known} {'slide' if known == 1 else 'slides'}" if known else ""
    return Units(of_image.reshape(-1), blocks[:, 0], what + where)


def whole_slides(images: Images) -> Units:
    """Return slides as units, drawn together; images of no known slide are one slide."""
    slides, of_image = np.unique(images.slides.astype(str), return_inverse=True)
    return Units(of_image.reshape(-1), np.zeros(len(slides), np.int64), f"{len(slides)} slides")


def _cells(images: Images, sides: Sequence[int]) -> NDArray[np.int64] | None:
    """Block row and column of each image of a slide (M, 2); None where only single images give blocks enough."""
    if (images.positions < 0).any():
        return None
    tile = int(max(images.heights.max(), images.widths.max()))
    for side in sides:
        cells = images.cells(side * tile)
        if len(np.unique(cells, axis=0)) >= BLOCKS_A_SLIDE:
            return cells
    return None
