"""Annotations of different images as one set."""

import numpy as np

from hubmap_ml.instances.annotations import Annotations
from hubmap_ml.instances.bit_masks import BitMasks
from hubmap_ml.instances.images import Images
from hubmap_ml.spec import InputError


def join_annotations(first: Annotations, second: Annotations) -> Annotations:
    """Return annotations of two sets of images as one: the first's images, then the second's; ids counted anew.

    Raises:
        InputError: an image in both, or other categories.
    """
    if [item.name for item in first.categories] != [item.name for item in second.categories]:
        raise InputError(
            f"annotations of {_names(first)} and of {_names(second)} cannot be joined: make the second ones again"
        )
    both = set(first.images.ids) & set(second.images.ids)
    if both:
        raise InputError(f"image {min(both)!r} is in both sets of annotations; leave it out of one")
    images = Images.concatenate([first.images, second.images])
    rows = np.concatenate([first.image_rows(), second.image_rows() + len(first.images)])
    return Annotations.from_bits(
        images,
        first.categories,
        rows,
        BitMasks.concatenate([first.masks.bits, second.masks.bits]),
        np.concatenate([first.labels, second.labels]),
        iscrowd=np.concatenate([first.iscrowd, second.iscrowd]),
        boxes=np.concatenate([first.boxes, second.boxes]),
        areas=np.concatenate([first.areas, second.areas]),
    )


def _names(annotations: Annotations) -> str:
    return ", ".join(item.name for item in annotations.categories)
