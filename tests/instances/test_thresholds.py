"""How numbers meet thresholds: the rules that instances/overlaps.py states, where they are easily broken."""

from fractions import Fraction

import numpy as np
import pytest

from hubmap_ml.fusion import box_iou_matrix, non_maximum_suppression
from hubmap_ml.instances import BitMasks, Instances, Masks, SoftMasks
from hubmap_ml.metrics import average_precision
from hubmap_ml.postprocess import apply_steps, parse_steps
from tests.random_scenes import images, predictions, truths

# overlaps that are thresholds people write: shared pixels, pixels of the union
WRITTEN = [(1, 10), (1, 5), (3, 10), (2, 5), (1, 2), (3, 5), (7, 10), (3, 4), (4, 5), (9, 10)]


def pair_of_strips(shared, union):
    """Two masks of one row with that overlap, and their boxes."""
    one, two = np.zeros((1, union), bool), np.zeros((1, union), bool)
    longer = shared + (union - shared) // 2
    one[0, :longer], two[0, longer - shared :] = True, True
    boxes = [[0, 0, longer, 1], [longer - shared, 0, union, 1]]
    assert (one & two).sum() == shared
    assert (one | two).all()
    return [one, two], boxes


@pytest.mark.parametrize("scale", [1, 7, 1000])
@pytest.mark.parametrize(("shared", "union"), WRITTEN)
@pytest.mark.parametrize("by", ["mask", "box"])
def test_an_overlap_that_is_the_threshold_suppresses_nothing_and_the_next_smaller_threshold_does(
    shared, union, scale, by
):
    masks, boxes = pair_of_strips(shared * scale, union * scale)
    bits = BitMasks.from_dense(masks)
    written = float(Fraction(shared, union))
    assert bits.iou_matrix()[0, 1] == box_iou_matrix(np.float32(boxes))[0, 1] == written
    pair = Instances.build(boxes, [0.9, 0.8], masks=Masks.from_bits(bits), height=1, width=union * scale)
    assert len(non_maximum_suppression(pair, iou_threshold=written, by=by)) == 2
    assert len(non_maximum_suppression(pair, iou_threshold=np.nextafter(written, 0), by=by)) == 1


def test_thresholds_of_some_of_these_overlaps_differ_in_single_precision():
    """Or the tests above could not fail."""
    assert any(np.float32(a / b) > a / b for a, b in WRITTEN)
    assert any(np.float32(a / b) < a / b for a, b in WRITTEN)


@pytest.mark.parametrize("written", [0.1, 0.2, 0.3, 0.4, 0.55, 0.6, 0.7, 0.9])
def test_a_score_that_is_the_threshold_stays(written):
    found = predictions(0, count=3)
    found = found.replace(scores=np.full(len(found), written, np.float32))
    assert len(apply_steps(found, parse_steps([{"score": written}]))) == len(found)
    above = float(np.nextafter(np.float32(written), np.float32(1)))
    assert len(apply_steps(found, parse_steps([{"score": above}]))) == 0


@pytest.mark.parametrize("level", range(1, 256, 9))
def test_a_probability_that_is_the_threshold_is_inside_however_it_is_written(level):
    crop = SoftMasks.from_crops([np.full((2, 2), level, np.uint8)], [[0, 0, 2, 2]])
    for threshold in (level / 255, np.float32(level) / np.float32(255)):
        assert crop.binarize(threshold, 2, 2).areas().tolist() == [4]


def test_a_truth_is_found_by_an_overlap_that_is_the_threshold():
    table = images(1, height=1, width=50)
    masks, boxes = pair_of_strips(30, 50)
    truth = truths(0, table=table, n_objects=1)
    truth = type(truth).from_dense(table, truth.categories, [[masks[0]]], [[0]])
    found = Instances.build(
        [boxes[1]], [0.5], [0], masks=Masks.from_bits(BitMasks.from_dense([masks[1]])), height=1, width=50
    )
    guess = predictions(0, table=table, count=1)
    guess = type(guess).from_instances(table, guess.categories, [found])
    assert average_precision(truth, guess, iou_threshold=0.6).value == 1
    assert average_precision(truth, guess, iou_threshold=np.nextafter(0.6, 1)).value == 0
