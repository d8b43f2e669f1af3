"""Ragged rows in one flat array: row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

Picking and joining rows, and nothing about what the values mean.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.instances.compiled import compiled

Rows = NDArray[np.int64]


def offsets_of(lengths: ArrayLike) -> NDArray[np.int64]:
    """Offsets (N + 1,) of rows with the given lengths (N,)."""
    lengths = np.asarray(lengths, dtype=np.int64)
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def as_rows(rows: ArrayLike, length: int) -> Rows:
    """Row numbers from integers, a slice's array or a boolean selection; checked to lie in ``[0, length)``.

    Raises:
        IndexError: a row outside, or a selection of another length.
    """
    picked = np.asarray(rows)
    if picked.dtype == np.bool_:
        if picked.shape != (length,):
            raise IndexError(f"a selection of shape {picked.shape} over {length} rows")
        return np.flatnonzero(picked).astype(np.int64)
    if picked.size == 0:
        return np.zeros(0, dtype=np.int64)
    if picked.ndim != 1 or not np.issubdtype(picked.dtype, np.integer):
        raise IndexError(f"rows must be a list of integers, not {picked.dtype} of shape {picked.shape}")
    if picked.min() < 0 or picked.max() >= length:
        raise IndexError(f"rows from {picked.min()} to {picked.max()} of a structure with {length}")
    return picked.astype(np.int64)


def take_ragged(values: NDArray[Any], offsets: Rows, rows: Rows) -> tuple[NDArray[Any], Rows]:
    """Values and offsets of the given rows; a view, not a copy, where the rows follow each other."""
    if len(rows) == 0:
        return values[:0], np.zeros(1, dtype=np.int64)
    if rows[-1] - rows[0] + 1 == len(rows) and bool(np.all(np.diff(rows) == 1)):
        part = offsets[rows[0] : rows[-1] + 2]
        return values[part[0] : part[-1]], part - part[0]
    new_offsets = offsets_of(offsets[rows + 1] - offsets[rows])
    out = np.empty(int(new_offsets[-1]), dtype=values.dtype)
    _copy_rows(np.ascontiguousarray(values), offsets, rows, out, new_offsets)
    return out, new_offsets


def concatenate_ragged(parts: Sequence[tuple[NDArray[Any], Rows]]) -> tuple[NDArray[Any], Rows]:
    """The rows of all parts, one part after the other (at least one part)."""
    values = np.concatenate([values for values, _ in parts])
    return values, offsets_of(np.concatenate([np.diff(offsets) for _, offsets in parts]))


def rows_of_groups(
    offsets: NDArray[np.int64], groups: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of the chosen groups, group after group, and their offsets."""
    new_offsets = offsets_of(offsets[groups + 1] - offsets[groups])
    starts = np.repeat(offsets[groups] - new_offsets[:-1], np.diff(new_offsets))
    return np.arange(new_offsets[-1], dtype=np.int64) + starts, new_offsets


def check_offsets(offsets: NDArray[np.int64], groups: int, rows: int) -> None:
    """Raise ValueError unless the offsets cut ``rows`` rows into ``groups`` groups."""
    fits = (
        len(offsets) == groups + 1
        and offsets[0] == 0
        and offsets[-1] == rows
        and not np.any(np.diff(offsets) < 0)
    )
    if not fits:
        raise ValueError(f"offsets that do not cut {rows} rows into {groups} groups")


@compiled
def _copy_rows(values: Any, offsets: Any, rows: Any, out: Any, new_offsets: Any) -> None:
    for k in range(len(rows)):
        source, length = offsets[rows[k]], new_offsets[k + 1] - new_offsets[k]
        out[new_offsets[k] : new_offsets[k + 1]] = values[source : source + length]
