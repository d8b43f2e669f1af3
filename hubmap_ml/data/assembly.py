"""From what a raw format's files say to images and annotations: the part that all formats share.

A reader turns its tables into a ``Plan`` and knows how to make masks of its records; here images are decoded and
digested, masks made, bad images dropped, and what was left out is counted: every record of a plan becomes an annotation
or a ``Rejected``.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hubmap_ml.data.classes import Classes
from hubmap_ml.data.cleaning import cleaned
from hubmap_ml.data.images import decode_image
from hubmap_ml.data.rejected import Rejected, require_few
from hubmap_ml.instances import Annotations, BitMasks, Images
from hubmap_ml.spec import InputError
from hubmap_ml.spec.data_options import FormatOptions

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Entry:
    """One image to read.

    Attributes:
        id: unique in the plan.
        file_name: relative to the raw folder.
        split: "train" or "test".
        original_id: as in the source file.
        position: the tile's place i, j in its slide; -1 unknown.
        size: height and width that the raw files state; an image of another size is rejected. None: they state none.
    """

    id: str
    file_name: str
    split: str = "train"
    dataset: str = ""
    slide: str = ""
    group: str = ""
    original_id: int | str | None = None
    position: tuple[int, int] = (-1, -1)
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Record:
    """One annotation, not yet decoded.

    Attributes:
        type: a wanted one.
        geometry: what the reader's ``MakeMasks`` understands.
        file, place: where it stands.
        iscrowd: COCO's; those of ignored types become crowds anyway.
        area: COCO's, which may count otherwise than by pixels; None: by pixels.
    """

    type: str
    geometry: Any
    file: str
    place: str
    iscrowd: bool = False
    area: float | None = None


MakeMasks = Callable[[Entry, Sequence[Record], int, int], tuple[BitMasks, Sequence[str | None]]]
"""Masks of an image's records (with its height and width), and for each None or why it cannot be used."""


@dataclass(frozen=True)
class Plan:
    """What a raw folder holds, before a pixel is read.

    Attributes:
        entries: images in the order of the table to be.
        records: by image id, in file order.
        rejected: records that cannot be used.
        strays: images that cannot be used; ``lost`` counts their annotations.
        left_out: records by the reason why they are not wanted ("type unsure").
        images_are: what images are called in messages.
    """

    entries: Sequence[Entry]
    records: Mapping[str, Sequence[Record]]
    rejected: Sequence[Rejected] = ()
    strays: Sequence[Rejected] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    images_are: str = "images"


@dataclass(frozen=True, eq=False)
class Converted:
    """Images and annotations of a raw folder.

    Attributes:
        annotations: the raw truth of the training images (all datasets), in the order of the raw files; images without
            annotations are rows. Boxes are tight around the pixels, ids count from 1.
        training_annotations: what is to be trained on: the same object, or the cleaned truth of the same images.
        images: the same training images, then the test images.
        rejected: what was left out.
        tile_digests: SHA-256 of each image file, in the order of ``images``.
        records: wanted annotation records in the raw files: those in ``annotations`` and those lost with ``rejected``.
        left_out: further records, by the reason why they are not wanted.
    """

    annotations: Annotations
    training_annotations: Annotations
    images: Images
    rejected: tuple[Rejected, ...]
    tile_digests: tuple[str, ...]
    records: int
    left_out: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class _Read:
    """One image as read: its size, digest, records with a mask, and records without."""

    height: int
    width: int
    digest: str
    kept: Sequence[Record]
    masks: BitMasks
    rejected: Sequence[Rejected]


def require_raw(raw: Path, workers: int) -> None:
    """Refuse a raw folder that does not exist and a wrong number of workers.

    Raises:
        InputError: see above.
    """
    if workers < 1:
        raise InputError(f"workers is {workers}: give 1 or more")
    if not raw.is_dir():
        raise InputError(f"the raw folder {raw} does not exist: give the folder that holds the raw files")


def assemble(
    raw: Path,
    plan: Plan,
    make_masks: MakeMasks,
    *,
    classes: Classes,
    options: FormatOptions,
    workers: int = 1,
    max_rejected: float = 0.01,
    progress: Progress | None = None,
) -> Converted:
    """Read the images of a plan; every one is decoded once, so that a damaged file is found here.

    Args:
        raw: the folder that file names are relative to.
        workers: threads; they change nothing in the result.
        max_rejected: share of annotations, and of training images, that may be rejected before this stops.
        progress: called with (images done, images in all).

    Raises:
        InputError: an image that cannot be read, a bad image that is not there, or too many rejected records.
    """
    plan, bad = _without_bad_images(plan, options.bad_images)

    def read(entry: Entry) -> _Read:
        return _read(raw, entry, plan.records.get(entry.id, ()), make_masks)

    found: list[_Read] = []
    with ThreadPoolExecutor(workers) as pool:
        # map() keeps the order and cancels what has not begun when one image fails.
        for result in pool.map(read, plan.entries) if workers > 1 else map(read, plan.entries):
            found.append(result)
            if progress is not None:
                progress(len(found), len(plan.entries))
    wrong_size = [
        _wrong_size(e, r, len(plan.records.get(e.id, ()))) for e, r in zip(plan.entries, found, strict=True)
    ]
    strays = [*plan.strays, *(stray for stray in wrong_size if stray is not None)]
    good = [k for k, stray in enumerate(wrong_size) if stray is None]
    entries, results = [plan.entries[k] for k in good], [found[k] for k in good]
    rejected = [*plan.rejected, *(record for result in results for record in result.rejected)]
    total = sum(map(len, plan.records.values())) + sum(r.lost for r in (*plan.rejected, *plan.strays))
    n_images = sum(entry.split == "train" for entry in plan.entries) + len(plan.strays)
    require_few([*rejected, *strays], total, what="annotations", max_share=max_rejected)
    require_few(strays, n_images, what=plan.images_are, max_share=max_rejected, lost=len(strays))
    if not entries:
        raise InputError(
            f"{raw}: there is no image left: check data.raw, data.format and data.options.bad_images"
        )

    images = _table(entries, results)
    train = np.flatnonzero(images.splits == "train")
    annotations = _annotations(images.take(train), [results[k] for k in train], classes)
    training, emptied = cleaned(annotations, raw, options, classes)
    left_out = {reason: count for reason, count in plan.left_out.items() if count}
    if left_out:
        log.info("not wanted: %s", ", ".join(f"{count} of {reason}" for reason, count in left_out.items()))
    converted = Converted(
        annotations=annotations,
        training_annotations=training,
        images=images,
        rejected=(*bad, *strays, *rejected, *emptied),
        tile_digests=tuple(result.digest for result in results),
        records=total + sum(record.lost for record in bad),
        left_out=left_out,
    )
    if converted.records != len(annotations) + sum(record.lost for record in converted.rejected):
        raise AssertionError("annotations were lost without a word")
    return converted


def _without_bad_images(plan: Plan, bad: Sequence[str]) -> tuple[Plan, list[Rejected]]:
    by_id = {entry.id: entry for entry in plan.entries}
    unknown = [image for image in bad if image not in by_id]
    if unknown:
        raise InputError(f"data.options.bad_images: there is no image {unknown[0]!r} in the raw files")
    dropped = [
        Rejected(by_id[image].file_name, "the image", "it is in bad_images", len(plan.records.get(image, ())))
        for image in dict.fromkeys(bad)
    ]
    listed = set(bad)
    kept = Plan(
        entries=[entry for entry in plan.entries if entry.id not in listed],
        records={image: records for image, records in plan.records.items() if image not in listed},
        rejected=plan.rejected,
        strays=plan.strays,
        left_out=plan.left_out,
        images_are=plan.images_are,
    )
    return kept, dropped


def _read(raw: Path, entry: Entry, records: Sequence[Record], make_masks: MakeMasks) -> _Read:
    path = raw / entry.file_name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    height, width = decode_image(content, path).shape[:2]
    digest = hashlib.sha256(content).hexdigest()
    if entry.size is not None and entry.size != (height, width):
        return _Read(height, width, digest, (), BitMasks.empty(), ())
    masks, reasons = make_masks(entry, records, height, width)
    areas = masks.areas()
    why = [
        reason or (None if area else "it has no pixel") for reason, area in zip(reasons, areas, strict=True)
    ]
    return _Read(
        height=height,
        width=width,
        digest=digest,
        kept=[record for record, reason in zip(records, why, strict=True) if reason is None],
        masks=masks.take(np.array([reason is None for reason in why], dtype=np.bool_)),
        rejected=[
            Rejected(record.file, record.place, reason)
            for record, reason in zip(records, why, strict=True)
            if reason is not None
        ],
    )


def _wrong_size(entry: Entry, read: _Read, lost: int) -> Rejected | None:
    if entry.size is None or entry.size == (read.height, read.width):
        return None
    height, width = entry.size
    reason = f"it is {read.width} x {read.height} pixels (width x height), its record says {width} x {height}"
    return Rejected(entry.file_name, "the image", reason, lost)


def _annotations(images: Images, results: Sequence[_Read], classes: Classes) -> Annotations:
    records = [record for result in results for record in result.kept]
    masks = BitMasks.concatenate([result.masks for result in results])
    areas = masks.areas().astype(np.float64)
    for k, record in enumerate(records):
        if record.area is not None:
            areas[k] = record.area
    return Annotations.from_bits(
        images,
        classes.categories,
        np.repeat(np.arange(len(results)), [len(result.kept) for result in results]),
        masks,
        np.array([classes.label(record.type) for record in records], np.int16),
        iscrowd=np.array([record.iscrowd or record.type in classes.ignored for record in records], np.bool_),
        areas=areas,
    )


def _table(entries: Sequence[Entry], results: Sequence[_Read]) -> Images:
    return Images.build(
        ids=[entry.id for entry in entries],
        original_ids=[entry.id if entry.original_id is None else entry.original_id for entry in entries],
        heights=np.array([result.height for result in results], np.int32),
        widths=np.array([result.width for result in results], np.int32),
        file_names=[entry.file_name for entry in entries],
        datasets=[entry.dataset for entry in entries],
        slides=[entry.slide for entry in entries],
        groups=[entry.group for entry in entries],
        splits=[entry.split for entry in entries],
        positions=np.array([entry.position for entry in entries], np.int32).reshape(-1, 2),
    )
