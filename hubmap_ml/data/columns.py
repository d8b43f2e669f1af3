"""The names by which an experiment file speaks of the images table: for pools (``dataset: 2``) and folds
(`by: source_wsi`).

Values are compared as text, so that ``2`` in a YAML file finds the ``2`` of a csv.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Images
from hubmap_ml.spec import InputError

# What the experiment file says -> attribute of Images. HuBMAP calls a slide source_wsi.
COLUMNS = {
    "dataset": "datasets",
    "slide": "slides",
    "source_wsi": "slides",
    "group": "groups",
    "split": "splits",
    "fold": "folds",
    "id": "ids",
}


def column(
    images: Images, name: str, *, extra: Mapping[str, NDArray[Any]] | None = None
) -> NDArray[np.object_]:
    """One column of the images table, as text.

    Args:
        name: a key of ``COLUMNS``, or of ``extra``.
        extra: further columns of length M that only the caller knows.

    Returns:
        (M,) object, str.

    Raises:
        InputError: no such column; the message lists those there are.
    """
    further = extra or {}
    if name in further:
        values: Any = further[name]
    elif name in COLUMNS:
        values = getattr(images, COLUMNS[name])
    else:
        known = ", ".join([*COLUMNS, *further])
        raise InputError(f"{name!r} is no column of the images table: use one of {known}")
    return np.array([as_text(value) for value in values], dtype=object)


def as_text(value: Any) -> str:
    """How a value is compared: ``True`` and ``true`` are one, ``2`` and ``"2"`` are one."""
    return str(bool(value)).lower() if isinstance(value, bool | np.bool_) else str(value)
