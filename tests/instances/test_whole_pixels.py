"""Crops on whole pixels are decided without sampling, and to the same pixels."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.instances import SoftMasks
from hubmap_ml.instances.paste import paste_words
from hubmap_ml.instances.whole_pixels import on_whole_pixels

HEIGHT, WIDTH = 150, 90


def crops(rng, count=6):
    """Crops of one value a pixel, somewhere in the image; some without a pixel."""
    x0, y0 = rng.integers(0, WIDTH, count), rng.integers(0, HEIGHT, count)
    x1, y1 = rng.integers(x0, WIDTH + 1), rng.integers(y0, HEIGHT + 1)
    boxes = np.stack([x0, y0, x1, y1], axis=1).astype(np.float32)
    return SoftMasks.from_crops(
        [rng.integers(0, 256, (b - t, r - left)).astype(np.uint8) for left, t, r, b in boxes.astype(int)],
        boxes,
    )


@given(seed=st.integers(0, 2**31), thresholds=st.lists(st.floats(0.02, 1), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_the_pixels_are_those_of_sampling(seed, thresholds):
    soft = crops(np.random.default_rng(seed))
    sizes = np.full(len(soft), HEIGHT), np.full(len(soft), WIDTH)
    assert on_whole_pixels(soft.shapes, soft.boxes, *sizes)
    found = soft.paste_many(thresholds, HEIGHT, WIDTH)
    limits = np.tile(np.float32(thresholds), (len(soft), 1))
    sampled = paste_words(soft.values, soft.offsets, soft.shapes, soft.boxes, limits, *sizes)
    clear = [np.abs(np.arange(256) / 255 - threshold).min() > 1e-4 for threshold in thresholds]
    for t, threshold in enumerate(thresholds):
        for k in range(len(soft)):
            x0, y0, x1, y1 = soft.boxes[k].astype(int)
            expected = np.zeros((HEIGHT, WIDTH), bool)
            expected[y0:y1, x0:x1] = soft.crop(k) / np.float32(255) >= np.float32(threshold)
            assert np.array_equal(found[t].to_dense(k, HEIGHT, WIDTH), expected)
            if clear[t]:
                row = k * len(thresholds) + t
                assert np.array_equal(found[t].windows[k], sampled[2][row])
                words = sampled[0][sampled[1][row] : sampled[1][row + 1]]
                assert np.array_equal(found[t].take([k]).words, words)


def test_a_value_of_exactly_the_threshold_is_in():
    soft = SoftMasks.from_crops([np.uint8([[152, 153, 154]])], [[3, 5, 6, 6]])
    assert soft.binarize(153 / 255, 9, 9).areas().tolist() == [2]
    assert soft.binarize(0.6, 9, 9).areas().tolist() == [2]


def test_crops_between_pixels_or_outside_are_sampled():
    sizes = np.array([HEIGHT]), np.array([WIDTH])
    for box, shape in (
        ([3, 4, 5, 6.5], [2, 2]),
        ([3, 4, 5, 6], [4, 4]),
        ([-1, 4, 1, 6], [2, 2]),
        ([89, 4, 91, 6], [2, 2]),
    ):
        assert not on_whole_pixels(np.int32([shape]), np.float32([box]), *sizes)
