"""Sets with decided pixels, and the same as dense arrays, for comparison with plain numpy, OpenCV and scikit-image."""

import numpy as np
from hypothesis import strategies as st

from hubmap_ml.instances import BitMasks, Category, Images, Instances, Masks, PredictionSet
from hubmap_ml.postprocess import apply_steps, parse_steps
from tests.instances.examples import dense_mask

CLASSES = (Category(1, "vessel"), Category(2, "glomerulus"), Category(5, "unsure"))

seeds = st.integers(0, 2**32 - 1)


def decided_set(seed, *, n_images=3, most=9, low=1, high=140):
    """Images of different sizes with 0 … ``most`` masks of all kinds, empty ones among them; scores with ties.

    Each image's instances stand by descending score; ``source`` counts them all.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(low, high, (n_images, 2))
    table = Images.build(ids=[f"image {k}" for k in range(n_images)], heights=sizes[:, 0], widths=sizes[:, 1])
    found = []
    for height, width in sizes.tolist():
        n = int(rng.integers(0, most + 1))
        bits = BitMasks.from_dense([dense_mask(rng, height, width) for _ in range(n)])
        found.append(
            Instances.build(
                bits.tight_boxes() + np.float32(0.25), rng.integers(1, 9, n) / 8, rng.integers(0, 3, n),
                masks=Masks.from_bits(bits), height=height, width=width,
            )
        )  # fmt: skip
    result = apply_steps(PredictionSet.from_instances(table, CLASSES, found), ())
    return result.replace(source=np.arange(len(result)))


def dense_masks(predictions):
    """Every instance's mask as (H, W) bool."""
    heights, widths = predictions.heights_of_instances(), predictions.widths_of_instances()
    bits = predictions.masks.bits
    return [bits.to_dense(i, int(heights[i]), int(widths[i])) for i in range(len(predictions))]


def stepped(predictions, **steps):
    """What named steps make of a set; ``None`` stands for a step's defaults."""
    return apply_steps(predictions, parse_steps([{name: value} for name, value in steps.items()]))


def with_masks(predictions, dense):
    """The set with other masks of the same sizes."""
    return predictions.replace(masks=Masks.from_bits(BitMasks.from_dense(dense)))


def same_sets(one, other):
    """Whether two sets hold the same instances, in the same order, to the bit."""
    fields = ("offsets", "boxes", "scores", "labels", "source")
    return (
        all(np.array_equal(getattr(one, name), getattr(other, name)) for name in fields)
        and np.array_equal(one.masks.bits.words, other.masks.bits.words)
        and np.array_equal(one.masks.bits.windows, other.masks.bits.windows)
        and np.array_equal(one.masks.bits.offsets, other.masks.bits.offsets)
    )
