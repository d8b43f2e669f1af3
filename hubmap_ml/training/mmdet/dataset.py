"""Training samples from `Annotations`: pixels from their files, masks from bits, the member's pipeline over
both.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.core import BitmapMasks
from numpy.typing import NDArray
from torch.utils.data import Dataset

from hubmap_ml.data import read_image
from hubmap_ml.instances import Annotations
from hubmap_ml.models import TrainPipeline
from hubmap_ml.models.pipelines import meta_of, to_channels_first
from hubmap_ml.spec import InputError
from hubmap_ml.training.mmdet.draws import SAMPLE, own_draws

# mmdet leaves out smaller images (CocoDataset._filter_imgs).
MIN_SIDE = 32
# Images tried for one sample when the pipeline gives each of them up.
ATTEMPTS = 50


@dataclass(frozen=True)
class Filtered:
    """Which images are trained on, as mmdet's `filter_empty_gt` decides, and why the others are not.

    Attributes:
        rows: int64, rows of the annotations' images that are kept.
        without_truth: ids of images without a usable instance.
        too_small: ids of images with a side under `MIN_SIDE` pixels.
    """

    rows: NDArray[np.int64]
    without_truth: tuple[str, ...]
    too_small: tuple[str, ...]

    def note(self) -> str | None:
        """One sentence for the run's notes, None when nothing was left out."""
        parts = []
        if self.without_truth:
            parts.append(f"{len(self.without_truth)} without an instance (first: {self.without_truth[0]})")
        if self.too_small:
            parts.append(f"{len(self.too_small)} smaller than {MIN_SIDE} px (first: {self.too_small[0]})")
        return f"training images left out: {', '.join(parts)}" if parts else None


def usable_instances(annotations: Annotations) -> NDArray[np.bool_]:
    """Instances that a detector can learn from: boxes of at least a pixel, some area, no crowd (as
    CocoDataset).
    """
    sides = annotations.boxes[:, 2:] - annotations.boxes[:, :2]
    return (sides >= 1).all(axis=1) & (annotations.areas > 0) & ~annotations.iscrowd


def filter_images(annotations: Annotations) -> Filtered:
    """Choose the images to train on.

    Raises:
        InputError: none is left.
    """
    images = annotations.images
    usable = np.concatenate([[0], np.cumsum(usable_instances(annotations))])
    empty = usable[annotations.offsets[1:]] == usable[annotations.offsets[:-1]]
    small = np.minimum(images.heights, images.widths) < MIN_SIDE
    rows = np.flatnonzero(~empty & ~small)
    if len(rows) == 0:
        raise InputError(
            f"none of the {len(images)} training images has an instance of the experiment's types: check "
            "data.types and the pool"
        )
    return Filtered(
        rows=rows.astype(np.int64),
        without_truth=tuple(images.ids[empty].tolist()),
        too_small=tuple(images.ids[small & ~empty].tolist()),
    )


class TrainingSamples(Dataset):
    """Samples by (epoch, number): the same pair gives the same sample in any process.

    Args:
        annotations: the truth; masks are bits.
        rows: which images, from `filter_images`; a sample's number counts through them.
        image_root: where file names start.
        steps: the member's train_pipeline.
        seed: of the training.
        repeat: how often an epoch sees each image, drawn anew each time (mmdet's RepeatDataset).
    """

    def __init__(
        self,
        annotations: Annotations,
        rows: NDArray[np.int64],
        image_root: Path,
        steps: list[dict[str, Any]],
        seed: int,
        repeat: int = 1,
    ) -> None:
        self._annotations = annotations
        self._usable = usable_instances(annotations)
        self._rows = np.tile(rows, repeat)
        self._root = Path(image_root)
        self._pipeline = TrainPipeline(steps)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """The sample of an epoch; where the pipeline gives an image up, another takes its place (as in
        mmdet).
        """
        epoch, number = key
        for attempt in range(ATTEMPTS):
            with own_draws(self._seed, SAMPLE, epoch, number, attempt) as seed:
                self._pipeline.reseed(seed)
                chosen = number if attempt == 0 else _another(seed, len(self._rows))
                sample = self._transformed(int(self._rows[chosen]))
            if sample is not None:
                return sample
        raise InputError(
            f"train_pipeline left no instance in any of {ATTEMPTS} images: its crops or shifts are too strong"
        )

    def _transformed(self, row: int) -> dict[str, Any] | None:
        loaded = self._loaded(row)
        try:
            results = self._pipeline(loaded)
            return None if results is None else _formatted(results)
        except (
            AttributeError,
            IndexError,
            KeyError,
            TypeError,
            ValueError,
            AssertionError,
            cv2.error,
        ) as error:
            name = self._annotations.images.ids[row]
            raise InputError(
                f"train_pipeline failed on image {name}: {type(error).__name__}: {error}"
            ) from error

    def _loaded(self, row: int) -> dict[str, Any]:
        """An image and its truth as mmdet's loading steps leave them."""
        annotations = self._annotations
        images = annotations.images
        height, width = int(images.heights[row]), int(images.widths[row])
        image = read_image(self._root / images.file_names[row])
        if image.shape[:2] != (height, width):
            raise InputError(
                f"{self._root / images.file_names[row]}: {image.shape[1]} x {image.shape[0]} pixels, its row "
                f"says {width} x {height}"
            )
        instances = np.arange(annotations.offsets[row], annotations.offsets[row + 1])
        crowd = instances[annotations.iscrowd[instances]]
        instances = instances[self._usable[instances]]
        bits = annotations.masks.bits
        dense = [bits.to_dense(int(annotations.masks.index[i]), height, width) for i in instances]
        stack = np.stack(dense).astype(np.uint8) if dense else np.zeros((0, height, width), np.uint8)
        return {
            "img": np.ascontiguousarray(image[..., ::-1]),
            "img_fields": ["img"],
            "img_shape": image.shape,
            "ori_shape": image.shape,
            "filename": str(images.file_names[row]),
            "ori_filename": str(images.file_names[row]),
            "gt_bboxes": annotations.boxes[instances].copy(),
            "gt_bboxes_ignore": annotations.boxes[crowd].copy(),
            "gt_labels": annotations.labels[instances].astype(np.int64),
            "gt_masks": BitmapMasks(stack, height, width),
            "bbox_fields": ["gt_bboxes", "gt_bboxes_ignore"],
            "mask_fields": ["gt_masks"],
            "seg_fields": [],
        }


def _another(seed: int, count: int) -> int:
    return int(np.random.default_rng(seed).integers(count))


def _formatted(results: dict[str, Any]) -> dict[str, Any] | None:
    """A detector's training input from a pipeline's results; None when no instance is left."""
    masks: BitmapMasks = results["gt_masks"]
    # A strong shift leaves boxes whose mask has no pixel (seen with albumentations): nothing to learn from.
    left = masks.masks.reshape(len(masks), -1).any(axis=1) if len(masks) else np.zeros(0, bool)
    if not left.any():
        return None
    return {
        "img": torch.from_numpy(to_channels_first(results["img"])),
        "img_metas": meta_of(results),
        "gt_bboxes": torch.from_numpy(np.asarray(results["gt_bboxes"], np.float32)[left]),
        "gt_bboxes_ignore": torch.from_numpy(
            np.asarray(results["gt_bboxes_ignore"], np.float32).reshape(-1, 4)
        ),
        "gt_labels": torch.from_numpy(np.asarray(results["gt_labels"], np.int64)[left]),
        "gt_masks": masks[np.flatnonzero(left)],
    }
