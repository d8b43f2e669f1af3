"""Cleaning annotations for training: holes filled, masks cut by somebody else's. What scores stays raw.

The Sartorius 11th-place code trained on such "fixed" masks and validated on the raw ones.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data.classes import Classes
from hubmap_ml.data.images import read_image
from hubmap_ml.data.rejected import Rejected
from hubmap_ml.instances import Annotations, BitMasks
from hubmap_ml.instances.components import fill_holes
from hubmap_ml.instances.crops import crop_of, from_crops
from hubmap_ml.spec import InputError
from hubmap_ml.spec.data_options import CleanMasks, FormatOptions

_CHANNELS = {"red": [0], "green": [1], "blue": [2], "any": [0, 1, 2]}


def cleaned(
    annotations: Annotations, raw: Path, options: FormatOptions, classes: Classes
) -> tuple[Annotations, list[Rejected]]:
    """The annotations to train on: holes are filled first, then masks are cut. Crowds stay as they are.

    Args:
        annotations: the raw truth.
        raw: the raw folder, for the clean masks.
        options: what is asked for.
        classes: the types that ``clean_masks.types`` may name.

    Returns:
        The same object where nothing is asked for. Else the cleaned ones (boxes and areas anew), and a line, with
        nothing lost, for each of which no pixel was left.

    Raises:
        InputError: clean masks that are not there, match no image, have another size, or a type that is no class.
    """
    if not options.fill_holes and options.clean_masks is None:
        return annotations, []
    masks = annotations.masks.bits
    subject = ~annotations.iscrowd
    if options.fill_holes:
        masks = filled(masks, subject)
    if options.clean_masks is not None:
        masks = _cut(annotations, masks, subject, raw, options.clean_masks, classes)
    changed = subject & _differ(annotations.masks.bits, masks)
    pixels = masks.areas()
    rows = annotations.image_rows()
    kept = np.flatnonzero(pixels > 0)
    new = Annotations.from_bits(
        annotations.images,
        annotations.categories,
        rows[kept],
        masks.take(kept),
        annotations.labels[kept],
        iscrowd=annotations.iscrowd[kept],
        areas=np.where(changed, pixels, annotations.areas)[kept],
        ids=annotations.ids[kept],
    )
    emptied = [
        Rejected(
            str(annotations.images.file_names[rows[k]]),
            f"annotation {annotations.ids[k]}",
            "cleaning leaves no pixel of it: it is not trained on (and scores)",
            0,
        )
        for k in np.flatnonzero(pixels == 0)
    ]
    return new, emptied


def filled(masks: BitMasks, rows: NDArray[np.bool_] | None = None) -> BitMasks:
    """Masks without holes: what a mask encloses (4-connected background) becomes part of it.

    Args:
        rows: (N,), which masks to fill; all by default.
    """
    solid = fill_holes(masks)
    if rows is None:
        return solid
    both = BitMasks.concatenate([masks, solid])
    return both.take(np.arange(len(masks)) + np.where(rows, len(masks), 0))


def _cut(
    annotations: Annotations,
    masks: BitMasks,
    subject: NDArray[np.bool_],
    raw: Path,
    clean: CleanMasks,
    classes: Classes,
) -> BitMasks:
    folder = raw / clean.folder
    if not folder.is_dir():
        raise InputError(f"data.options.clean_masks: the folder {folder} does not exist")
    unknown = [kind for kind in clean.types if kind not in classes.types]
    if unknown:
        raise InputError(
            f"data.options.clean_masks: {unknown[0]!r} is no class ({', '.join(classes.types)}): correct its types"
        )
    labels = [classes.types.index(kind) for kind in clean.types] or list(range(len(classes.types)))
    chosen = subject & np.isin(annotations.labels, labels)
    crops = [crop_of(masks, row) for row in range(len(masks))]
    parts = [crop for crop, _, _ in crops]
    used = 0
    for image, name in enumerate(annotations.images.ids):
        path = folder / f"{name}.png"
        if not path.is_file():
            continue
        used += 1
        inside = _inside(path, annotations, image, clean.channel)
        for row in range(annotations.offsets[image], annotations.offsets[image + 1]):
            crop, x0, y0 = crops[row]
            if chosen[row] and crop.size:
                below = inside[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]]
                part = np.zeros_like(crop)
                part[: below.shape[0]] = crop[: below.shape[0]] & below
                parts[row] = part
    if not used:
        raise InputError(
            f"data.options.clean_masks: {folder} holds no IMAGE_ID.png of a training image "
            f"(for example {annotations.images.ids[0]}.png)"
        )
    return from_crops(parts, [x0 for _, x0, _ in crops], [y0 for _, _, y0 in crops])


def _inside(path: Path, annotations: Annotations, image: int, channel: str) -> NDArray[np.bool_]:
    pixels = read_image(path)
    size = int(annotations.images.heights[image]), int(annotations.images.widths[image])
    if pixels.shape[:2] != size:
        raise InputError(
            f"data.options.clean_masks: {path} is {pixels.shape[1]} x {pixels.shape[0]} pixels, its image "
            f"{size[1]} x {size[0]} (width x height)"
        )
    return np.asarray((pixels[:, :, _CHANNELS[channel]] > 0).any(axis=2))


def _differ(before: BitMasks, after: BitMasks) -> NDArray[np.bool_]:
    """Which masks have other pixels."""
    pairs: Sequence[tuple[int, int]] = [(k, k) for k in range(len(before))]
    shared = before.intersections(after, pairs)
    return np.asarray((shared != before.areas()) | (shared != after.areas()))
