"""Connected parts of bit masks, and their holes: counted, filled, thrown out. By runs, never as a dense image.

Connectivity is 4 (pixels that share a side) or 8 (corners, too). A hole is background that does not reach the image's
edge: what ``scipy.ndimage.binary_fill_holes`` fills.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances.bit_masks import BitMasks
from hubmap_ml.instances.component_kernels import FILL, KEEP_LARGE, KEEP_LARGEST, changed, counted
from hubmap_ml.spec import InputError

Connectivity = Literal[4, 8]
_NO_LIMIT = np.iinfo(np.int64).max


def fill_holes(bits: BitMasks, *, max_area: float | None = None, connectivity: Connectivity = 4) -> BitMasks:
    """Add the background that each mask encloses.

    Args:
        bits: N masks.
        max_area: only holes of at most so many pixels; all by default.
        connectivity: of the background: with 4 a ring whose pixels touch by corners encloses its inside, with 8 not.

    Returns:
        N masks.

    Raises:
        InputError: another connectivity.
    """
    limit = _NO_LIMIT if max_area is None else int(np.floor(max_area))
    return _changed(bits, connectivity, FILL, limit)


def largest_component(bits: BitMasks, *, connectivity: Connectivity = 8) -> BitMasks:
    """Keep the largest part of each mask; of equal ones that whose first pixel comes first, columns before rows.

    Args:
        bits: N masks.
        connectivity: of a part's pixels.
    """
    return _changed(bits, connectivity, KEEP_LARGEST, 0)


def without_small_components(bits: BitMasks, min_area: float, *, connectivity: Connectivity = 8) -> BitMasks:
    """Remove the parts of each mask that have fewer than ``min_area`` pixels; a mask may end empty.

    Args:
        bits: N masks.
        min_area: pixels a part needs to stay.
        connectivity: of a part's pixels.
    """
    return _changed(bits, connectivity, KEEP_LARGE, int(np.ceil(min_area)))


def count_components(bits: BitMasks, *, connectivity: Connectivity = 8) -> NDArray[np.int64]:
    """Return how many parts each mask has, (N,); 0 for an empty one."""
    words = np.ascontiguousarray(bits.words)
    return np.asarray(counted(words, bits.offsets, bits.windows, _diagonal(connectivity)))


def _changed(bits: BitMasks, connectivity: Connectivity, rule: int, limit: int) -> BitMasks:
    words = np.ascontiguousarray(bits.words)
    return BitMasks(*changed(words, bits.offsets, bits.windows, _diagonal(connectivity), rule, limit))


def _diagonal(connectivity: Connectivity) -> bool:
    if connectivity not in (4, 8):
        raise InputError(f"a connectivity of {connectivity!r}: 4 (sides) or 8 (sides and corners)")
    return connectivity == 8
