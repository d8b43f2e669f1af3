"""Samples come from files and bits, depend on (seed, epoch, number) alone, and empty images stay out, reported."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hubmap_ml.instances import Annotations, BitMasks, Images
from hubmap_ml.spec import InputError
from hubmap_ml.training.mmdet.dataset import TrainingSamples, filter_images
from tests.detectors import VESSEL, mask_rcnn, vessels

STEPS = mask_rcnn()["train_pipeline"]
PLAIN: list[dict[str, Any]] = [{"type": "Resize", "img_scale": (64, 64), "keep_ratio": True}]


def samples(
    annotations: Annotations, folder: Path, steps: list[dict[str, Any]], seed: int = 0
) -> TrainingSamples:
    return TrainingSamples(annotations, filter_images(annotations).rows, folder, steps, seed)


def test_a_sample_holds_the_files_pixels_and_the_truths_masks(tmp_path: Path) -> None:
    annotations = vessels(tmp_path, 2)
    sample = samples(annotations, tmp_path, PLAIN)[(0, 1)]
    truth = annotations.image(1)
    image = cv2.imread(str(tmp_path / "tile_1.png"))
    np.testing.assert_array_equal(
        sample["img"].numpy(), image.transpose(2, 0, 1)
    )  # BGR, as mmdet's steps expect
    np.testing.assert_array_equal(sample["gt_bboxes"].numpy(), truth.boxes)
    np.testing.assert_array_equal(sample["gt_labels"].numpy(), truth.labels)
    dense = [truth.masks.bits.to_dense(i, 64, 64) for i in range(len(truth))]
    np.testing.assert_array_equal(sample["gt_masks"].masks.astype(bool), dense)


def test_the_same_key_gives_the_same_sample_whatever_was_drawn_before(tmp_path: Path) -> None:
    annotations = vessels(tmp_path, 4)
    one, other = samples(annotations, tmp_path, STEPS), samples(annotations, tmp_path, STEPS)
    for number in range(4):
        other[(9, number)]
    for key in ((0, 0), (0, 3), (1, 0), (5, 2)):
        np.testing.assert_array_equal(one[key]["img"], other[key]["img"])
        np.testing.assert_array_equal(one[key]["gt_masks"].masks, other[key]["gt_masks"].masks)


def test_epochs_numbers_and_seeds_change_the_draws(tmp_path: Path) -> None:
    annotations = vessels(tmp_path, 1)
    seen = {
        samples(annotations, tmp_path, STEPS, seed)[(epoch, 0)]["img"].numpy().tobytes()
        for seed in range(3)
        for epoch in range(6)
    }
    assert len(seen) > 9  # flips, turns and brightness: few of 18 coincide


def test_a_repeated_image_is_drawn_anew(tmp_path: Path) -> None:
    annotations = vessels(tmp_path, 2)
    repeated = TrainingSamples(annotations, np.arange(2), tmp_path, STEPS, 0, repeat=4)
    assert len(repeated) == 8
    assert len({repeated[(0, number)]["img"].numpy().tobytes() for number in (0, 2, 4, 6)}) > 1
    plain = TrainingSamples(annotations, np.arange(2), tmp_path, PLAIN, 0, repeat=4)
    np.testing.assert_array_equal(plain[(0, 1)]["img"], plain[(0, 7)]["img"])


def test_images_without_a_usable_instance_are_left_out_and_named(tmp_path: Path) -> None:
    annotations = vessels(tmp_path, 5, empty=2)
    filtered = filter_images(annotations)
    assert filtered.rows.tolist() == [0, 1, 2]
    assert filtered.without_truth == ("tile_3", "tile_4")
    assert filtered.note() == "training images left out: 2 without an instance (first: tile_3)"
    assert filter_images(vessels(tmp_path, 2)).note() is None


def test_crowds_specks_and_small_images_are_nothing_to_learn_from() -> None:
    masks = np.zeros((3, 40, 40), bool)
    masks[:, 5:15, 5:15] = True
    images = Images.build(ids=["crowd", "speck", "small"], heights=[40, 40, 40], widths=[40, 40, 40])
    boxes = np.array([[5, 5, 15, 15], [5, 5, 5.5, 15], [5, 5, 15, 15]])
    annotations = Annotations.from_bits(
        images, VESSEL, [0, 1, 2], BitMasks.from_dense(list(masks)), iscrowd=[True, False, False], boxes=boxes
    )
    annotations = annotations.replace(images=images.replace(widths=np.array([40, 40, 20], np.int32)))
    with pytest.raises(InputError, match="none of the 3 training images"):
        filter_images(annotations)


def test_a_crowd_region_is_ignored_not_learned(tmp_path: Path) -> None:
    annotations = vessels(tmp_path, 1)
    annotations = annotations.replace(iscrowd=np.array([False, True]))
    sample = samples(annotations, tmp_path, PLAIN)[(0, 0)]
    np.testing.assert_array_equal(sample["gt_bboxes"], annotations.boxes[:1])
    np.testing.assert_array_equal(sample["gt_bboxes_ignore"], annotations.boxes[1:])


def test_an_image_that_the_pipeline_empties_gives_way_to_another(tmp_path: Path) -> None:
    annotations = vessels(tmp_path, 3)
    # Shifted out of sight, or not at all: half of the draws are empty.
    away = [
        {
            "type": "Albu",
            "transforms": [{"type": "Affine", "translate_px": {"x": (64, 64), "y": (0, 0)}, "p": 0.5}],
            "bbox_params": {
                "type": "BboxParams",
                "format": "pascal_voc",
                "label_fields": ["gt_labels"],
                "filter_lost_elements": True,
            },
        }
    ]
    one = samples(annotations, tmp_path, away)
    for number in range(12):
        sample = one[(number, number % 3)]
        assert sample["gt_masks"].masks.reshape(len(sample["gt_masks"]), -1).any(axis=1).all()
    away[0]["transforms"][0]["p"] = 1.0  # type: ignore[index]
    with pytest.raises(InputError, match="train_pipeline left no instance in any of 50 images"):
        samples(annotations, tmp_path, away)[(0, 0)]


def test_a_pipeline_that_breaks_names_the_image_and_the_error(tmp_path: Path) -> None:
    annotations = vessels(tmp_path, 1)
    # mmdet's Albu without bbox_params loses the masks' type, and what follows stumbles over it.
    steps = [
        {"type": "Albu", "transforms": [{"type": "HorizontalFlip"}]},
        {"type": "Pad", "size_divisor": 32},
    ]
    with pytest.raises(InputError, match=r"train_pipeline failed on image tile_0: TypeError"):
        samples(annotations, tmp_path, steps)[(0, 0)]


def test_files_that_are_missing_or_of_another_size_are_named(tmp_path: Path) -> None:
    annotations = vessels(tmp_path, 2)
    one = samples(annotations, tmp_path, PLAIN)
    (tmp_path / "tile_0.png").unlink()
    with pytest.raises(InputError, match=r"tile_0\.png"):
        one[(0, 0)]
    cv2.imwrite(str(tmp_path / "tile_1.png"), np.zeros((32, 64, 3), np.uint8))
    with pytest.raises(InputError, match=r"tile_1\.png: 64 x 32 pixels, its row says 64 x 64"):
        one[(0, 1)]
