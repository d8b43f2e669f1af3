"""Masks as Arrow columns and back. The crops and words lie in the file as they lie in memory, a row each.

Columns: ``mask_kind`` (0 soft, 1 bits, 2 none); of soft ones ``soft_height``, ``soft_width``, the crop's box
``soft_x0`` … ``soft_y1`` and ``soft_values``; of bits ``window_x0``, ``window_word0``, ``window_columns``,
``window_words`` and ``words`` (little-endian uint64).
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubmap_ml.instances.bit_masks import BitMasks
from hubmap_ml.instances.masks import BITS, SOFT, Masks
from hubmap_ml.instances.ragged import offsets_of
from hubmap_ml.instances.soft_masks import SoftMasks

NO_MASK = 2
_SHAPE = ("soft_height", "soft_width")
_BOX = ("soft_x0", "soft_y0", "soft_x1", "soft_y1")
_WINDOW = ("window_x0", "window_word0", "window_columns", "window_words")

MASK_FIELDS = (
    pa.field("mask_kind", pa.uint8()),
    *(pa.field(name, pa.int32()) for name in _SHAPE),
    *(pa.field(name, pa.float32()) for name in _BOX),
    pa.field("soft_values", pa.large_binary()),
    *(pa.field(name, pa.int32()) for name in _WINDOW),
    pa.field("words", pa.large_binary()),
)


def masks_to_columns(masks: Masks | None, length: int) -> dict[str, pa.Array]:
    """One Arrow array (N,) for each of ``MASK_FIELDS``."""
    if masks is None:
        columns = masks_to_columns(Masks.from_bits(BitMasks.empty(length)), length)
        return {**columns, "mask_kind": pa.array(np.full(length, NO_MASK, np.uint8))}
    soft, bits = masks.kind == SOFT, masks.kind == BITS
    out: dict[str, pa.Array] = {"mask_kind": pa.array(masks.kind)}
    for k, name in enumerate(_SHAPE):
        out[name] = pa.array(_spread(masks.soft.shapes[:, k], soft))
    for k, name in enumerate(_BOX):
        out[name] = pa.array(_spread(masks.soft.boxes[:, k], soft))
    out["soft_values"] = _binary(masks.soft.values, _spread(np.diff(masks.soft.offsets), soft))
    for k, name in enumerate(_WINDOW):
        out[name] = pa.array(_spread(masks.bits.windows[:, k], bits))
    words = masks.bits.words.astype("<u8", copy=False)
    out["words"] = _binary(words, _spread(8 * np.diff(masks.bits.offsets), bits))
    return out


def masks_from_table(table: pa.Table) -> Masks:
    """Masks (N,) of a table with ``MASK_FIELDS``."""
    kind = column(table, "mask_kind").astype(np.uint8)
    soft, bits = kind == SOFT, kind == BITS
    values, _ = _bytes(table, "soft_values")
    shapes = np.stack([column(table, name)[soft] for name in _SHAPE], axis=1).astype(np.int32)
    soft_masks = SoftMasks(
        values=values,
        offsets=offsets_of(shapes.astype(np.int64).prod(axis=1)),
        shapes=shapes,
        boxes=np.stack([column(table, name)[soft] for name in _BOX], axis=1).astype(np.float32),
    )
    windows = np.stack([column(table, name)[bits] for name in _WINDOW], axis=1).astype(np.int32)
    packed, _ = _bytes(table, "words")
    words = packed.view("<u8").astype(np.uint64, copy=False)
    bit_masks = BitMasks(words, offsets_of(windows[:, 2:].astype(np.int64).prod(axis=1)), windows)
    index = np.where(soft, np.cumsum(soft), np.cumsum(bits)) - 1
    return Masks(kind, index, soft_masks, bit_masks)


def column(table: pa.Table, name: str) -> NDArray[Any]:
    """A column of plain values as an array of its own."""
    return np.array(table.column(name).to_numpy())


def lists(table: pa.Table, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A column of int64 lists: all values and the offsets of the rows (N + 1,)."""
    rows = table.column(name).combine_chunks()
    lengths = rows.value_lengths().to_numpy(zero_copy_only=False)
    return np.asarray(rows.flatten().to_numpy(), dtype=np.int64), offsets_of(lengths)


def _spread(values: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[Any]:
    out = np.zeros(len(where), dtype=values.dtype)
    out[where] = values
    return out


def _binary(values: NDArray[Any], lengths: NDArray[np.int64]) -> pa.Array:
    """Flat values cut into rows of so many bytes, without a copy."""
    buffers = [None, pa.py_buffer(offsets_of(lengths)), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.large_binary(), len(lengths), buffers)


def _bytes(table: pa.Table, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rows = table.column(name).combine_chunks()
    if isinstance(rows, pa.ChunkedArray):
        rows = pa.concat_arrays(rows.chunks) if rows.num_chunks else pa.array([], pa.large_binary())
    _, offset_buffer, data = rows.buffers()
    if len(rows) == 0 or data is None:
        return np.zeros(0, np.uint8), np.zeros(len(rows) + 1, np.int64)
    offsets = np.frombuffer(offset_buffer, dtype=np.int64)[rows.offset : rows.offset + len(rows) + 1]
    # a copy: Arrow's memory is read-only, and every kernel would be compiled a second time for that
    return np.frombuffer(data, dtype=np.uint8)[offsets[0] : offsets[-1]].copy(), offsets - offsets[0]
