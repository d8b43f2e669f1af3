"""Where tiles lie on their slides: rectangles, and which of them touch or come near.

A tile's position ``i, j`` is its first pixel row and column on the slide, so that it covers rows ``i`` to
``i + height`` and columns ``j`` to ``j + width`` (half-open). Tiles of two slides are never near each other.
"""

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Images


def placed(images: Images) -> NDArray[np.bool_]:
    """For each image whether its slide and its position on it are known, (M,)."""
    return np.asarray((images.slides != "") & (images.positions >= 0).all(axis=1), np.bool_)


def near_pairs(
    images: Images,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    *,
    within: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of tiles of one slide that touch, overlap or lie at most ``within`` pixels apart.

    Args:
        first, second: rows of ``images``; those without a known place meet nothing, and no row meets itself.
        within: pixels; 0 is touching (corners too) or overlapping.

    Returns:
        (P, 2) int64 rows, one of ``first`` and one of ``second``, sorted; and their gaps (P,) int64 in pixels: the
        larger of the gaps along rows and columns, 0 touching, negative how deep they overlap.
    """
    known = placed(images)
    first, second = first[known[first]], second[known[second]]
    low = images.positions.astype(np.int64)
    high = low + np.stack([images.heights, images.widths], axis=1)
    pairs, gaps = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.int64)]
    for slide in sorted(set(images.slides[first]) & set(images.slides[second])):
        a, b = first[images.slides[first] == slide], second[images.slides[second] == slide]
        b = b[np.argsort(low[b, 0], kind="stable")]
        tallest = int((high[b, 0] - low[b, 0]).max())
        # Only tiles that start in the band of rows around `a` can be near; within it, all are compared.
        start = np.searchsorted(low[b, 0], low[a, 0] - tallest - within, side="left")
        stop = np.searchsorted(low[b, 0], high[a, 0] + within, side="right")
        counts = stop - start
        one = np.repeat(a, counts)
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        other = b[np.repeat(start, counts) + offsets]
        gap = np.maximum(low[one] - high[other], low[other] - high[one]).max(axis=1)
        near = (gap <= within) & (one != other)
        pairs.append(np.stack([one[near], other[near]], axis=1))
        gaps.append(gap[near])
    found, distances = np.concatenate(pairs), np.concatenate(gaps)
    order = np.lexsort((found[:, 1], found[:, 0]))
    return found[order], distances[order]
