"""What a predictor may be given as images, turned into one form: a row of `Images` and a source of pixels."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data.images import OPENCV_SUFFIXES, TIFF_SUFFIXES, ArrayImage, FileImage, ImageSource
from hubmap_ml.instances import Images, read_coco
from hubmap_ml.spec import InputError

IMAGE_SUFFIXES = frozenset(TIFF_SUFFIXES | OPENCV_SUFFIXES)

Named = tuple[Images, ImageSource]
ImageInput = Named | ImageSource | NDArray[np.uint8] | str | Path


def name_images(images: Iterable[ImageInput] | ImageInput) -> Iterator[Named]:
    """Give each image a row of `Images`, reading nothing but sizes, one image at a time.

    Args:
        images: one input or several. An input is a pair (its row of `Images`, source), a source, an (H, W, 3)
            uint8 RGB array, the path of an image, of a folder of images (by name, not below it), or of a COCO
            file (``.json``; file names relative to its folder).

    Yields:
        Pairs in the given order. A path's id is its stem, or the path as given where an earlier image took
        that; a COCO image keeps its id; an array or source becomes ``array_K`` by its position K among the
        inputs.

    Raises:
        InputError: a path that does not exist or is none of these, or the same image twice.
    """
    if isinstance(images, str | Path | np.ndarray | ImageSource):
        images = [images]
    elif isinstance(images, tuple) and len(images) == 2 and isinstance(images[0], Images):
        images = [images]  # one pair
    taken: set[str] = set()
    for position, item in enumerate(images):
        for row, source in _named(item, position, taken):
            name = str(row.ids[0])
            if name in taken:
                raise InputError(f"image {name!r} is given twice (input {position}): ids must differ")
            taken.add(name)
            yield row, source


def image_paths(folder: Path) -> list[Path]:
    """The image files directly in a folder, by name; InputError if there are none."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise InputError(f"folder {folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def _named(item: Any, position: int, taken: set[str]) -> Iterator[Named]:
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], Images):
        yield item[0], item[1]
    elif isinstance(item, np.ndarray):
        source = ArrayImage(item)
        yield _row(f"array_{position}", "", source), source
    elif isinstance(item, str | Path):
        yield from _from_path(str(item), taken)
    elif isinstance(item, ImageSource):
        yield _row(f"array_{position}", "", item), item
    else:
        raise InputError(
            f"input {position} is a {type(item).__name__}: give a path or an H x W x 3 uint8 array"
        )


def _from_path(text: str, taken: set[str]) -> Iterator[Named]:
    path = Path(text)
    if path.suffix.lower() == ".json":
        images = read_coco(path).images
        images = images.replace(original_ids=images.ids)  # inputs of several kinds may come together
        for row in range(len(images)):
            source = FileImage(path.parent / str(images.file_names[row]))
            yield images.take(np.array([row])), source
        return
    for file in image_paths(path) if path.is_dir() else [path]:
        file_source = FileImage(file)
        yield _row(file.stem if file.stem not in taken else str(file), str(file), file_source), file_source


def _row(name: str, file_name: str, source: ImageSource) -> Images:
    return Images.build(ids=[name], heights=[source.height], widths=[source.width], file_names=[file_name])
