"""The gallery shows the very samples of the first epoch, and moves no draw of the training."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from hubmap_ml.training.mmdet.dataset import TrainingSamples, filter_images
from hubmap_ml.training.mmdet.gallery import gallery, pixels_of
from tests.detectors import mask_rcnn, vessels

RESIZE: dict[str, Any] = {"type": "Resize", "img_scale": (64, 64), "keep_ratio": True}


def samples(folder: Path, steps: list[dict[str, Any]], count: int = 5) -> TrainingSamples:
    annotations = vessels(folder, count)
    return TrainingSamples(annotations, filter_images(annotations).rows, folder, steps, 0)


@pytest.mark.parametrize("to_rgb", [True, False, None])
def test_pixels_are_those_of_the_file_whatever_normalised_them(tmp_path: Path, to_rgb: bool | None) -> None:
    steps = [RESIZE]
    if to_rgb is not None:
        steps.append(
            {"type": "Normalize", "mean": [90.0, 50.0, 20.0], "std": [5.0, 6.0, 7.0], "to_rgb": to_rgb}
        )
    shown = pixels_of(samples(tmp_path, steps)[(0, 1)])
    np.testing.assert_array_equal(shown, cv2.imread(str(tmp_path / "tile_1.png"))[..., ::-1])


def test_a_grid_holds_each_sample_with_its_truth_drawn(tmp_path: Path) -> None:
    drawn = samples(tmp_path, [RESIZE])
    picture = gallery(drawn, 5)
    assert picture.shape == (2 * 64, 3 * 64, 3)
    first = picture[:64, :64]
    plain = pixels_of(drawn[(0, 0)])
    inside = drawn[(0, 0)]["gt_masks"].masks.any(axis=0)
    assert (first != plain).any(axis=2)[inside].mean() > 0.5
    np.testing.assert_array_equal(picture[64:, 128:], 0)  # five of six places


def test_drawing_moves_no_generator_of_the_training(tmp_path: Path) -> None:
    made = samples(tmp_path, mask_rcnn()["train_pipeline"])
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    gallery(made)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    np.testing.assert_array_equal(gallery(made), gallery(made))
