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
        annotations: of some or all of the images; with them there is also the key ``has_annotations``, true or
            false.

    Returns:
        Rows of ``images``, int64.

    Raises:
        InputError: an unknown key, or no image; with what the keys can be.
    """
    extra = {}
    if annotations is not None:
        annotated = annotations.images.ids[np.diff(annotations.offsets) > 0]
        extra["has_annotations"] = np.isin(images.ids.astype(str), annotated.astype(str))
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
