"""A member's mmdet pipelines, run on arrays that the platform has loaded.

The steps that load, format and collect in an mmdet configuration are the platform's: they may stand in a
member and are passed over. Inside a pipeline images are BGR, as mmdet's colour transforms and
``Normalize(to_rgb=True)`` expect.
"""

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from mmdet.datasets.pipelines import Compose
from numpy.typing import NDArray

import hubmap_ml.models.augmentations  # noqa: F401  (registers our steps)
from hubmap_ml.spec import InputError

PLATFORM_STEPS = frozenset(
    {
        "LoadImageFromFile",
        "LoadImageFromWebcam",
        "LoadAnnotations",
        "DefaultFormatBundle",
        "ImageToTensor",
        "Collect",
    }
)
# What mmdet's heads read from an image's meta data.
META_KEYS = ("ori_shape", "img_shape", "pad_shape", "scale_factor", "flip", "flip_direction", "img_norm_cfg")


class TrainPipeline:
    """A member's train_pipeline: results with image, boxes, labels and masks in, the same changed out.

    After each step a box is the bound of its mask (half-open, pixels), and an instance whose mask is empty is gone:
    mmdet turns and cuts boxes by themselves, so that they come to lie about what they hold.
    """

    def __init__(self, steps: Sequence[dict[str, Any]]) -> None:
        self._compose = _build(
            [step for step in steps if step["type"] not in PLATFORM_STEPS], "train_pipeline"
        )
        self._drawing = list(_drawing(self._compose))

    def __call__(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Run the steps; None when one of them gives the sample up, or leaves no instance."""
        current = _described(results)
        for step in self._compose.transforms:
            masks = None if current is None else current.get("gt_masks")
            current = None if current is None else step(current)
            if current is not None and current.get("gt_masks") is not masks:  # whatever moves makes new masks
                fit_boxes(current)
                current = current if len(current["gt_bboxes"]) else None
        return _described(current)

    def reseed(self, seed: int) -> None:
        """Start the steps' own random states anew: albumentations' follow neither numpy's seed nor python's."""
        for number, step in enumerate(self._drawing):
            # One state shared by all of a composition's transforms, as it is made: a seed of its own for
            # each would give every transform the same draws.
            step.set_random_state(np.random.default_rng((seed, number)), random.Random(f"{seed}/{number}"))


class TestPipeline:
    """A member's test_pipeline: an image in, the network's input and its meta data out.

    Args:
        steps: as the member says it, `MultiScaleFlipAug` included (its single scale; views are the
            experiment's).
        scale: (longest, shortest) side in pixels that replaces the member's own for every `Resize`; None
            keeps it.

    Raises:
        InputError: an unknown step, or several scales.
    """

    __test__ = False  # pytest: not a test class

    def __init__(self, steps: Sequence[dict[str, Any]], scale: tuple[int, int] | None = None) -> None:
        flat, own_scale = _unwrapped(steps)
        self._scale = scale or own_scale
        for step in flat:
            if step["type"] == "Resize" and self._scale is None and _several(step.get("img_scale")):
                raise InputError(
                    "test_pipeline's Resize has several scales: views and scales are the experiment's"
                )
        self._compose = _build(flat, "test_pipeline")

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Prepare one image.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            (3, H', W') float32 and the meta data of mmdet's heads.
        """
        results: dict[str, Any] = {"img": np.ascontiguousarray(image[..., ::-1]), "img_fields": ["img"]}
        if self._scale is not None:
            results["scale"] = self._scale
        described = _described(results)
        described = _described(self._compose(described))
        if described is None:
            raise InputError("test_pipeline gave an image up: it may only resize, normalise and pad")
        return to_channels_first(described["img"]), meta_of(described)


def fit_boxes(results: dict[str, Any]) -> None:
    """Set ``gt_bboxes`` to the bounds of ``gt_masks`` (in place), without the instances whose mask is empty."""
    bounds = np.array([cv2.boundingRect(mask) for mask in results["gt_masks"].masks], np.float32).reshape(
        -1, 4
    )
    left = np.flatnonzero(bounds[:, 2] > 0)
    bounds[:, 2:] += bounds[:, :2]
    results["gt_bboxes"] = bounds[left]
    if len(left) < len(bounds):
        results["gt_masks"] = results["gt_masks"][left]
        results["gt_labels"] = np.asarray(results["gt_labels"])[left]


def to_channels_first(image: NDArray[Any]) -> NDArray[np.float32]:
    """(H, W, 3) of any type to contiguous (3, H, W) float32."""
    return np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)


def meta_of(results: dict[str, Any]) -> dict[str, Any]:
    """The meta data that mmdet's heads read, from a pipeline's results."""
    meta = {key: results.get(key) for key in META_KEYS}
    if meta["scale_factor"] is None:
        meta["scale_factor"] = np.ones(4, dtype=np.float32)
    meta["flip"] = bool(meta["flip"])
    return meta


def _described(results: dict[str, Any] | None) -> dict[str, Any] | None:
    """Make the shapes true: steps such as Albu turn or crop an image without a word about it."""
    if results is None:
        return None
    shape = results["img"].shape
    results.setdefault("ori_shape", shape)
    results["pad_shape"] = shape
    height, width = results.get("img_shape", shape)[:2]
    if "img_shape" not in results or height > shape[0] or width > shape[1]:
        results["img_shape"] = shape  # otherwise smaller: padded at the right and below
    return results


def _build(steps: Sequence[dict[str, Any]], name: str) -> Compose:
    try:
        return Compose(copy.deepcopy(list(steps)))  # mmdet's Albu changes what it is given
    except (KeyError, TypeError, ValueError, AssertionError, AttributeError) as error:
        raise InputError(f"{name} cannot be built: {type(error).__name__}: {error}") from error


def _unwrapped(steps: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], tuple[int, int] | None]:
    """Test steps without the platform's, with the content of `MultiScaleFlipAug` in its place, and its
    scale.
    """
    flat: list[dict[str, Any]] = []
    scale = None
    for step in steps:
        if step["type"] == "MultiScaleFlipAug":
            if _several(step.get("img_scale")) or not step.get("img_scale"):
                raise InputError(
                    "test_pipeline's MultiScaleFlipAug needs one img_scale: scales are the experiment's"
                )
            given = step["img_scale"]
            scale = tuple(given[0]) if isinstance(given, list) else tuple(given)
            flat += _unwrapped(step["transforms"])[0]
        elif step["type"] not in PLATFORM_STEPS and step["type"] != "RandomFlip":  # flips are views
            flat.append(step)
    return flat, scale


def _several(scale: Any) -> bool:
    return isinstance(scale, list) and len(scale) > 1


def _drawing(step: Any) -> Iterator[Any]:
    """What draws from states of its own inside a step, nested ones included, in a fixed order: steps of ours, and
    compositions of albumentations.
    """
    for item in (step, getattr(step, "aug", None)):
        if hasattr(item, "set_random_state"):
            yield item
    for inner in getattr(step, "transforms", None) or ():
        if not isinstance(inner, dict):
            yield from _drawing(inner)
