"""Augmentation sets by name, and the pipelines around them, for members' configuration files.

The sets are those of HuBMAP 2023's third place (``augmentation_names()`` lists them): an ``AutoAugment`` that draws one
of its policies for each image, each as likely as the others, and one albumentations step. Levels are mmdet's: a shear
of level 0 leaves the image as it is, a translation of level 5 moves it by 125 pixels, a rotation of level 10 turns it
by 30 degrees.

Written for albumentations 2: what it fills beside a moved or bent image is black, where albumentations 1 mirrored the
image; it has no ``alpha_affine`` and no ``shift_limit`` for distortions (3.6 and .5 pixels in the original).
"""

import copy
from collections.abc import Mapping
from typing import Any

from hubmap_ml.spec.errors import InputError

Step = dict[str, Any]

_IMAGENET = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True}
_HOLES = [(4, 4), (4, 8), (8, 4), (8, 8), (16, 32), (32, 16), (32, 32), (32, 48), (48, 32), (48, 48)]

_SHEAR: Step = {"type": "Shear", "prob": 0.4, "level": 0}
_TRANSLATE: Step = {"type": "Translate", "prob": 0.4, "level": 5}
_EQUALIZE: Step = {"type": "EqualizeTransform"}
_STRONG_COLOUR = [{"type": "ColorTransform", "prob": 1.0, "level": 6}, _EQUALIZE]


def _colour(level: int) -> Step:
    return {"type": "ColorTransform", "prob": 0.6, "level": level}


def _brightness(level: int, prob: float = 0.6) -> Step:
    return {"type": "BrightnessTransform", "prob": prob, "level": level}


def _contrast(level: int, prob: float = 0.6) -> Step:
    return {"type": "ContrastTransform", "prob": prob, "level": level}


def _rotate() -> Step:
    return {"type": "Rotate", "prob": 0.6, "level": 10}


def _distortion(hue: int) -> Step:
    return {
        "type": "PhotoMetricDistortion",
        "brightness_delta": 32,
        "contrast_range": (0.5, 1.5),
        "hue_delta": hue,
    }


def _crop(least: float) -> Step:
    return {
        "type": "MinIoURandomCrop",
        "min_ious": (0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        "min_crop_size": least,
    }


def _cut_out(fewest: int, most: int, *larger: tuple[int, int]) -> Step:
    return {"type": "CutOut", "n_holes": (fewest, most), "cutout_shape": [*_HOLES, *larger]}


def _set(
    *policies: list[Step], quarter_turns: bool = True, prob: float = 0.4, bend: bool = False
) -> list[Step]:
    """One policy of several, then a small move, perhaps a quarter turn, perhaps a bend."""
    moves: list[Step] = [
        {
            "type": "ShiftScaleRotate",
            "shift_limit": 0.0625,
            "scale_limit": 0.15,
            "rotate_limit": 15,
            "p": prob,
        }
    ]
    if quarter_turns:
        moves.append({"type": "RandomRotate90", "p": prob})
    if bend:
        moves.append(
            {
                "type": "OneOf",
                "transforms": [
                    {"type": "ElasticTransform", "alpha": 120, "sigma": 6.0, "p": 1},
                    {"type": "GridDistortion", "p": 1},
                    {"type": "OpticalDistortion", "distort_limit": 2, "p": 1},
                ],
                "p": 0.3,
            }
        )
    return [{"type": "AutoAugment", "policies": [*policies]}, _albumentations(moves)]


def _albumentations(transforms: list[Step]) -> Step:
    return {
        "type": "Albu",
        "transforms": transforms,
        "bbox_params": {
            "type": "BboxParams",
            "format": "pascal_voc",
            "label_fields": ["gt_labels"],
            "min_visibility": 0.0,
            "filter_lost_elements": True,
        },
        "keymap": {"img": "image", "gt_bboxes": "bboxes", "gt_masks": "masks"},
        "update_pad_shape": False,
        "skip_img_without_anno": True,
    }


def _medium(prob: float) -> list[Step]:
    return _set(
        [_SHEAR],
        [_TRANSLATE],
        [_distortion(18)],
        [_crop(0.3)],
        [_cut_out(5, 10)],
        [_brightness(4, prob), _contrast(6, prob), _rotate()],
        _STRONG_COLOUR,
    )


_SETS: Mapping[str, list[Step]] = {
    "light_equalize": _set([_SHEAR], [_EQUALIZE], quarter_turns=False),
    "light_colour": _set(
        [_SHEAR], [_TRANSLATE], [_colour(10), _brightness(3)], _STRONG_COLOUR, quarter_turns=False
    ),
    "light": _set([_SHEAR], [_TRANSLATE], _STRONG_COLOUR, quarter_turns=False),
    "light_turned": _set([_SHEAR], [_TRANSLATE], _STRONG_COLOUR),
    "light_rotated": _set([_SHEAR], [_TRANSLATE], [_rotate(), *_STRONG_COLOUR]),
    "medium": _medium(0.6),
    "medium_calm": _medium(0.5),
    "medium_holes": _set(
        [_SHEAR],
        [_TRANSLATE],
        [_crop(0.3)],
        [_cut_out(5, 10, (48, 72), (72, 48), (72, 72))],
        [_brightness(4, 0.5)],
        _STRONG_COLOUR,
    ),
    "heavy": _set(
        [_SHEAR],
        [_TRANSLATE],
        [_colour(10), _brightness(3)],
        [_colour(10), _contrast(5)],
        [_distortion(15)],
        [_crop(0.2)],
        [_cut_out(3, 8)],
        [{**_EQUALIZE, "prob": 0.6}, _brightness(3)],
        [_distortion(18)],
        [_crop(0.3)],
        [_cut_out(5, 10)],
        [_brightness(4), _contrast(6), _rotate()],
        _STRONG_COLOUR,
        prob=0.5,
        bend=True,
    ),
}


def augmentation_names() -> tuple[str, ...]:
    """Return the names of all sets."""
    return tuple(_SETS)


def augmentation_set(name: str) -> list[Step]:
    """Return the steps of a set, for a ``train_pipeline`` between its flips and its normalisation.

    Raises:
        InputError: no set of that name, with those there are.
    """
    if name not in _SETS:
        raise InputError(f"augmentation set {name!r} is unknown; there are {', '.join(_SETS)}")
    return copy.deepcopy(_SETS[name])


def square_train_pipeline(side: int, augmentations: str) -> list[Step]:
    """Return a ``train_pipeline``: sized, flipped, augmented, normalised as ImageNet, padded to whole strides.

    Args:
        side: the longest side in pixels after resizing (ratio kept).
        augmentations: name of a set.

    Raises:
        InputError: no set of that name.
    """
    return [
        {"type": "Resize", "img_scale": [(side, side)], "keep_ratio": True},
        {"type": "RandomFlip", "direction": ["horizontal", "vertical"], "flip_ratio": 0.5},
        *augmentation_set(augmentations),
        *_network_input(),
    ]


def square_test_pipeline(side: int) -> list[Step]:
    """Return a ``test_pipeline``: sized as in ``square_train_pipeline``, normalised, padded."""
    return [{"type": "Resize", "img_scale": [(side, side)], "keep_ratio": True}, *_network_input()]


def _network_input() -> list[Step]:
    return [{"type": "Normalize", **copy.deepcopy(_IMAGENET)}, {"type": "Pad", "size_divisor": 32}]
