import numpy as np
import pytest
from hypothesis import given, settings

from hubmap_ml.instances import BITS, SOFT, BitMasks, Masks, SoftMasks
from tests.instances.examples import random_masks, random_soft, same, seeds


@settings(deadline=None, max_examples=60)
@given(seeds)
def test_binarising_keeps_the_order_and_leaves_bits_alone(seed):
    rng = np.random.default_rng(seed)
    height, width, count = (int(v) for v in rng.integers(1, 90, 3))
    masks = random_masks(rng, count % 12, height, width)
    bits = masks.binarize(0.4, height, width)
    assert len(bits) == len(masks)
    for row in range(len(masks)):
        if masks.kind[row] == BITS:
            assert same(bits.take([row]), masks.bits.take([masks.index[row]]))
        else:
            expected = masks.soft.take([masks.index[row]]).binarize(0.4, height, width)
            assert same(bits.take([row]), expected)


@settings(deadline=None, max_examples=60)
@given(seeds)
def test_taking_and_concatenating_mixed_rows(seed):
    rng = np.random.default_rng(seed)
    masks = random_masks(rng, 9, 30, 40)
    rows = rng.integers(0, 9, 6)
    taken = masks.take(rows)
    assert taken.kind.tolist() == masks.kind[rows].tolist()
    assert same(taken.binarize(0.5, 30, 40), masks.binarize(0.5, 30, 40).take(rows))
    parts = [masks.take(np.arange(4)), Masks.empty(), masks.take(np.arange(4, 9))]
    assert same(Masks.concatenate(parts), masks)


def test_thresholds_of_each_row():
    rng = np.random.default_rng(5)
    masks = random_masks(rng, 8, 60, 60)
    thresholds = rng.uniform(0.2, 0.8, 8)
    bits = masks.binarize(thresholds, np.full(8, 60), 60)
    for row in range(8):
        assert same(bits.take([row]), masks.take([row]).binarize(thresholds[row], 60, 60))


def test_bits_are_not_looked_at_when_there_is_nothing_to_cut():
    bits = BitMasks.from_dense([np.ones((3, 3), bool)])
    assert Masks.from_bits(bits).binarize(0.5, 3, 3) is bits
    assert Masks.from_bits(bits).all_bits
    assert not Masks.from_soft(random_soft(np.random.default_rng(0), 1, 5, 5)).all_bits


def test_rows_that_do_not_count_through_are_refused():
    bits = BitMasks.from_dense([np.ones((3, 3), bool)] * 2)
    with pytest.raises(ValueError, match="in order"):
        Masks(np.full(2, BITS, np.uint8), np.array([1, 0]), SoftMasks.empty(), bits)
    with pytest.raises(ValueError, match="in order|unknown kind"):
        Masks(np.full(1, SOFT, np.uint8), np.array([0]), SoftMasks.empty(), bits)
