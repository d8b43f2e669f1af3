"""Data Science Bowl 2018 (BBBC038): a folder for each image, with images/IMAGE_ID.png, and masks/ with a png a mask.

There are no types: the one class is called as the experiment says. Nothing is known of slides or groups. The test
folder may be absent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hubmap_ml.data.assembly import Converted, Entry, Plan, Progress, Record, assemble, require_raw
from hubmap_ml.data.classes import Classes
from hubmap_ml.data.images import OPENCV_SUFFIXES, TIFF_SUFFIXES, read_image
from hubmap_ml.data.rejected import Rejected
from hubmap_ml.instances import BitMasks
from hubmap_ml.spec import InputError
from hubmap_ml.spec.data_options import Dsb2018Options

_PICTURES = TIFF_SUFFIXES | OPENCV_SUFFIXES


@dataclass
class _Found:
    entries: list[Entry] = field(default_factory=list)
    records: dict[str, list[Record]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    strays: list[Rejected] = field(default_factory=list)


def convert(
    raw: Path,
    *,
    types: Sequence[str],
    workers: int = 1,
    max_rejected: float = 0.01,
    progress: Progress | None = None,
    options: Dsb2018Options | None = None,
) -> Converted:
    """Read a raw folder. Images come by the names of their folders, training images first.

    Args:
        raw: the folder that holds stage1_train/ (``options.train``).
        types: the one class's name.
        workers: threads; they change nothing in the result.
        max_rejected: share of masks, and of training images, that may be left out before this stops.
        progress: called with (images done, images in all).
        options: of the experiment file.

    Raises:
        InputError: no training folder, several types, an image that is in both folders or cannot be read, or too many
            rejected masks.
    """
    options = options or Dsb2018Options()
    classes = Classes.of(types)
    require_raw(raw, workers)
    if len(types) != 1:
        raise InputError(
            f"data.types is {list(types)}: dsb2018 knows one class, name it (for example nucleus)"
        )
    if not (raw / options.train).is_dir():
        raise InputError(
            f"{raw / options.train} does not exist: name the folder of training images in data.options.train"
        )
    train, test = _Found(), _Found()
    _list_folder(raw, options.train, "train", types[0], train)
    _list_folder(raw, options.test, "test", types[0], test)
    ids = {entry.id for entry in train.entries}
    both = [entry.id for entry in test.entries if entry.id in ids]
    if both:
        raise InputError(f"image {both[0]} is in {options.train}/ and in {options.test}/ of {raw}: keep one")
    if test.strays:
        first = test.strays[0]
        raise InputError(f"{raw / first.file}: {first.reason}; correct the test folder")

    def read(
        entry: Entry, records: Sequence[Record], height: int, width: int
    ) -> tuple[BitMasks, list[str | None]]:
        return _read_masks(raw, records, height, width)

    plan = Plan(
        [*train.entries, *test.entries],
        train.records,
        train.rejected,
        train.strays,
        {"masks of test images": sum(map(len, test.records.values())) + len(test.rejected)},
        "training images",
    )
    return assemble(
        raw,
        plan,
        read,
        classes=classes,
        options=options,
        workers=workers,
        max_rejected=max_rejected,
        progress=progress,
    )


def _list_folder(raw: Path, name: str, split: str, kind: str, found: _Found) -> None:
    top = raw / name
    if not top.is_dir():
        return
    for folder in sorted(path for path in top.iterdir() if not path.name.startswith(".")):
        place = f"{name}/{folder.name}"
        if not folder.is_dir():
            found.strays.append(Rejected(place, "the file", "images have a folder each", 0))
            continue
        pictures = _files(folder / "images")
        masks = _files(folder / "masks")
        if len(pictures) != 1 or pictures[0].suffix.lower() not in _PICTURES:
            reason = f"its folder images/ holds {len(pictures)} files, expected one picture"
            found.strays.append(Rejected(place, "the image", reason, len(masks)))
            continue
        found.entries.append(
            Entry(folder.name, f"{place}/images/{pictures[0].name}", split=split, dataset=split)
        )
        for mask in masks:
            where = f"{place}/masks/{mask.name}"
            if mask.suffix.lower() in _PICTURES:
                found.records.setdefault(folder.name, []).append(Record(kind, mask, where, "the mask"))
            else:
                found.rejected.append(
                    Rejected(where, "the mask", "it is no picture (its name must end in .png)")
                )


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _read_masks(
    raw: Path, records: Sequence[Record], height: int, width: int
) -> tuple[BitMasks, list[str | None]]:
    masks, reasons = [], list[str | None]()
    for record in records:
        mask, reason = BitMasks.empty(1), None
        try:
            pixels = read_image(record.geometry)
            if pixels.shape[:2] == (height, width):
                mask = BitMasks.from_dense([np.asarray(pixels.any(axis=2))])
            else:
                tall, wide = pixels.shape[:2]
                reason = f"it is {wide} x {tall} pixels (width x height), its image {width} x {height}"
        except InputError as error:
            reason = str(error)
        masks.append(mask)
        reasons.append(reason)
    return BitMasks.concatenate(masks), reasons
