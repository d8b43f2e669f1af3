"""What a picture can be recognised by: a digest of its pixels, and a small grey copy for pictures that were changed.

The perceptual method: the grey copy is 32 x 32 block means; the signs of its 8 x 8 lowest DCT coefficients are a hash
of 63 bits (Zauner 2010's pHash, with 0 in place of the median). A flip only changes the signs of odd frequencies, so
that all four flips of a picture are compared by the same hash. Pictures whose hashes are close are then compared by the
correlation of their grey copies. Both thresholds stand far from what either side reaches, see the tests.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hubmap_ml.data.images import ImageSource
from hubmap_ml.spec import InputError

FILE = "fingerprints.parquet"
SIDE, FREQUENCIES = 32, 8
MAX_HASH_DISTANCE = 12  # of 63 bits; recompressed copies differ in 6 at most, other pictures in 13 and more
MIN_CORRELATION = 0.9  # recompressed copies have 0.95 and more, other pictures 0.6 at most
MIN_CONTRAST = 1.0  # grey levels; flatter copies hold noise only
BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """Of M images, in the order of the images table.

    Attributes:
        ids: (M,) object, str.
        digests: (M,) object: SHA-256 of height, width and RGB bytes as decoded, whatever the file's format.
        thumbnails: (M, 32, 32) uint8, block means of the grey picture.
        blank: (M,) bool, pictures of one colour: they are alike, and nothing can leak through them.
    """

    ids: NDArray[np.object_]
    digests: NDArray[np.object_]
    thumbnails: NDArray[np.uint8]
    blank: NDArray[np.bool_]

    def __post_init__(self) -> None:
        for field in fields(self):
            if len(getattr(self, field.name)) != len(self.ids):
                raise ValueError(
                    f"{len(self.ids)} fingerprints with {len(getattr(self, field.name))} {field.name}"
                )

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> "Fingerprints":
        """The given rows, in that order."""
        return Fingerprints(*(getattr(self, field.name)[rows] for field in fields(self)))

    @cached_property
    def standardised(self) -> NDArray[np.float32]:
        """(M, 32, 32): grey copies of mean 0 and length 1, all zero where there is no contrast."""
        grey = self.thumbnails.astype(np.float32)
        grey -= grey.mean(axis=(1, 2), keepdims=True)
        deviation = grey.std(axis=(1, 2), keepdims=True)
        scale = np.where(deviation < MIN_CONTRAST, 0, 1 / (np.maximum(deviation, MIN_CONTRAST) * SIDE))
        return np.asarray(grey * scale, np.float32)

    @cached_property
    def signs(self) -> NDArray[np.float32]:
        """(M, 63): the hash as +1 and -1, all 0 where there is no contrast."""
        spectrum = _COSINES @ self.standardised @ _COSINES.T
        signs = np.where(spectrum > 0, 1, -1) * self.standardised.any(axis=(1, 2))[:, None, None]
        return np.asarray(signs.reshape(len(self), FREQUENCIES**2)[:, 1:], np.float32)


def fingerprint(pixels: NDArray[np.uint8]) -> tuple[str, NDArray[np.uint8], bool]:
    """The digest, the grey copy and whether there is only one colour, of an (H, W, 3) RGB picture."""
    import cv2

    whole = hashlib.sha256(f"{pixels.shape[0]}x{pixels.shape[1]}:".encode())
    whole.update(np.ascontiguousarray(pixels).data)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return whole.hexdigest(), np.asarray(small, np.uint8), bool((pixels == pixels[0, 0]).all())


def fingerprint_all(
    ids: Sequence[str],
    sources: Iterable[ImageSource],
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Fingerprints:
    """Read images and take their fingerprints.

    Args:
        ids: (M,) one a source.
        workers: threads; they change nothing in the result.
        progress: called with (images done, images in all).

    Raises:
        InputError: an image that cannot be read.
    """
    found: list[tuple[str, NDArray[np.uint8], bool]] = []
    with ThreadPoolExecutor(workers) as pool:
        for one in pool.map(lambda source: fingerprint(source.read()), sources):
            found.append(one)
            if progress is not None:
                progress(len(found), len(ids))
    return Fingerprints(
        np.array(ids, dtype=object),
        np.array([digest for digest, _, _ in found], dtype=object),
        np.array([small for _, small, _ in found], np.uint8).reshape(-1, SIDE, SIDE),
        np.array([blank for _, _, blank in found], bool),
    )


def near_duplicates(
    prints: Fingerprints, first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pairs that show the same picture, whether recompressed, resized, brightened, flipped or turned upside down.

    Args:
        first, second: rows of ``prints``; no row meets itself.

    Returns:
        (P, 2) int64 rows, one of ``first`` and one of ``second``, sorted; and (P,) 1 minus their correlation.
    """
    found: dict[tuple[int, int], float] = {}
    least = len(_FLIPS[0][1]) - 2 * MAX_HASH_DISTANCE
    others, hashes = prints.standardised[second], prints.signs[second]
    for start in range(0, len(first), BLOCK):
        rows = first[start : start + BLOCK]
        for flipped, changed in _FLIPS:
            a, b = np.nonzero((prints.signs[rows] * changed) @ hashes.T >= least)
            differ = rows[a] != second[b]
            a, b = a[differ], b[differ]
            for part in range(0, len(a), BLOCK):
                one, other = a[part : part + BLOCK], b[part : part + BLOCK]
                turned = prints.standardised[rows[one]][flipped]
                alike = np.einsum("nij,nij->n", turned, others[other], dtype=np.float64)
                for row, column, value in zip(rows[one], second[other], alike, strict=True):
                    if value >= MIN_CORRELATION:
                        pair = int(row), int(column)
                        found[pair] = max(found.get(pair, 0.0), min(1.0, float(value)))
    pairs = sorted(found)
    return (
        np.array(pairs, np.int64).reshape(-1, 2),
        np.array([1 - found[pair] for pair in pairs], np.float64),
    )


def write_fingerprints(folder: Path, prints: Fingerprints) -> None:
    """Write ``fingerprints.parquet``: id, pixel_digest, thumbnail (1024 bytes, row by row), blank."""
    pd.DataFrame(
        {
            "id": prints.ids,
            "pixel_digest": prints.digests,
            "thumbnail": [small.tobytes() for small in prints.thumbnails],
            "blank": prints.blank,
        }
    ).to_parquet(folder / FILE, compression="zstd", index=False)


def read_fingerprints(folder: Path) -> Fingerprints:
    """Read what ``write_fingerprints`` wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        frame = pd.read_parquet(folder / FILE)
        return Fingerprints(
            frame["id"].to_numpy(object),
            frame["pixel_digest"].to_numpy(object),
            np.frombuffer(b"".join(frame["thumbnail"]), np.uint8).reshape(-1, SIDE, SIDE),
            frame["blank"].to_numpy(bool),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / FILE} is missing or damaged ({error}): run prepare again") from None


def _cosines() -> NDArray[np.float32]:
    """The first rows of the orthonormal DCT-II of 32 values, (8, 32)."""
    frequency, place = np.mgrid[:FREQUENCIES, :SIDE]
    rows = np.sqrt(2 / SIDE) * np.cos(np.pi * (2 * place + 1) * frequency / (2 * SIDE))
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, np.float32)


def _flips() -> tuple[tuple[tuple[slice, ...], NDArray[np.float32]], ...]:
    """Each flip as how to index (n, H, W) copies, and the sign that it gives each bit of the hash, (63,)."""
    alternating = (-1.0) ** np.arange(FREQUENCIES)
    flips = []
    for upside_down in (False, True):
        for mirrored in (False, True):
            index = (
                slice(None),
                slice(None, None, -1 if upside_down else 1),
                slice(None, None, -1 if mirrored else 1),
            )
            signs = np.outer(alternating**upside_down, alternating**mirrored)
            flips.append((index, np.asarray(signs.ravel()[1:], np.float32)))
    return tuple(flips)


_COSINES = _cosines()
_FLIPS = _flips()
