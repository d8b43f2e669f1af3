"""Examples of the core structures, drawn by hypothesis or from a seed, and comparison of structures field by field."""

import dataclasses

import numpy as np
from hypothesis import strategies as st

from hubmap_ml.instances import (
    Annotations,
    BitMasks,
    Category,
    Images,
    Instances,
    Masks,
    PredictionSet,
    SoftMasks,
)

CATEGORIES = (Category(1, "vessel"), Category(7, "glomerulus"))

seeds = st.integers(0, 2**32 - 1)


def same(one, two):
    """Whether two structures are equal in every field, types included."""
    if isinstance(one, np.ndarray):
        return isinstance(two, np.ndarray) and one.dtype == two.dtype and np.array_equal(one, two)
    if dataclasses.is_dataclass(one) and not isinstance(one, Category):
        return all(same(getattr(one, f.name), getattr(two, f.name)) for f in dataclasses.fields(one))
    return type(one) is type(two) and one == two


def dense_mask(rng, height, width):
    """A mask of one of the kinds that make trouble: empty, full, noise, a blob, single corner pixels, columns."""
    kind = rng.integers(0, 7)
    out = np.zeros((height, width), dtype=bool)
    if kind == 1:
        out[:] = True
    elif kind == 2:
        out = rng.random((height, width)) < rng.random()
    elif kind in (3, 4):
        y, x = np.mgrid[:height, :width]
        out = ((y - rng.uniform(0, height)) / rng.uniform(1, height)) ** 2 + (
            (x - rng.uniform(0, width)) / rng.uniform(1, width)
        ) ** 2 < 1
    elif kind == 5:
        out[0 if rng.random() < 0.5 else -1, 0 if rng.random() < 0.5 else -1] = True
    elif kind == 6:
        first, stop = np.sort(rng.integers(0, width + 1, 2))
        out[:, first:stop] = True
    return out


def random_images(rng, count, *, low=1, high=150, original_ids=None):
    return Images.build(
        ids=[f"tile {k}" for k in range(count)],
        heights=rng.integers(low, high, count),
        widths=rng.integers(low, high, count),
        original_ids=original_ids,
        file_names=[f"train/{k}.tif" for k in range(count)],
        datasets=rng.choice(["1", "2", ""], count).tolist() if count else [],
        slides="slide é",
        groups="g",
        splits="train",
        folds=rng.integers(-1, 5, count),
        positions=rng.integers(-1, 3000, (count, 2)),
    )


def random_soft(rng, count, height, width):
    corners = rng.uniform(-0.3, 1.3, (count, 2, 2)) * [width, height]
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    crops = [rng.random(rng.integers(1, 30, 2)) for _ in range(count)]
    return SoftMasks.from_crops(crops, boxes)


def random_masks(rng, count, height, width, kinds="mixed"):
    soft = Masks.from_soft(random_soft(rng, count, height, width))
    bits = Masks.from_bits(BitMasks.from_dense([dense_mask(rng, height, width) for _ in range(count)]))
    if kinds == "mixed":
        return Masks.concatenate([soft, bits]).take(rng.integers(0, 2, count) * count + np.arange(count))
    return soft if kinds == "soft" else bits


def random_instances(rng, count, height, width, *, kinds="mixed", scores=None):
    corners = rng.uniform(0, 1, (count, 2, 2)) * [width, height]
    return Instances.build(
        np.concatenate([corners.min(1), corners.max(1)], axis=1),
        rng.random(count) if scores is None else rng.choice(scores, count),
        rng.integers(0, len(CATEGORIES), count),
        masks=None if kinds is None else random_masks(rng, count, height, width, kinds),
        source=rng.integers(0, 3, count),
        height=height,
        width=width,
    )


def random_predictions(rng, images, *, kinds="mixed", most=6, scores=None):
    return PredictionSet.from_instances(
        images,
        CATEGORIES,
        [
            random_instances(
                rng,
                int(rng.integers(0, most)),
                int(images.heights[k]),
                int(images.widths[k]),
                kinds=kinds,
                scores=scores,
            )
            for k in range(len(images))
        ],
        sources=("none", "hflip", "vflip"),
        properties={"run": "abc"},
    )


def random_annotations(rng, images, *, most=5, crowds=True):
    counts = rng.integers(0, most, len(images))
    return Annotations.from_dense(
        images,
        CATEGORIES,
        [
            [dense_mask(rng, images.heights[k], images.widths[k]) for _ in range(count)]
            for k, count in enumerate(counts)
        ],
        labels=[rng.integers(0, len(CATEGORIES), count) for count in counts],
        iscrowd=[rng.random(count) < (0.2 if crowds else 0) for count in counts],
    )
