"""Masks of either kind in one list: soft where only the network spoke, bits where pixels are decided."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.instances.bit_masks import BitMasks, per_row
from hubmap_ml.instances.ragged import as_rows
from hubmap_ml.instances.soft_masks import SoftMasks

SOFT = 0
BITS = 1


@dataclass(frozen=True, eq=False)
class Masks:
    """N masks, each soft or bits.

    Attributes:
        kind: uint8 (N,), ``SOFT`` or ``BITS``.
        index: int64 (N,), the mask's row in ``soft`` or ``bits``; ascending among the rows of a kind.
        soft: the soft ones.
        bits: the others.
    """

    kind: NDArray[np.uint8]
    index: NDArray[np.int64]
    soft: SoftMasks
    bits: BitMasks

    def __post_init__(self) -> None:
        for kind, masks in ((SOFT, self.soft), (BITS, self.bits)):
            rows = self.index[self.kind == kind]
            if not np.array_equal(rows, np.arange(len(masks))):
                raise ValueError("masks whose rows do not count through their soft and bit masks in order")
        if len(self.kind) != len(self.index) or len(self.index) != len(self.soft) + len(self.bits):
            raise ValueError("masks of unknown kind, or kinds and rows of different number")

    def __len__(self) -> int:
        return len(self.kind)

    @staticmethod
    def from_soft(soft: SoftMasks) -> "Masks":
        return Masks(np.full(len(soft), SOFT, np.uint8), np.arange(len(soft)), soft, BitMasks.empty())

    @staticmethod
    def from_bits(bits: BitMasks) -> "Masks":
        return Masks(np.full(len(bits), BITS, np.uint8), np.arange(len(bits)), SoftMasks.empty(), bits)

    @staticmethod
    def empty() -> "Masks":
        return Masks.from_bits(BitMasks.empty())

    @property
    def all_bits(self) -> bool:
        """Whether every mask is decided pixels."""
        return len(self.soft) == 0

    def take(self, rows: ArrayLike) -> "Masks":
        """The given rows (integers or a boolean selection), in that order."""
        picked = as_rows(rows, len(self))
        kind, index = self.kind[picked], self.index[picked]
        soft = self.soft.take(index[kind == SOFT])
        return Masks(kind, _count_through(kind), soft, self.bits.take(index[kind == BITS]))

    @staticmethod
    def concatenate(parts: Sequence["Masks"]) -> "Masks":
        """All rows of the parts, one part after the other."""
        if not parts:
            return Masks.empty()
        kind = np.concatenate([part.kind for part in parts])
        soft = SoftMasks.concatenate([part.soft for part in parts])
        bits = BitMasks.concatenate([part.bits for part in parts])
        return Masks(kind, _count_through(kind), soft, bits)

    def binarize(self, thresholds: ArrayLike, heights: ArrayLike, widths: ArrayLike) -> BitMasks:
        """Every mask as bits: soft ones by ``SoftMasks.binarize``, bits as they are.

        Args:
            thresholds: one for all, or (N,); in (0, 1]; looked at for soft masks only.
            heights, widths: image sizes, one for all or (N,).

        Returns:
            N bit masks in the order of the rows.
        """
        if self.all_bits:
            return self.bits
        n = len(self)
        soft = self.kind == SOFT
        decided = self.soft.binarize(
            per_row(thresholds, n, np.float32)[soft],
            per_row(heights, n, np.int64)[soft],
            per_row(widths, n, np.int64)[soft],
        )
        if len(self.bits) == 0:
            return decided
        both = BitMasks.concatenate([decided, self.bits])
        return both.take(np.where(soft, self.index, len(decided) + self.index))


def _count_through(kind: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For each row, how many rows of its kind come before it."""
    soft = kind == SOFT
    return np.where(soft, np.cumsum(soft), np.cumsum(~soft)) - 1
