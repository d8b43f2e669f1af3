"""The eight symmetries are a group, reach boxes, masks and pixels alike, and are drawn uniformly."""

import numpy as np
import pytest
from scipy.stats import chisquare

from hubmap_ml.models.augmentations import D4
from hubmap_ml.models.augmentations.symmetries import COUNT, turned, turned_boxes
from tests.models.augmented import loaded

GRID = np.arange(12).reshape(3, 4)


def test_they_are_eight_and_closed() -> None:
    square = np.arange(9).reshape(3, 3)
    all_of_them = {turned(square, number).tobytes() for number in range(COUNT)}
    assert len(all_of_them) == COUNT
    for a in range(COUNT):
        assert {turned(turned(square, a), b).tobytes() for b in range(COUNT)} == all_of_them


@pytest.mark.parametrize("number", range(COUNT))
def test_a_box_goes_where_its_pixels_go(number: int) -> None:
    height, width = 7, 11
    box = np.array([[2, 1, 9, 4]], np.float32)
    mask = np.zeros((height, width), np.uint8)
    mask[1:4, 2:9] = 1
    rows, columns = np.nonzero(turned(mask, number))
    expected = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
    assert turned_boxes(box, number, height, width).tolist() == expected
    np.testing.assert_array_equal(turned(np.stack([mask]), number, axes=(1, 2))[0], turned(mask, number))


def test_each_symmetry_is_as_likely_as_the_others() -> None:
    step = D4()
    step.set_random_state(np.random.default_rng(69), None)  # type: ignore[arg-type]
    known = {turned(loaded()["img"], number).tobytes(): number for number in range(COUNT)}
    counts = np.zeros(COUNT)
    for _ in range(800):
        counts[known[step(loaded())["img"].tobytes()]] += 1
    assert chisquare(counts).pvalue > 1e-3


def test_the_crowd_and_the_scale_turn_too() -> None:
    step = D4()
    for seed in range(20):
        step.set_random_state(np.random.default_rng(seed), None)  # type: ignore[arg-type]
        before = {**loaded(80, 100), "scale_factor": np.array([2, 3, 2, 3], np.float32)}
        marked = before["img"].copy()
        marked[60:90, 5:25] = 255
        results = step({**before, "img": marked})
        x1, y1, x2, y2 = results["gt_bboxes_ignore"][0].astype(int)
        assert (results["img"][y1:y2, x1:x2] == 255).all()
        wide = results["img"].shape[1] == 100
        assert results["scale_factor"].tolist() == ([2, 3, 2, 3] if wide else [3, 2, 3, 2])
