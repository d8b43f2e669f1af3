"""Small scenes for scores: rectangles whose overlaps can be counted by hand, and random ones full of ties."""

import numpy as np

from hubmap_ml.instances import Annotations, BitMasks, Category, Images, Instances, Masks, PredictionSet

VESSEL, DUCT = Category(7, "vessel"), Category(2, "duct")  # ids that do not ascend


def bar(first, stop, *, row=0, height=4, width=100):
    """A mask of the pixels [first, stop) of one image row: IoUs are quotients one can do in the head."""
    out = np.zeros((height, width), bool)
    out[row, first:stop] = True
    return out


def images(count, *, height=4, width=100, original_ids=None):
    return Images.build(
        ids=[f"tile {k}" for k in range(count)], heights=height, widths=width, original_ids=original_ids
    )


def truth_of(masks, *, labels=None, iscrowd=None, categories=(VESSEL,), original_ids=None):
    """Annotations from the masks of each image."""
    return Annotations.from_dense(
        images(len(masks), original_ids=original_ids), categories, masks, labels=labels, iscrowd=iscrowd
    )


def predicted(found, *, categories=(VESSEL,), original_ids=None, height=4, width=100):
    """Predictions from, for each image, a list of (mask, score) or (mask, score, label)."""
    instances = []
    for some in found:
        bits = BitMasks.from_dense([one[0] for one in some])
        instances.append(
            Instances.build(
                bits.tight_boxes(),
                [one[1] for one in some],
                np.array([one[2] if len(one) > 2 else 0 for one in some], dtype=int),
                masks=Masks.from_bits(bits),
                height=height,
                width=width,
            )
        )
    table = images(len(found), height=height, width=width, original_ids=original_ids)
    return PredictionSet.from_instances(table, categories, instances)


def random_scene(rng, *, count=4, crowds=False, n_categories=1, side=24, most_truths=5, most_found=9):
    """Truth and predictions of few, large, overlapping rectangles: many equal IoUs, scores in tenths, empty images."""
    categories = (VESSEL, DUCT)[:n_categories]

    def rectangle():
        out = np.zeros((side, side), bool)
        (y0, y1), (x0, x1) = (
            np.sort(rng.choice(np.arange(0, side + 1, 4), 2, replace=False)) for _ in range(2)
        )
        out[y0:y1, x0:x1] = True
        return out

    table = images(count, height=side, width=side, original_ids=rng.permutation(100)[:count].tolist())
    masks = [[rectangle() for _ in range(rng.integers(0, most_truths))] for _ in range(count)]
    truth = Annotations.from_dense(
        table,
        categories,
        masks,
        labels=[rng.integers(0, n_categories, len(some)) for some in masks],
        iscrowd=[rng.random(len(some)) < (0.25 if crowds else 0) for some in masks],
    )
    instances = []
    for some in masks:
        n = int(rng.integers(0, most_found))
        found = [
            some[rng.integers(len(some))] if some and rng.random() < 0.5 else rectangle() for _ in range(n)
        ]
        bits = BitMasks.from_dense(found)
        scores = rng.choice([0.1, 0.3, 0.3, 0.5, 0.9], n)
        labels = rng.integers(0, n_categories, n)
        masks_of = Masks.from_bits(bits)
        instances.append(
            Instances.build(bits.tight_boxes(), scores, labels, masks=masks_of, height=side, width=side)
        )
    return truth, PredictionSet.from_instances(table, categories, instances)
