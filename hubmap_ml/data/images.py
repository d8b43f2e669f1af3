"""Reading pixels: one function for files, one protocol for whatever can give pixels by window.

Everything above this module sees height x width x 3 uint8 RGB. Slides read by tile come as another
``ImageSource``.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.spec import InputError

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
OPENCV_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})

T = TypeVar("T")


class Window(NamedTuple):
    """A rectangle of pixels, half-open, in image pixels like a box (x to the right, y down)."""

    x0: int
    y0: int
    x1: int
    y1: int


@runtime_checkable
class ImageSource(Protocol):
    """Pixels that can be read by window; nothing that uses one assumes that the whole fits in memory."""

    @property
    def height(self) -> int:
        """Rows of pixels."""

    @property
    def width(self) -> int:
        """Columns of pixels."""

    def read(self, window: Window | None = None) -> NDArray[np.uint8]:
        """The pixels of a window, or all of them.

        Returns:
            (y1 - y0, x1 - x0, 3) uint8, RGB.

        Raises:
            ValueError: the window is empty or leaves the image.
        """


@dataclass(frozen=True)
class FileImage:
    """An image file; its size is read when first asked for, its pixels at every ``read``."""

    path: Path

    @property
    def height(self) -> int:
        return self._size[0]

    @property
    def width(self) -> int:
        return self._size[1]

    def read(self, window: Window | None = None) -> NDArray[np.uint8]:
        return read_image(self.path, window)

    @cached_property
    def _size(self) -> tuple[int, int]:
        return read_size(self.path)


@dataclass(frozen=True, eq=False)
class ArrayImage:
    """An image that is in memory: (H, W, 3) uint8 RGB, or grey (H, W) or (H, W, 1)."""

    array: NDArray[np.uint8]

    def __post_init__(self) -> None:
        object.__setattr__(self, "array", _as_rgb(np.asarray(self.array), "the array"))

    @property
    def height(self) -> int:
        return int(self.array.shape[0])

    @property
    def width(self) -> int:
        return int(self.array.shape[1])

    def read(self, window: Window | None = None) -> NDArray[np.uint8]:
        return _crop(self.array, window, "the array")


def read_image(path: Path, window: Window | None = None) -> NDArray[np.uint8]:
    """Read an image file as RGB.

    TIFF through tifffile, PNG and JPEG through OpenCV. Grey becomes three equal channels, an alpha channel is
    dropped. A window saves memory afterwards, not while reading: the file is decoded whole.

    Args:
        path: a file whose name ends in .tif, .tiff, .png, .jpg or .jpeg.
        window: the part wanted, inside the image.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        InputError: the file is missing, cut short, damaged, of another kind, or not 8 bits a channel.
        ValueError: the window is empty or leaves the image.
    """
    return _crop(decode_image(_read_bytes(path), path), window, str(path))


def decode_image(content: bytes, path: Path) -> NDArray[np.uint8]:
    """Decode the bytes of an image file; ``path`` says its kind and names it in errors (``read_image``)."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        return _decode_tiff(content, path)
    if path.suffix.lower() in OPENCV_SUFFIXES:
        return _decode_opencv(content, path)
    known = ", ".join(sorted(TIFF_SUFFIXES | OPENCV_SUFFIXES))
    raise InputError(f"{path} is no image that can be read: its name must end in one of {known}")


def read_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file in pixels; of a TIFF only the header is read.

    Raises:
        InputError: as ``read_image``.
    """
    if path.suffix.lower() not in TIFF_SUFFIXES:
        height, width = read_image(path).shape[:2]
        return int(height), int(width)
    _require_file(path)

    def size(page: Any) -> tuple[int, int]:
        return int(page.imagelength), int(page.imagewidth)

    return _with_first_page(path, path.stat().st_size, path, size)


def _read_bytes(path: Path) -> bytes:
    _require_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"image file {path} does not exist: check the folder and the name")


def _decode_opencv(content: bytes, path: Path) -> NDArray[np.uint8]:
    import cv2

    # OpenCV fills the missing rest of a cut file with grey and says nothing: look for the format's own end.
    ends = {".png": b"IEND\xaeB`\x82"}.get(path.suffix.lower(), b"\xff\xd9")
    if ends not in content[-64:]:
        raise InputError(f"{path} is cut short (no end-of-image mark): fetch it again")
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise InputError(f"{path} cannot be decoded as an image: fetch it again or convert it")
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        pixels = pixels[:, :, [2, 1, 0]]  # OpenCV gives blue first
    return _as_rgb(pixels, str(path))


def _decode_tiff(content: bytes, path: Path) -> NDArray[np.uint8]:
    import tifffile

    def pixels(page: Any) -> NDArray[Any]:
        kind = page.photometric
        if kind not in (
            tifffile.PHOTOMETRIC.RGB,
            tifffile.PHOTOMETRIC.MINISBLACK,
            tifffile.PHOTOMETRIC.YCBCR,  # decoded to RGB
        ):
            raise InputError(
                f"{path} stores {getattr(kind, 'name', kind)} colours: convert it to 8-bit RGB or grey"
            )
        array: NDArray[Any] = page.asarray()
        separate = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and array.ndim == 3
        return np.moveaxis(array, 0, -1) if separate else array

    return _as_rgb(_with_first_page(io.BytesIO(content), len(content), path, pixels), str(path))


def _with_first_page(file: Any, size: int, path: Path, read: Callable[[Any], T]) -> T:
    """Open a TIFF, see that all of its first page is there, and read something from it."""
    import tifffile

    try:
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages.first
            ends = [
                start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)
            ]
            if not ends or max(ends) > size or min(page.databytecounts) <= 0:
                raise InputError(
                    f"{path} is cut short ({size} bytes, {max(ends, default=0)} expected): fetch it again"
                )
            return read(page)
    except InputError:
        raise
    # A damaged file makes tifffile and the codecs raise almost anything: struct.error, IndexError, others.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise InputError(f"{path} is cut short or damaged ({reason}): fetch it again") from error


def _as_rgb(array: NDArray[Any], where: str) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise InputError(f"{where} holds {array.dtype} values: convert it to 8 bits a channel")
    if array.ndim == 3 and array.shape[2] in (1, 2):
        array = array[:, :, 0]
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] not in (3, 4) or 0 in array.shape:
        raise InputError(f"{where} has the shape {array.shape}: an image is height x width, grey or RGB")
    return np.ascontiguousarray(array[:, :, :3])


def _crop(array: NDArray[np.uint8], window: Window | None, where: str) -> NDArray[np.uint8]:
    if window is None:
        return array
    x0, y0, x1, y1 = window
    height, width = array.shape[:2]
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(
            f"window {tuple(window)} is empty or leaves {where}, which is {width} wide and {height} high"
        )
    return np.ascontiguousarray(array[y0:y1, x0:x1])
