"""The table of images: what they are called, how large they are, where they come from. No pixels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from dataclasses import replace as replace_fields
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.instances.ragged import as_rows
from hubmap_ml.spec import InputError

_TEXTS = {
    "file_names": "file_name",
    "datasets": "dataset",
    "slides": "slide",
    "groups": "group",
    "splits": "split",
}


@dataclass(frozen=True)
class Category:
    """A class of objects: the id that files use, and its name."""

    id: int
    name: str


@dataclass(frozen=True, eq=False)
class Images:
    """M images, one row each; every array has length M.

    Attributes:
        ids: object (str), unique.
        original_ids: object, all int or all str: as in the source file.
        file_names: object (str), relative to the root of images; "" unknown.
        heights, widths: int32, pixels.
        datasets, slides, groups, splits: object (str), "" unknown; splits are "train" or "test".
        folds: int16, -1 none.
        positions: int32 (M, 2), the tile's place i, j in its slide; -1 unknown.
    """

    ids: NDArray[np.object_]
    original_ids: NDArray[np.object_]
    file_names: NDArray[np.object_]
    heights: NDArray[np.int32]
    widths: NDArray[np.int32]
    datasets: NDArray[np.object_]
    slides: NDArray[np.object_]
    groups: NDArray[np.object_]
    splits: NDArray[np.object_]
    folds: NDArray[np.int16]
    positions: NDArray[np.int32]

    def __post_init__(self) -> None:
        for field in fields(self):
            if len(getattr(self, field.name)) != len(self.ids):
                raise ValueError(f"{len(self.ids)} images with {len(getattr(self, field.name))} {field.name}")

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def build(*, ids: Sequence[str], heights: ArrayLike, widths: ArrayLike, **optional: Any) -> "Images":
        """A table from its columns; what is not given is unknown.

        Args:
            ids: (M,) text, unique.
            heights, widths: one for all, or (M,); greater than 0.
            optional: any other field of the class; a text or number stands for all rows. ``original_ids`` are
                the ids unless given.

        Raises:
            InputError: an id twice, ids of two types, a size that is not positive.
        """
        names = as_texts(ids, len(ids), "id")
        if len(set(names)) != len(names):
            twice = next(name for name, times in Counter(names).items() if times > 1)
            raise InputError(f"image id {twice!r} occurs twice: ids must be unique")
        n = len(names)
        unknown = set(optional) - {field.name for field in fields(Images)}
        if unknown:
            raise TypeError(f"images have no column {sorted(unknown)[0]!r}")
        tall, wide = (
            np.array(np.broadcast_to(np.asarray(v), (n,)), dtype=np.int32) for v in (heights, widths)
        )
        for name, height, width in zip(names, tall, wide, strict=True):
            if height <= 0 or width <= 0:
                raise InputError(
                    f"image {name!r} has size {width} x {height}: width and height must be positive"
                )
        positions = np.asarray(optional.get("positions", -1), dtype=np.int32)
        return Images(
            ids=names,
            original_ids=_original_ids(optional.get("original_ids"), names),
            heights=tall,
            widths=wide,
            folds=np.array(np.broadcast_to(np.asarray(optional.get("folds", -1)), (n,)), dtype=np.int16),
            positions=np.array(np.broadcast_to(positions, (n, 2)), dtype=np.int32),
            **{name: as_texts(optional.get(name, ""), n, column) for name, column in _TEXTS.items()},
        )

    def replace(self, **columns: Any) -> "Images":
        """The same images with some columns replaced."""
        return replace_fields(self, **columns)

    def take(self, rows: ArrayLike) -> "Images":
        """The given rows (integers or a boolean selection), in that order."""
        picked = as_rows(rows, len(self))
        return Images(**{field.name: getattr(self, field.name)[picked] for field in fields(self)})

    @staticmethod
    def concatenate(parts: Sequence["Images"]) -> "Images":
        """All rows of the parts, one part after the other.

        Raises:
            InputError: an id twice.
        """
        if not parts:
            return Images.build(ids=[], heights=[], widths=[])
        columns = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Images)
        }
        return Images.build(**columns)

    @cached_property
    def _row_of(self) -> Mapping[str, int]:
        return {name: row for row, name in enumerate(self.ids)}

    def rows_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The rows of the given ids, in their order, int64.

        Raises:
            InputError: an id that is not here.
        """
        found = self._row_of
        missing = [name for name in ids if name not in found]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(ids)} images are not in this set of {len(self)}: {missing[0]!r}"
            )
        return np.array([found[name] for name in ids], dtype=np.int64)

    def has(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """For each id whether it is here."""
        return np.array([name in self._row_of for name in ids], dtype=np.bool_)

    def cells(self, side: int) -> NDArray[np.int64]:
        """The square of its slide, ``side`` pixels long, that holds each image's centre: row and column (M, 2)."""
        sizes = np.stack([self.heights, self.widths], axis=1)
        return np.asarray((2 * self.positions.astype(np.int64) + sizes) // (2 * side), np.int64)

    def to_frame(self) -> pd.DataFrame:
        """Columns id, original_id, file_name, height, width, dataset, slide, group, split, fold, i, j."""
        return pd.DataFrame(
            {
                "id": self.ids,
                "original_id": self.original_ids,
                "file_name": self.file_names,
                "height": self.heights,
                "width": self.widths,
                "dataset": self.datasets,
                "slide": self.slides,
                "group": self.groups,
                "split": self.splits,
                "fold": self.folds,
                "i": self.positions[:, 0],
                "j": self.positions[:, 1],
            }
        )

    @staticmethod
    def from_frame(frame: pd.DataFrame) -> "Images":
        """A table with the columns of ``to_frame``; only id, height and width must be there.

        Raises:
            InputError: a missing column, and what ``build`` refuses.
        """
        for column in ("id", "height", "width"):
            if column not in frame.columns:
                raise InputError(
                    f"the table of images has no column {column!r} (it has {', '.join(frame.columns)})"
                )
        optional: dict[str, Any] = {
            name: frame[column] for name, column in _TEXTS.items() if column in frame.columns
        }
        if "original_id" in frame.columns:
            optional["original_ids"] = frame["original_id"].tolist()
        if "fold" in frame.columns:
            optional["folds"] = frame["fold"].to_numpy()
        if {"i", "j"} <= set(frame.columns):
            optional["positions"] = frame[["i", "j"]].to_numpy()
        return Images.build(
            ids=frame["id"].tolist(),
            heights=frame["height"].to_numpy(),
            widths=frame["width"].to_numpy(),
            **optional,
        )


def check_labels(labels: NDArray[np.int16], categories: Sequence[Category]) -> None:
    """Raise InputError unless every label is a position in ``categories``."""
    if len(labels) and (labels.min() < 0 or labels.max() >= len(categories)):
        raise InputError(f"labels from {labels.min()} to {labels.max()} with {len(categories)} categories")


def as_texts(values: Any, length: int, what: str) -> NDArray[np.object_]:
    """Texts as an object array (length,); one text stands for all."""
    out = np.empty(length, dtype=object)
    if isinstance(values, str):
        out[:] = values
        return out
    texts = list(values)
    if len(texts) != length:
        raise ValueError(f"{len(texts)} values of {what!r} for {length} images")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"image {row}: its {what} is {text!r}, expected text")
        out[row] = str(text)
    return out


def _original_ids(values: Any, ids: NDArray[np.object_]) -> NDArray[np.object_]:
    out = np.empty(len(ids), dtype=object)
    if values is None:
        out[:] = ids
        return out
    plain = [int(v) if isinstance(v, int | np.integer) else v for v in values]
    if len(plain) != len(ids):
        raise ValueError(f"{len(plain)} original ids for {len(ids)} images")
    kinds = {type(value) for value in plain}
    if not kinds <= {int} and not kinds <= {str}:
        raise InputError(
            f"original image ids must be all whole numbers or all text, found {sorted(map(str, kinds))}"
        )
    out[:] = plain
    return out
