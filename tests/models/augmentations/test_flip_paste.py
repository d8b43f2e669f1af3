"""Mixed with its mirror image, an image shows the instances of both."""

import numpy as np
import pytest

from hubmap_ml.models.augmentations import FlipPaste
from tests.models.augmented import loaded


@pytest.mark.parametrize(("direction", "axis"), [("horizontal", 1), ("vertical", 0)])
def test_pixels_are_the_mean_and_instances_are_doubled(direction: str, axis: int) -> None:
    before = loaded(80, 100)
    after = FlipPaste(1.0, direction)(loaded(80, 100))
    mean = (before["img"].astype(float) + np.flip(before["img"], axis)) / 2
    assert after["img"].dtype == np.uint8
    assert abs(after["img"] - mean).max() <= 0.5
    masks = before["gt_masks"].masks
    np.testing.assert_array_equal(after["gt_masks"].masks, np.concatenate([masks, np.flip(masks, axis + 1)]))
    assert after["gt_labels"].tolist() == [0, 1, 2, 3] * 2
    np.testing.assert_array_equal(after["gt_bboxes"][:4], before["gt_bboxes"])
    assert len(after["gt_bboxes_ignore"]) == 2


def test_it_happens_as_often_as_said_and_to_the_classes_named() -> None:
    step = FlipPaste(0.3)
    step.set_random_state(np.random.default_rng(0), None)  # type: ignore[arg-type]
    count = sum(len(step(loaded())["gt_labels"]) == 8 for _ in range(400))
    assert 90 < count < 150  # 120 expected, deviation 9
    assert len(FlipPaste(1.0, labels=(0, 1))(loaded())["gt_labels"]) == 4
    assert len(FlipPaste(1.0, labels=(0, 1, 2, 3))(loaded())["gt_labels"]) == 8
