"""Member pipelines run on arrays; the platform's own steps in them are passed over."""

import copy
from typing import Any

import numpy as np
import pytest
from mmdet.core import BitmapMasks

from hubmap_ml.models import TestPipeline, TrainPipeline
from hubmap_ml.spec import InputError
from tests.detectors import NORMALISE, mask_rcnn


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def loaded(image: np.ndarray) -> dict[str, Any]:
    masks = np.zeros((1, *image.shape[:2]), np.uint8)
    masks[0, 5:15, 10:30] = 1
    return {
        "img": image.copy(),
        "img_fields": ["img"],
        "gt_bboxes": np.array([[10, 5, 30, 15]], np.float32),
        "gt_labels": np.zeros(1, np.int64),
        "gt_masks": BitmapMasks(masks, *image.shape[:2]),
        "bbox_fields": ["gt_bboxes"],
        "mask_fields": ["gt_masks"],
        "seg_fields": [],
    }


def test_an_image_is_resized_normalised_as_rgb_and_padded() -> None:
    image = picture()
    tensor, meta = TestPipeline(mask_rcnn()["test_pipeline"])(image)
    assert tensor.shape == (3, 64, 64)
    assert tensor.dtype == np.float32
    assert meta["ori_shape"] == (40, 60, 3)
    assert meta["img_shape"] == (43, 64, 3)
    assert meta["pad_shape"] == (64, 64, 3)
    np.testing.assert_allclose(meta["scale_factor"], [64 / 60, 43 / 40, 64 / 60, 43 / 40], rtol=1e-6)
    # Red stands first, as the mean and deviation say.
    red = np.full((40, 60, 3), (200, 0, 0), np.uint8)
    tensor, _ = TestPipeline(mask_rcnn()["test_pipeline"])(red)
    expected = (np.array([200, 0, 0]) - NORMALISE["mean"]) / NORMALISE["std"]
    np.testing.assert_allclose(tensor[:, 10, 10], expected, rtol=1e-5)


def test_flat_and_wrapped_test_pipelines_are_the_same() -> None:
    wrapped = mask_rcnn()["test_pipeline"]
    flat = [
        {"type": "Resize", "img_scale": (64, 64), "keep_ratio": True},
        {"type": "Normalize", **NORMALISE},
        {"type": "Pad", "size_divisor": 32},
    ]
    a, b = TestPipeline(wrapped)(picture()), TestPipeline(flat)(picture())
    np.testing.assert_array_equal(a[0], b[0])
    assert a[1]["pad_shape"] == b[1]["pad_shape"]


def test_a_scale_replaces_the_pipelines_own() -> None:
    for steps in (
        mask_rcnn()["test_pipeline"],
        [{"type": "Resize", "img_scale": (64, 64), "keep_ratio": True}],
    ):
        tensor, _ = TestPipeline(steps, scale=(96, 96))(picture())
        assert tensor.shape[2] == 96


def test_a_pipeline_without_resizing_leaves_the_scale_at_one() -> None:
    _, meta = TestPipeline([{"type": "Normalize", **NORMALISE}])(picture())
    np.testing.assert_array_equal(meta["scale_factor"], np.ones(4))
    assert meta["img_shape"] == meta["pad_shape"] == (40, 60, 3)


def test_several_scales_are_refused() -> None:
    several = [(64, 64), (96, 96)]
    with pytest.raises(InputError, match="scales are the experiment's"):
        TestPipeline([{"type": "Resize", "img_scale": several, "keep_ratio": True}])
    with pytest.raises(InputError, match="one img_scale"):
        TestPipeline([{"type": "MultiScaleFlipAug", "img_scale": several, "transforms": []}])


def test_unknown_steps_and_arguments_are_one_line() -> None:
    with pytest.raises(InputError, match=r"train_pipeline cannot be built.*Sharpen"):
        TrainPipeline([{"type": "Sharpen"}])
    with pytest.raises(InputError, match=r"test_pipeline cannot be built.*strength"):
        TestPipeline([{"type": "Pad", "strength": 3}])


def test_a_pipeline_leaves_its_description_as_it_was() -> None:
    steps = mask_rcnn()["train_pipeline"]
    before = copy.deepcopy(steps)
    TrainPipeline(steps)(loaded(picture()))
    assert steps == before


def test_a_quarter_turn_by_albumentations_leaves_true_shapes() -> None:
    steps = [step for step in mask_rcnn()["train_pipeline"] if step["type"] == "Albu"]
    steps[0]["transforms"] = [{"type": "RandomRotate90", "p": 1.0}]
    pipeline = TrainPipeline(steps)
    shapes = set()
    for seed in range(8):
        pipeline.reseed(seed)
        results = pipeline(loaded(picture()))
        assert results is not None
        assert results["pad_shape"] == results["img_shape"] == results["img"].shape
        assert results["gt_masks"].masks.shape[1:] == results["img"].shape[:2]
        shapes.add(results["img"].shape)
    assert shapes == {(40, 60, 3), (60, 40, 3)}


def test_albumentations_follows_the_seed_and_its_transforms_draw_apart() -> None:
    steps = [step for step in mask_rcnn()["train_pipeline"] if step["type"] == "Albu"]
    steps[0]["transforms"] = [{"type": "HorizontalFlip", "p": 0.5}, {"type": "VerticalFlip", "p": 0.5}]
    pipeline = TrainPipeline([{"type": "AutoAugment", "policies": [steps]}])  # nested, as members write it
    image = picture()
    seen = []
    for seed in range(40):
        pipeline.reseed(seed)
        first = pipeline(loaded(image))
        pipeline.reseed(seed)
        again = pipeline(loaded(image))
        assert first is not None
        assert again is not None
        np.testing.assert_array_equal(first["img"], again["img"])
        seen.append(first["img"].tobytes())
    views = [image, image[:, ::-1], image[::-1], image[::-1, ::-1]]
    counts = [seen.count(np.ascontiguousarray(view).tobytes()) for view in views]
    assert sum(counts) == 40
    assert min(counts) > 0  # a common seed would never flip one axis alone
