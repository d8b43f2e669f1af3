"""Dice of the pixels of a category, whatever instances they belong to: the score of semantic segmentation.

An image's Dice of a category is 2 |P and T| / (|P| + |T|), with P the union of its predicted masks and T that of
its true ones; where both are empty it is 1. A category's Dice is the mean over the images (as HuBMAP's kidney
competition of 2021 scores), and the value the mean over the categories that have truths. What lies in a crowd
counts on neither side. Scores do not matter: what is predicted is counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.instances.compiled import compiled, count_ones
from hubmap_ml.metrics.pairing import pair_up


@dataclass(frozen=True, eq=False)
class DiceScore:
    """A score and what it is made of.

    Attributes:
        value: mean of ``per_category`` over the categories that have truths; NaN if none has.
        per_category: mean over the images; NaN for a category without truths.
        per_image: float64 (M, K), 1 where neither side has a pixel.
    """

    value: float
    per_category: Mapping[str, float]
    per_image: NDArray[np.float64]


def dice(truth: Annotations, predictions: PredictionSet) -> DiceScore:
    """Score predictions by the rule above.

    Images are those that both know; categories are matched by name. Soft masks are cut at 0.5.

    Raises:
        InputError: what ``pair_up`` refuses.
    """
    paired = pair_up(truth, predictions)
    truth = paired.truth
    n_labels = len(truth.categories)
    bits = truth.masks.bits
    pixels = union_pixels(
        np.ascontiguousarray(paired.masks.words), paired.masks.offsets, paired.masks.windows,
        paired.predictions.offsets, paired.labels.astype(np.int64), np.ascontiguousarray(bits.words), bits.offsets,
        bits.windows, truth.offsets, truth.labels.astype(np.int64), truth.iscrowd, n_labels,
    )  # fmt: skip
    total = pixels[:, :, 1] + pixels[:, :, 2]
    per_image = np.divide(2 * pixels[:, :, 0], total, out=np.ones(total.shape), where=total > 0)
    has_truth = np.bincount(truth.labels[~truth.iscrowd], minlength=n_labels) > 0
    per_label = np.where(has_truth, per_image.mean(axis=0), np.nan)
    return DiceScore(
        value=float(per_label[has_truth].mean()) if has_truth.any() else float("nan"),
        per_category={c.name: float(v) for c, v in zip(truth.categories, per_label, strict=True)},
        per_image=per_image,
    )


@compiled
def _unite(words: Any, offset: Any, window: Any, x0: Any, word0: Any, out: Any) -> None:
    for c in range(window[2]):
        for k in range(window[3]):
            out[window[0] + c - x0, window[1] + k - word0] |= words[offset + c * window[3] + k]


@compiled
def union_pixels(
    words: Any,
    word_offsets: Any,
    windows: Any,
    offsets: Any,
    labels: Any,
    true_words: Any,
    true_word_offsets: Any,
    true_windows: Any,
    true_offsets: Any,
    true_labels: Any,
    is_crowd: Any,
    n_labels: Any,
) -> Any:
    """Pixels of both unions, of the predicted and of the true one, int64 (M, K, 3); arrays as in ``BitMasks``."""
    n_images = len(offsets) - 1
    out = np.zeros((n_images, n_labels, 3), dtype=np.int64)
    for image in range(n_images):
        for label in range(n_labels):
            left, top, right, bottom = np.int64(1) << 40, np.int64(1) << 40, np.int64(0), np.int64(0)
            for i in range(offsets[image], offsets[image + 1]):
                if labels[i] == label and windows[i, 2] > 0:
                    left, top = min(left, windows[i, 0]), min(top, windows[i, 1])
                    right = max(right, windows[i, 0] + windows[i, 2])
                    bottom = max(bottom, windows[i, 1] + windows[i, 3])
            for i in range(true_offsets[image], true_offsets[image + 1]):
                if true_labels[i] == label and true_windows[i, 2] > 0:
                    left, top = min(left, true_windows[i, 0]), min(top, true_windows[i, 1])
                    right = max(right, true_windows[i, 0] + true_windows[i, 2])
                    bottom = max(bottom, true_windows[i, 1] + true_windows[i, 3])
            if right == 0:
                continue
            found = np.zeros((right - left, bottom - top), dtype=np.uint64)
            target = np.zeros((right - left, bottom - top), dtype=np.uint64)
            crowd = np.zeros((right - left, bottom - top), dtype=np.uint64)
            for i in range(offsets[image], offsets[image + 1]):
                if labels[i] == label:
                    _unite(words, word_offsets[i], windows[i], left, top, found)
            for i in range(true_offsets[image], true_offsets[image + 1]):
                if true_labels[i] == label:
                    union = crowd if is_crowd[i] else target
                    _unite(true_words, true_word_offsets[i], true_windows[i], left, top, union)
            for c in range(right - left):
                for k in range(bottom - top):
                    outside = ~crowd[c, k]
                    out[image, label, 0] += count_ones(found[c, k] & target[c, k] & outside)
                    out[image, label, 1] += count_ones(found[c, k] & outside)
                    out[image, label, 2] += count_ones(target[c, k] & outside)
    return out
