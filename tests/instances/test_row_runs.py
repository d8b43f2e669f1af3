import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hubmap_ml.instances import BitMasks
from hubmap_ml.instances.crops import crop_of, from_crops
from hubmap_ml.instances.row_runs import from_row_runs, to_row_runs

MASKS = st.tuples(st.integers(1, 80), st.integers(1, 80)).flatmap(
    lambda size: arrays(np.bool_, size, elements=st.booleans(), fill=st.booleans())
)


def encode(mask):
    """The encoder that every Sartorius notebook holds."""
    pixels = np.concatenate([[0], mask.astype(np.uint8).flatten(), [0]])
    runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(str(x) for x in runs)


def decode(text, height, width):
    """The decoder that every Sartorius notebook holds."""
    numbers = np.asarray(text.split(), dtype=int)
    flat = np.zeros(height * width, np.uint8)
    for start, length in zip(numbers[0::2] - 1, numbers[1::2], strict=True):
        flat[start : start + length] = 1
    return flat.reshape(height, width).astype(bool)


@settings(deadline=None, max_examples=150)
@given(MASKS)
def test_texts_are_those_of_the_usual_encoder_and_come_back(mask):
    height, width = mask.shape
    bits = BitMasks.from_dense([mask])
    (text,) = to_row_runs(bits, height, width)
    assert text == encode(mask)
    back, (reason,) = from_row_runs([text], height, width)
    assert (reason is None) == bool(mask.any())
    assert np.array_equal(back.words, bits.words)
    assert np.array_equal(back.windows, bits.windows)
    if mask.any():
        assert np.array_equal(decode(text, height, width), back.to_dense(0, height, width))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no pixel"),
        ("  ", "no pixel"),
        ("3", "pairs"),
        ("1 2 3", "pairs"),
        ("0 4", "no whole number"),
        ("4 0", "no whole number"),
        ("-1 4", "no whole number"),
        ("1.5 4", "no whole number"),
        ("1 2x", "no whole number"),
        ("nan", "no whole number"),
        ("²  1", "no whole number"),
        ("100 2", r"beyond the image of 10 x 10"),
        ("1 101", "beyond"),
        ("1 99999999999999999999999999", "beyond"),
        ("99999999999999999999999999 1", "beyond"),
        ("1 3 3 2", "a pixel twice"),
        ("\ud800 1", "no whole number"),
    ],
)
def test_a_broken_text_is_named_and_its_neighbours_are_read(text, reason):
    masks, reasons = from_row_runs(["1 5", text, "96 5"], 10, 10)
    assert (reasons[0], reasons[2]) == (None, None)
    assert re.search(reason, reasons[1])
    assert masks.areas().tolist() == [5, 0, 5]
    assert masks.tight_boxes()[2].tolist() == [5, 9, 10, 10]


def test_runs_may_come_in_any_order_and_images_in_any_size():
    masks, reasons = from_row_runs(["8 2 1 2", "5 4"], [3, 5], [3, 7])
    assert reasons == [None, None]
    assert np.array_equal(masks.to_dense(0, 3, 3), np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1]], bool))
    assert to_row_runs(masks, [3, 5], [3, 7]) == ["1 2 8 2", "5 4"]


def test_nothing_is_nothing():
    assert from_row_runs([], 4, 4)[1] == []
    assert to_row_runs(BitMasks.empty(2), 4, 4) == ["", ""]


def test_a_mask_outside_its_image_is_refused():
    with pytest.raises(ValueError, match="outside"):
        to_row_runs(BitMasks.from_dense([np.ones((5, 5))]), 4, 5)


@settings(deadline=None, max_examples=80)
@given(MASKS, st.integers(0, 70), st.integers(0, 70))
def test_a_crop_gives_its_mask_back(mask, above, left):
    whole = np.pad(mask, ((above, 0), (left, 0)))
    bits = BitMasks.from_dense([whole, np.zeros((3, 3))])
    crops = [crop_of(bits, row) for row in range(2)]
    crop, x0, y0 = crops[0]
    again = np.zeros((y0 + crop.shape[0], x0 + crop.shape[1]), bool)
    again[y0:, x0:] = crop
    assert np.array_equal(np.argwhere(again), np.argwhere(whole))
    back = from_crops([c for c, _, _ in crops], [x for _, x, _ in crops], [y for _, _, y in crops])
    assert np.array_equal(back.words, bits.words)
    assert np.array_equal(back.windows, bits.windows)
    if mask.any():
        with pytest.raises(ValueError, match="multiple of 64"):
            from_crops([crop], [x0], [y0 + 1])
