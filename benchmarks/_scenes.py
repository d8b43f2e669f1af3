"""Truth and candidates as large as a real study's, for benchmarks: objects, and what a network says about them.

Fixed by the seed. A tile has about 15 true objects; most candidates are repetitions of them with noise in box, mask and
score, the rest is background with low scores.
"""

import numpy as np

from hubmap_ml.instances import (
    Annotations,
    Category,
    Images,
    Masks,
    PredictionSet,
    SoftMasks,
)
from hubmap_ml.instances.ragged import offsets_of

SIDE = 512
CROP = 28


def scene(
    tiles: int, *, candidates: int = 200, objects: float = 15.6, folds: int = 5, seed: int = 0
) -> tuple[Annotations, PredictionSet]:
    """Truth and candidates of ``tiles`` tiles of 512 x 512 pixels, one category.

    Args:
        candidates: a tile, before any filter; soft masks of 28 x 28.
        objects: true ones a tile, on average; at least one.
        folds: which the tiles belong to in turn.
    """
    rng = np.random.default_rng([seed, tiles, candidates])
    images = Images.build(
        ids=[f"tile_{k:05}" for k in range(tiles)], heights=SIDE, widths=SIDE, folds=np.arange(tiles) % folds,
        slides=[f"slide_{k % (2 * folds)}" for k in range(tiles)],
    )  # fmt: skip
    categories = (Category(1, "vessel"),)
    n_true = np.maximum(rng.poisson(objects, tiles), 1)
    of_truth = np.repeat(np.arange(tiles), n_true)
    centres = rng.uniform(20, SIDE - 20, (len(of_truth), 2))
    sizes = np.exp(rng.normal(np.log(55), 0.6, (len(of_truth), 1))) * rng.uniform(
        0.7, 1.4, (len(of_truth), 2)
    )
    boxes = np.clip(np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1), 0, SIDE)
    masks = SoftMasks.from_crops(_discs(rng, len(boxes), noise=0.0), boxes).binarize(0.5, SIDE, SIDE)
    truth = Annotations.from_bits(images, categories, of_truth, masks)
    solid = np.flatnonzero(masks.areas() > 0)
    if len(solid) < len(masks):
        truth = truth.take(solid)

    n = tiles * candidates
    tile = np.repeat(np.arange(tiles), candidates)
    first = offsets_of(n_true)[:-1]
    source = first[tile] + (rng.random(n) * n_true[tile]).astype(np.int64)
    about = rng.random(n) < 0.85
    box, size = boxes[source], np.tile(boxes[source, 2:] - boxes[source, :2], 2)
    quality = rng.beta(2, 2, n)
    found = box + rng.normal(0, 1, (n, 4)) * (0.22 * (1 - quality))[:, None] * size
    corner = rng.uniform(0, SIDE - 60, (n, 2))
    elsewhere = np.concatenate([corner, corner + rng.uniform(10, 60, (n, 2))], axis=1)
    found = np.clip(np.where(about[:, None], found, elsewhere), 0, SIDE)
    found = np.concatenate([np.minimum(found[:, :2], found[:, 2:] - 1), found[:, 2:]], axis=1)
    found = np.clip(found, 0, SIDE).astype(np.float32)
    scores = np.clip(np.where(about, quality + rng.normal(0, 0.15, n), rng.beta(1, 12, n)), 0.002, 0.999)
    order = np.lexsort((-scores, tile))
    soft = SoftMasks.from_crops(_discs(rng, n, noise=25.0), found[order])
    predictions = PredictionSet(
        images=images, categories=categories, offsets=offsets_of(np.full(tiles, candidates)), boxes=found[order],
        scores=scores[order].astype(np.float32), labels=np.zeros(n, np.int16), source=np.zeros(n, np.int16),
        masks=Masks.from_soft(soft),
    )  # fmt: skip
    return truth, predictions


def _discs(rng: np.random.Generator, count: int, *, noise: float) -> np.ndarray:
    """Soft discs (count, 28, 28) uint8 of different sizes, with noise in units of 1/255."""
    axis = (np.arange(CROP, dtype=np.float32) + 0.5) / CROP * 2 - 1
    radius = np.hypot(*np.meshgrid(axis, axis)).astype(np.float32)
    out = np.empty((count, CROP, CROP), np.uint8)
    for start in range(0, count, 10_000):
        stop = min(count, start + 10_000)
        reach = rng.uniform(0.75, 1.0, (stop - start, 1, 1)).astype(np.float32)
        values = 255 / (1 + np.exp((radius - reach) * 8))
        if noise:
            values += noise * rng.standard_normal(values.shape, dtype=np.float32)
        out[start:stop] = np.rint(np.clip(values, 0, 255))
    return out
