"""Folds of spatial blocks: a slide is cut into squares, and the tiles of a square stay together."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data.places import near_pairs
from hubmap_ml.instances import Images
from hubmap_ml.spec import InputError

TILES_PER_BLOCK_SIDE = 4  # where the experiment names no block size


def spatial_blocks(
    images: Images, labels: NDArray[Any], n: int, seed: int | None, *, block: int | None
) -> NDArray[np.int16]:
    """Folds made of whole square blocks, with as equal numbers of images as whole blocks allow.

    A tile belongs to the block of its centre. Blocks go, the fullest first, into the fold that has the fewest images;
    of equal folds into the one with the fewest of that slide. No fold then has more images than another by more
    than the fullest block holds.

    Args:
        images: those to split, N rows.
        labels: (N,) the slide of each; blocks of two slides are never one.
        n: number of folds.
        seed: shuffles blocks of equal size; None keeps them by slide and place.
        block: side in pixels of the slide; None is four times the longest side of a tile.

    Returns:
        (N,) int16.

    Raises:
        InputError: an image without slide or position, a block smaller than a tile, fewer blocks than folds.
    """
    unknown = np.flatnonzero((images.positions < 0).any(axis=1) | (labels == ""))
    if len(unknown):
        raise InputError(
            f"folds: {len(unknown)} of {len(images)} images have no slide or no position (i, j), the first is "
            f"{images.ids[unknown[0]]!r}: spatial_blocks needs both, use another folds.method"
        )
    longest = int(max(images.heights.max(initial=0), images.widths.max(initial=0)))
    side = TILES_PER_BLOCK_SIDE * longest if block is None else block
    if side < longest:
        raise InputError(
            f"folds: a block of {side} pixels is smaller than a tile of {longest}: raise folds.block"
        )
    cells = images.cells(side)
    slides, slide = np.unique(labels.astype(str), return_inverse=True)
    blocks, block_of, counts = np.unique(
        np.column_stack([slide, cells]), axis=0, return_inverse=True, return_counts=True
    )
    if len(blocks) < n:
        raise InputError(
            f"folds: {len(images)} images lie in {len(blocks)} blocks of {side} pixels, too few for {n} folds: "
            f"lower folds.block or folds.n"
        )
    order = np.arange(len(blocks)) if seed is None else np.random.default_rng(seed).permutation(len(blocks))
    order = order[np.argsort(-counts[order], kind="stable")]
    totals = np.zeros(n, np.int64)
    of_slide = np.zeros((len(slides), n), np.int64)
    fold_of = np.zeros(len(blocks), np.int16)
    for number in order:
        on = blocks[number, 0]
        fold = int(np.lexsort((of_slide[on], totals))[0])
        fold_of[number] = fold
        totals[fold] += counts[number]
        of_slide[on, fold] += counts[number]
    return np.asarray(fold_of[block_of.reshape(-1)], np.int16)


def count_across_folds(images: Images, *, buffer: int = 0) -> int:
    """How many images lie within ``buffer`` pixels of an image of another fold on their slide.

    Images in no fold are neither counted nor met: they are in every training set, which the leak report shows.
    """
    rows = np.flatnonzero(images.folds >= 0)
    pairs, _ = near_pairs(images, rows, rows, within=buffer)
    apart = images.folds[pairs[:, 0]] != images.folds[pairs[:, 1]]
    return len(np.unique(pairs[apart, 0]))
