"""Named pools of images: the rows of the images table that meet an experiment's criteria."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data.columns import as_text, column
from hubmap_ml.instances import Annotations, Images
from hubmap_ml.spec import InputError


def select_pool(
    images: Images, criteria: Mapping[str, Any], *, annotations: Annotations | None = None
) -> NDArray[np.int64]:
    """The images that meet all criteria, in table order.

    Args:
        images: M rows.
        criteria: key to one allowed value or a list of them, compared as text; keys are those of
            ``columns.COLUMNS``. Without the key ``split``, test images are left out.
        annotations: of some or all of the images; with them there are also the keys of ``annotation_columns``.

    Returns:
        Rows of ``images``, int64.

    Raises:
        InputError: an unknown key, or no image; with what the keys can be.
    """
    extra = annotation_columns(images, annotations)
    chosen = np.ones(len(images), bool)
    for key, allowed in {"split": "train", **criteria}.items():
        values = [as_text(value) for value in (allowed if isinstance(allowed, list | tuple) else [allowed])]
        chosen &= np.isin(column(images, key, extra=extra).astype(str), values)
    rows = np.flatnonzero(chosen)
    if not len(rows):
        there = "; ".join(
            f"{key} can be {', '.join(sorted(set(column(images, key, extra=extra)) - {''}))}"
            for key in criteria
            if key != "id"
        )
        raise InputError(f"no image meets {dict(criteria)}: {there}")
    return rows


def annotation_columns(images: Images, annotations: Annotations | None) -> dict[str, NDArray[Any]]:
    """What annotations add to the images table; nothing without them.

    Returns:
        ``has_annotations``, (M,) bool; and ``category``, (M,) object: the name of the category that most of an
        image's annotations have (of equally many the first category), "" without any.
    """
    if annotations is None:
        return {}
    n = len(annotations.categories)
    rows = annotations.image_rows()
    counts = np.bincount(rows * n + annotations.labels, minlength=n * len(annotations.images))
    counts = counts.reshape(len(annotations.images), n)
    names = {
        image: annotations.categories[int(count.argmax())].name
        for image, count in zip(annotations.images.ids, counts, strict=True)
        if count.any()
    }
    return {
        "has_annotations": np.array([image in names for image in images.ids], dtype=bool),
        "category": np.array([names.get(image, "") for image in images.ids], dtype=object),
    }
