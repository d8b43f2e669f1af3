"""LIVECell (Edlund et al. 2021): COCO files whose annotations may be a mapping, images in folders by cell type or flat.

An image's id is its file name without suffix. Its dataset is the end of its COCO file's name (``train`` of
livecell_coco_train.json), so that pools can tell train, val and test apart; all of them have annotations and are
training images here. From names like ``A172_Phase_A7_1_00d00h00m_1.tif`` the group is type and well (``a172_A7``).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from hubmap_ml.data.assembly import Converted, Entry, Progress, assemble, require_raw
from hubmap_ml.data.classes import Classes
from hubmap_ml.data.coco_files import Reading, make_masks, read_coco_file, size_of, take_file, text
from hubmap_ml.data.images import OPENCV_SUFFIXES, TIFF_SUFFIXES
from hubmap_ml.data.listing import files_below
from hubmap_ml.spec import InputError
from hubmap_ml.spec.data_options import LivecellOptions, LivecellPart

_NAME = re.compile(r"([A-Za-z0-9]+)_Phase_([A-Z][0-9]+)_")


def convert(
    raw: Path,
    *,
    types: Sequence[str],
    workers: int = 1,
    max_rejected: float = 0.01,
    progress: Progress | None = None,
    options: LivecellOptions | None = None,
) -> Converted:
    """Read a raw folder. Images come in the order of the files (by path) and of their records.

    Args:
        raw: the folder that holds COCO files and images, at any depth.
        types: names of categories, or cell types in lower case (``options.classes``).
        workers: threads; they change nothing in the result.
        max_rejected: share of annotations, and of images, that may be left out before this stops.
        progress: called with (images done, images in all).
        options: of the experiment file.

    Raises:
        InputError: no COCO file, one that is none, a type that occurs nowhere, an image that cannot be read, or too
            many rejected records.
    """
    options = options or LivecellOptions()
    classes = Classes.of(types, options.ignore)
    require_raw(raw, workers)
    by_type = options.classes == "cell_type"
    reading = read(
        raw,
        classes,
        annotations=options.annotations or _found_below(raw),
        images=options.images,
        type_of=lambda entry, category: cell_type(entry.id) if by_type else category,
        dataset_of=lambda name: Path(name).stem.rsplit("_", 1)[-1],
    )
    classes.require(reading.counts, raw)
    return assemble(
        raw,
        reading.plan(),
        make_masks,
        classes=classes,
        options=options,
        workers=workers,
        max_rejected=max_rejected,
        progress=progress,
    )


def read_beside(raw: Path, part: LivecellPart, classes: Classes, dataset: str) -> Reading:
    """LIVECell below the raw folder of another competition, as one data set more.

    Args:
        raw: the other competition's folder.
        part: where it lies, and which of its cell types stand for which annotation types; others are left out.
        classes: of the experiment.
        dataset: its images' data set.

    Raises:
        InputError: no COCO file there, or none of the named cell types in it.
    """
    reading = read(
        raw,
        classes,
        annotations=[f"{part.folder}/{name}" for name in _found_below(raw / part.folder)],
        images=part.folder,
        type_of=lambda entry, category: part.types.get(
            cell_type(entry.id), f"{cell_type(entry.id)} of LIVECell"
        ),
        dataset_of=lambda name: dataset,
    )
    missing = [kind for kind in part.types if kind not in {cell_type(image) for image in reading.entries}]
    if missing:
        raise InputError(
            f"{raw / part.folder} has no image of {missing[0]!r}, which data.options.livecell.types names; there are "
            f"{', '.join(sorted({cell_type(image) for image in reading.entries})) or 'none'}"
        )
    return reading


def read(
    raw: Path,
    classes: Classes,
    *,
    annotations: Sequence[str],
    images: str,
    type_of: Callable[[Entry, str], str],
    dataset_of: Callable[[str], str],
) -> Reading:
    """Entries and records of several COCO files, by their order.

    Args:
        annotations: the files, relative to ``raw``.
        images: the folder below which pictures are looked for by name, relative to ``raw``.
        type_of: an annotation's type from its image and its category.
        dataset_of: the images' data set from their COCO file's name.
    """
    pictures: dict[str, list[str]] = {}
    for path in files_below(raw / images, TIFF_SUFFIXES | OPENCV_SUFFIXES):
        pictures.setdefault(path.name, []).append(path.relative_to(raw).as_posix())
    reading = Reading()
    for name in annotations:

        def entry(record: Mapping[str, Any], original: int | str, name: str = name) -> Entry:
            return _entry(record, pictures, dataset=dataset_of(name))

        take_file(reading, read_coco_file(raw / name, name), classes, make_entry=entry, type_of=type_of)
    return reading


def cell_type(image: str) -> str:
    """The cell type that a file name begins with, in lower case.

    Example:
        >>> cell_type("SkBr3_Phase_A7_1_00d00h00m_1")
        'skbr3'
    """
    return image.split("_", 1)[0].lower()


def _found_below(raw: Path) -> list[str]:
    found = [path for path in files_below(raw, {".json"}) if path.name.startswith("livecell_coco_")]
    if not found:
        raise InputError(
            f"{raw} holds no livecell_coco_*.json: name the COCO files in data.options.annotations"
        )
    return [path.relative_to(raw).as_posix() for path in found]


def _entry(record: Mapping[str, Any], pictures: Mapping[str, Sequence[str]], *, dataset: str) -> Entry:
    file_name = text(record, "file_name")
    path = PurePosixPath(file_name)
    found = pictures.get(path.name, ())
    if len(found) > 1:  # the folders that the record names decide
        found = [place for place in found if PurePosixPath(place).parts[-len(path.parts) :] == path.parts]
    if len(found) != 1:
        raise InputError(f"{'no file' if not found else 'several files'} of the name {file_name!r}")
    named = _NAME.match(path.name)
    return Entry(
        id=path.stem,
        file_name=found[0],
        dataset=dataset,
        group=f"{named[1].lower()}_{named[2]}" if named else "",
        size=size_of(record),
    )
