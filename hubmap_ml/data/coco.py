"""A COCO json and a folder of images as raw data.

What COCO has no place for may stand in an image's record as our own files have it: ``dataset``, ``slide``, ``group``,
``split`` ("train" or "test") and the position ``i``, ``j``. Annotations of test images are not read: nothing may be
chosen by them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from hubmap_ml.data.assembly import Converted, Entry, Progress, assemble, require_raw
from hubmap_ml.data.classes import Classes
from hubmap_ml.data.coco_files import (
    Reading,
    make_masks,
    position_of,
    read_coco_file,
    size_of,
    take_file,
    text,
)
from hubmap_ml.data.synthetic import HIDDEN_TRUTH
from hubmap_ml.spec import InputError
from hubmap_ml.spec.data_options import CocoOptions


def convert(
    raw: Path,
    *,
    types: Sequence[str],
    workers: int = 1,
    max_rejected: float = 0.01,
    progress: Progress | None = None,
    options: CocoOptions | None = None,
) -> Converted:
    """Read a raw folder. Images come in the file's order, training images first; their ids are the file's, as text.

    Args:
        raw: the folder that holds the json and the images.
        types: names of categories, which become categories 0, 1, … in this order.
        workers: threads; they change nothing in the result.
        max_rejected: share of annotations, and of images, that may be left out before this stops.
        progress: called with (images done, images in all).
        options: of the experiment file.

    Raises:
        InputError: no file or several to choose from, no COCO file, a type that occurs nowhere, an image that cannot be
            read, or too many rejected records.
    """
    options = options or CocoOptions()
    classes = Classes.of(types, options.ignore)
    require_raw(raw, workers)
    name = options.annotations or _only_json(raw)
    reading = Reading()
    file = read_coco_file(raw / name, name)
    take_file(reading, file, classes, make_entry=lambda r, o: _entry(raw, options.images, r, o))
    classes.require(reading.counts, raw / name)
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


def _only_json(raw: Path) -> str:
    found = sorted(path.name for path in raw.glob("*.json") if path.name != HIDDEN_TRUTH)
    if len(found) != 1:
        raise InputError(
            f"{raw} holds {len(found)} json files ({', '.join(found[:5]) or 'none'}): name the COCO file in "
            f"data.options.annotations"
        )
    return found[0]


def _entry(raw: Path, folder: str, record: Mapping[str, Any], original: int | str) -> Entry:
    file_name = text(record, "file_name")
    path = PurePosixPath(folder) / file_name
    if not file_name or path.is_absolute() or ".." in path.parts:
        raise InputError(f"its file_name {file_name!r} is no path inside the folder of images")
    try:
        there = (raw / path).is_file()
    except OSError:  # a name longer than a file system allows
        there = False
    if not there:
        raise InputError(f"there is no file {file_name[:80]!r}")
    split = text(record, "split") or "train"
    if split not in ("train", "test"):
        raise InputError(f"its split is {split!r}, expected train or test")
    return Entry(
        id=str(original),
        file_name=str(path),
        split=split,
        dataset=text(record, "dataset"),
        slide=text(record, "slide"),
        group=text(record, "group") or text(record, "slide"),
        original_id=original,
        position=position_of(record),
        size=size_of(record),
    )
