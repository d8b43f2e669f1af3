"""What holds for each of our steps: boxes bound their masks, draws follow the seed alone, mistakes are one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubmap_ml.models import TrainPipeline
from hubmap_ml.spec import InputError
from hubmap_ml.spec.member_config import TEST_REFUSED
from hubmap_ml.training.mmdet.dataset import TrainingSamples, filter_images
from tests.detectors import NORMALISE, vessels
from tests.models.augmented import bounds, drawn, loaded

STEPS: list[dict[str, Any]] = [
    {"type": "D4"},
    {"type": "FlipPaste", "prob": 0.5},
    {"type": "FlipPaste", "prob": 1.0, "direction": "vertical"},
    {"type": "RandomTile", "size": (50, 60)},
    {"type": "StainJitter", "sigma": 0.2},
]


@pytest.mark.parametrize("size", [(96, 96), (96, 120)], ids=["square", "wide"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step["type"])
def test_a_box_is_the_bound_of_its_mask(step: dict[str, Any], size: tuple[int, int]) -> None:
    """Also by the step alone, before the pipeline tightens them; a tile cuts boxes as it cuts the image."""
    pipeline = TrainPipeline([step])
    (own,) = pipeline._compose.transforms
    count = 0
    for sample in drawn(pipeline, 2, 24, size=size):
        count += 1
        assert len(sample["gt_bboxes"]) == len(sample["gt_labels"]) == len(sample["gt_masks"]) > 0
        for box, mask in zip(sample["gt_bboxes"], sample["gt_masks"].masks, strict=True):
            assert box.tolist() == bounds(mask)
            assert mask.shape == sample["img"].shape[:2] == sample["img_shape"][:2] == sample["pad_shape"][:2]
    assert count > 16
    if step["type"] != "RandomTile":
        results = own(loaded(*size))
        for box, mask in zip(results["gt_bboxes"], results["gt_masks"].masks, strict=True):
            assert box.tolist() == bounds(mask)


def test_each_is_refused_where_nothing_may_be_drawn() -> None:
    assert {step["type"] for step in STEPS} <= set(TEST_REFUSED)


def test_a_sample_depends_on_seed_epoch_and_number_alone(tmp_path: Path) -> None:
    truth = vessels(tmp_path, 3)
    steps = [
        {"type": "AutoAugment", "policies": [[{"type": "FlipPaste", "prob": 0.5}], [{"type": "D4"}]]},
        {"type": "RandomTile", "size": (48, 48), "min_visibility": 0.1},
        {"type": "StainJitter", "sigma": 0.1},
        {"type": "Normalize", **NORMALISE},
    ]

    def opened(seed: int) -> TrainingSamples:
        return TrainingSamples(truth, filter_images(truth).rows, tmp_path, steps, seed)

    once, again, other = opened(3), opened(3), opened(4)
    keys = [(epoch, number) for epoch in range(3) for number in range(3)]
    first = {key: once[key]["img"].numpy() for key in keys}
    for key in reversed(keys):  # another order, in an object of its own, as in another process
        np.testing.assert_array_equal(again[key]["img"].numpy(), first[key])
    assert any(not np.array_equal(other[key]["img"].numpy(), first[key]) for key in keys)
    assert any(not np.array_equal(first[0, number], first[1, number]) for number in range(3))


def test_steps_of_one_pipeline_draw_apart() -> None:
    pipeline = TrainPipeline([{"type": "D4"}, {"type": "D4"}])
    first, second = pipeline._drawing
    pipeline.reseed(1)
    assert first._draws.random(4).tolist() != second._draws.random(4).tolist()


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"type": "D4", "prob": 2}, "prob must be from 0 to 1, not 2"),
        ({"type": "FlipPaste", "direction": "diagonal"}, "direction must be horizontal or vertical"),
        ({"type": "RandomTile", "size": (0, 5)}, "size must be"),
        (
            {"type": "RandomTile", "size": (5, 5), "min_visibility": 25},
            "min_visibility must be from 0 to 1, not 25",
        ),
        ({"type": "StainJitter", "sigma": 1.0}, "sigma must be from 0 to under 1, not 1.0"),
    ],
)
def test_a_step_that_cannot_be_is_one_line(step: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        TrainPipeline([step])
    assert "\n" not in str(caught.value)
