"""Random images, truths and predictions for tests: objects, and detections scattered around them."""

import numpy as np

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

CATEGORIES = (Category(1, "vessel"), Category(2, "glomerulus"))


def images(count=3, *, height=96, width=128, n_folds=2, prefix="image"):
    return Images.build(
        ids=[f"{prefix}_{k}" for k in range(count)],
        heights=height,
        widths=width,
        folds=np.arange(count) % n_folds,
    )


def objects(rng, count, height, width):
    """Boxes (count, 4) of objects."""
    centre = rng.uniform(0, 1, (count, 2)) * [width, height]
    size = rng.uniform(0.08, 0.3, (count, 2)) * [width, height]
    return np.clip(
        np.concatenate([centre - size / 2, centre + size / 2], 1), 0, [width, height, width, height]
    )


def blobs(rng, count, side=14):
    """Crops (count, side, side) uint8: a soft disc with noise."""
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    radius = np.hypot(*np.meshgrid(axis, axis))
    soft = 1 / (1 + np.exp((radius - rng.uniform(0.6, 1.1, (count, 1, 1))) * 6))
    return np.round(np.clip(soft + rng.normal(0, 0.08, (count, side, side)), 0, 1) * 255).astype(np.uint8)


def detections(rng, boxes, count, height, width, *, labels=None, side=14, n_sources=1, bits=0.0, digits=None):
    """``count`` detections around the given boxes; a share ``bits`` of them with bit masks."""
    at = rng.integers(0, len(boxes), count)
    size = np.tile(boxes[at, 2:] - boxes[at, :2], 2)
    found = np.clip(boxes[at] + rng.normal(0, 0.08, (count, 4)) * size, 0, [width, height, width, height])
    found = np.concatenate([np.minimum(found[:, :2], found[:, 2:] - 1), found[:, 2:]], 1)
    found = np.clip(found, 0, None).astype(np.float32)
    scores = rng.uniform(0.002, 1, count)
    if digits is not None:
        scores = np.maximum(np.round(scores, digits), 10.0**-digits)
    order = np.argsort(-scores, kind="stable")
    masks = Masks.from_soft(SoftMasks.from_crops(blobs(rng, count, side), found))
    decided = rng.random(count) < bits
    if decided.any():
        pixels = masks.binarize(0.5, height, width)
        both = Masks.concatenate([masks, Masks.from_bits(pixels)])
        masks = both.take(np.where(decided, np.arange(count) + count, np.arange(count)))
    return Instances.build(
        found, scores, rng.integers(0, 2, count) if labels is None else labels[at], masks=masks, height=height,
        width=width, source=rng.integers(0, n_sources, count),
    ).take(order)  # fmt: skip


def predictions(seed, *, table=None, count=30, n_objects=6, objects_seed=None, **options):
    """A set of detections; equal ``objects_seed`` = the same objects behind them."""
    table = images() if table is None else table
    rng = np.random.default_rng(seed)
    found = []
    for row in range(len(table)):
        height, width = int(table.heights[row]), int(table.widths[row])
        scene = np.random.default_rng([0 if objects_seed is None else objects_seed, row])
        boxes = objects(scene, n_objects, height, width)
        labels = scene.integers(0, 2, n_objects)
        found.append(detections(rng, boxes, count, height, width, labels=labels, **options))
    names = tuple(f"source_{k}" for k in range(options.get("n_sources", 1)))
    return PredictionSet.from_instances(table, CATEGORIES, found, sources=names)


def truths(seed, *, table=None, n_objects=6, empty=()):
    """Elliptic truths of the objects that ``predictions(objects_seed=seed)`` scatters around."""
    table = images() if table is None else table
    dense, labels = [], []
    for row in range(len(table)):
        height, width = int(table.heights[row]), int(table.widths[row])
        scene = np.random.default_rng([seed, row])
        boxes = objects(scene, n_objects, height, width)
        kinds = scene.integers(0, 2, n_objects)
        y, x = np.mgrid[:height, :width] + 0.5
        masks = []
        for x0, y0, x1, y1 in boxes:
            masks.append(
                ((x - (x0 + x1) / 2) / max(x1 - x0, 1)) ** 2 + ((y - (y0 + y1) / 2) / max(y1 - y0, 1)) ** 2
                < 0.2
            )
        keep = [] if row in empty else [k for k in range(n_objects) if masks[k].any()]
        dense.append([masks[k] for k in keep])
        labels.append(kinds[keep])
    return Annotations.from_dense(table, CATEGORIES, dense, labels)


def same_masks(a: Masks, b: Masks) -> bool:
    """Whether two lists hold the same masks to the bit."""

    def parts(masks):
        soft, bits = masks.soft, masks.bits
        return (masks.kind, soft.values, soft.shapes, soft.boxes, bits.words, bits.windows)  # fmt: skip

    return all(np.array_equal(x, y) for x, y in zip(parts(a), parts(b), strict=True))


def empty_bits(count: int) -> Masks:
    return Masks.from_bits(BitMasks.empty(count))
