"""The named augmentation sets keep boxes on their masks, draw policies uniformly, and repeat themselves by seed."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from hubmap_ml.models import TrainPipeline
from hubmap_ml.spec import InputError
from hubmap_ml.spec.augmentation_sets import augmentation_names, augmentation_set, square_train_pipeline
from hubmap_ml.training.mmdet.draws import SAMPLE, own_draws
from tests.models.augmented import bounds, drawn


@pytest.mark.parametrize("name", augmentation_names())
def test_a_box_is_the_bound_of_its_mask(name: str) -> None:
    steps = [step for step in square_train_pipeline(128, name) if step["type"] != "Normalize"]
    count = 0
    for sample in drawn(TrainPipeline(steps), 1, 40):
        assert len(sample["gt_bboxes"]) == len(sample["gt_labels"]) == len(sample["gt_masks"]) > 0
        for box, mask in zip(sample["gt_bboxes"], sample["gt_masks"].masks, strict=True):
            assert box.tolist() == bounds(mask)
            assert mask.shape == sample["img"].shape[:2]
        count += 1
    assert count > 35


@pytest.mark.parametrize(
    "step",
    [
        {"type": "Rotate", "prob": 1.0, "level": 10},
        {"type": "Shear", "prob": 1.0, "level": 8},
        {"type": "Translate", "prob": 1.0, "level": 2},
        {"type": "RandomCrop", "crop_size": (50, 50)},
        {"type": "MinIoURandomCrop", "min_ious": (0.4, 0.9), "min_crop_size": 0.3},
        {"type": "Albu", **{k: v for k, v in augmentation_set("heavy")[1].items() if k != "type"}},
    ],
    ids=lambda step: step["type"],
)
def test_a_step_alone_leaves_tight_boxes_too(step: dict[str, Any]) -> None:
    samples = list(drawn(TrainPipeline([step]), 2, 20))
    assert samples
    for sample in samples:
        for box, mask in zip(sample["gt_bboxes"], sample["gt_masks"].masks, strict=True):
            assert box.tolist() == bounds(mask)


@pytest.mark.parametrize("name", augmentation_names())
def test_each_policy_is_as_likely_as_the_others(name: str) -> None:
    pipeline = TrainPipeline(augmentation_set(name))
    (choice, _) = pipeline._compose.transforms
    counts = np.zeros(len(choice.transforms))
    for number in range(len(counts)):
        choice.transforms[number] = lambda results, number=number: number
    for sample in range(2000):
        with own_draws(69, SAMPLE, 0, sample, 0):
            counts[choice({})] += 1
    assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("name", ["light_equalize", "medium", "heavy"])
def test_a_seed_repeats_its_samples_and_another_gives_others(name: str) -> None:
    pipeline = TrainPipeline(square_train_pipeline(64, name))
    once, again, other = (list(drawn(pipeline, seed, 6)) for seed in (3, 3, 4))
    for one, two in zip(once, again, strict=True):
        np.testing.assert_array_equal(one["img"], two["img"])
        np.testing.assert_array_equal(one["gt_masks"].masks, two["gt_masks"].masks)
    assert any(not np.array_equal(one["img"], two["img"]) for one, two in zip(once, other, strict=False))


def test_a_set_is_the_askers_to_change() -> None:
    augmentation_set("medium")[0]["policies"].clear()
    assert len(augmentation_set("medium")[0]["policies"]) == 7


def test_an_unknown_set_is_named_with_those_there_are() -> None:
    with pytest.raises(InputError, match="'strong' is unknown; there are light_equalize, light_colour"):
        augmentation_set("strong")
