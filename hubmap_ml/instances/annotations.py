"""The truth about images, in the same layout as predictions, plus what COCO says of an annotation."""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.instances.bit_masks import BitMasks, per_row
from hubmap_ml.instances.images import Category, Images, check_labels
from hubmap_ml.instances.masks import Masks
from hubmap_ml.instances.ragged import as_rows, check_offsets, offsets_of, rows_of_groups
from hubmap_ml.spec import InputError


@dataclass(frozen=True, eq=False)
class ImageAnnotations:
    """The annotations of one image; every array has length n. Fields as in ``Annotations``."""

    boxes: NDArray[np.float32]
    labels: NDArray[np.int16]
    masks: Masks
    iscrowd: NDArray[np.bool_]
    areas: NDArray[np.float64]
    ids: NDArray[np.int64]
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Annotations:
    """The annotations of M images, N in all, sorted by image.

    Attributes:
        images: M rows; an image without annotations is still a row.
        categories: what labels count through.
        offsets: int64 (M + 1,); image ``m`` has the rows ``offsets[m]`` to ``offsets[m + 1]``.
        boxes: float32 (N, 4), x0, y0, x1, y1 in pixels, half-open.
        labels: int16 (N,), positions in ``categories``.
        masks: N masks, all bits.
        iscrowd: bool (N,), COCO's: a region of many objects.
        areas: float64 (N,), COCO's ``area`` (of the file, which may count it otherwise than by pixels).
        ids: int64 (N,), unique.
    """

    images: Images
    categories: tuple[Category, ...]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int16]
    masks: Masks
    iscrowd: NDArray[np.bool_]
    areas: NDArray[np.float64]
    ids: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.labels)
        for name, dtype, shape in (
            ("boxes", np.float32, (n, 4)),
            ("labels", np.int16, (n,)),
            ("iscrowd", np.bool_, (n,)),
            ("areas", np.float64, (n,)),
            ("ids", np.int64, (n,)),
        ):
            values = np.asarray(getattr(self, name), dtype=dtype)
            if values.shape != shape:
                raise ValueError(f"{name} of shape {values.shape} for {n} annotations")
            object.__setattr__(self, name, values)
        if len(self.masks) != n or not self.masks.all_bits:
            raise ValueError("annotations need a decided mask each")
        check_offsets(self.offsets, len(self.images), n)
        check_labels(self.labels, self.categories)

    def __len__(self) -> int:
        return len(self.labels)

    @staticmethod
    def from_bits(
        images: Images,
        categories: Sequence[Category],
        image_rows: ArrayLike,
        masks: BitMasks,
        labels: ArrayLike = 0,
        *,
        iscrowd: ArrayLike = False,
        boxes: ArrayLike | None = None,
        areas: ArrayLike | None = None,
        ids: ArrayLike | None = None,
    ) -> "Annotations":
        """Annotations in any order, sorted by image here (order inside an image is kept).

        Args:
            image_rows: (N,), the image of each annotation.
            masks: N masks.
            labels, iscrowd: one for all or (N,).
            boxes: (N, 4), by default tight around the pixels.
            areas: (N,), by default the pixels.
            ids: (N,), by default 1, 2, … in the sorted order (to pycocotools, 0 means "no
                match").
        """
        n = len(masks)
        rows = np.asarray(image_rows, dtype=np.int64).reshape(-1)
        if rows.shape != (n,):
            raise ValueError(f"{n} masks with {len(rows)} image rows")
        as_rows(rows, len(images))
        order = np.argsort(rows, kind="stable")
        sorted_masks = masks.take(order)
        return Annotations(
            images=images,
            categories=tuple(categories),
            offsets=offsets_of(np.bincount(rows, minlength=len(images))),
            boxes=sorted_masks.tight_boxes()
            if boxes is None
            else np.asarray(boxes, np.float32).reshape(n, 4)[order],
            labels=per_row(labels, n, np.int16)[order],
            masks=Masks.from_bits(sorted_masks),
            iscrowd=per_row(iscrowd, n, np.bool_)[order],
            areas=sorted_masks.areas().astype(float)
            if areas is None
            else np.asarray(areas, np.float64)[order],
            ids=np.arange(1, n + 1) if ids is None else np.asarray(ids, np.int64)[order],
        )

    @staticmethod
    def from_dense(
        images: Images,
        categories: Sequence[Category],
        masks: Sequence[Sequence[NDArray[Any]]],
        labels: Sequence[ArrayLike] | None = None,
        iscrowd: Sequence[ArrayLike] | None = None,
    ) -> "Annotations":
        """Annotations from dense masks.

        Args:
            masks: for each image its masks (H, W), non-zero = inside.
            labels, iscrowd: for each image one value for all its masks or one for each; by default 0 and
                False.

        Raises:
            InputError: a mask of another size than its image.
        """
        if len(masks) != len(images):
            raise ValueError(f"masks of {len(masks)} images for a table of {len(images)}")
        for row, some in enumerate(masks):
            size = (int(images.heights[row]), int(images.widths[row]))
            for mask in some:
                if np.shape(mask) != size:
                    raise InputError(
                        f"image {images.ids[row]!r} has {size} pixels, one of its masks {np.shape(mask)}"
                    )
        counts = [len(some) for some in masks]

        def spread(values: Sequence[ArrayLike] | None, dtype: Any) -> NDArray[Any]:
            if values is None:
                return np.zeros(sum(counts), dtype=dtype)
            parts = [per_row(value, count, dtype) for value, count in zip(values, counts, strict=True)]
            return np.concatenate(parts) if parts else np.zeros(0, dtype=dtype)

        return Annotations.from_bits(
            images,
            categories,
            np.repeat(np.arange(len(images)), counts),
            BitMasks.from_dense([mask for some in masks for mask in some]),
            spread(labels, np.int16),
            iscrowd=spread(iscrowd, np.bool_),
        )

    def image(self, row: int) -> ImageAnnotations:
        """The annotations of one image."""
        rows = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return ImageAnnotations(
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            masks=self.masks.take(np.arange(rows.start, rows.stop)),
            iscrowd=self.iscrowd[rows],
            areas=self.areas[rows],
            ids=self.ids[rows],
            height=int(self.images.heights[row]),
            width=int(self.images.widths[row]),
        )

    def image_rows(self) -> NDArray[np.int64]:
        """The image of each annotation, int64 (N,)."""
        return np.repeat(np.arange(len(self.images)), np.diff(self.offsets))

    def take_images(self, rows: ArrayLike) -> "Annotations":
        """Some images with all their annotations, in the given order."""
        chosen = as_rows(rows, len(self.images))
        picked, offsets = rows_of_groups(self.offsets, chosen)
        return self._picked(picked, images=self.images.take(chosen), offsets=offsets)

    def take(self, rows: ArrayLike) -> "Annotations":
        """Some annotations (integers or a boolean selection, images in order); every image stays a row."""
        picked = as_rows(rows, len(self))
        images = self.image_rows()[picked]
        if len(images) and np.any(np.diff(images) < 0):
            raise ValueError("annotations must be taken image by image, images in order")
        return self._picked(
            picked, images=self.images, offsets=offsets_of(np.bincount(images, minlength=len(self.images)))
        )

    def replace(self, **values: Any) -> "Annotations":
        """The same annotations with some fields replaced."""
        return replace_fields(self, **values)

    def _picked(
        self, rows: NDArray[np.int64], *, images: Images, offsets: NDArray[np.int64]
    ) -> "Annotations":
        return replace_fields(
            self,
            images=images,
            offsets=offsets,
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            masks=self.masks.take(rows),
            iscrowd=self.iscrowd[rows],
            areas=self.areas[rows],
            ids=self.ids[rows],
        )

    def with_categories(self, names: Sequence[str]) -> "Annotations":
        """Only the named categories, in that order; ids of categories stay.

        Raises:
            InputError: a name that is not among the categories.
        """
        have = [category.name for category in self.categories]
        for name in names:
            if name not in have:
                raise InputError(
                    f"there is no category {name!r} in the annotations (they have {', '.join(have)})"
                )
        new_label = np.full(len(have), -1, dtype=np.int16)
        for label, name in enumerate(names):
            new_label[have.index(name)] = label
        kept = self.take(new_label[self.labels] >= 0) if len(self) else self
        chosen = tuple(self.categories[have.index(name)] for name in names)
        return replace_fields(kept, categories=chosen, labels=new_label[kept.labels])
