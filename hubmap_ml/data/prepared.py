"""Prepared data: one folder that every later stage reads instead of the raw files (pixels excepted).

``data.json``, ``images.parquet``, ``instances.parquet``, ``fingerprints.parquet`` (by which copies of a picture are
found), ``coco.json`` (training tiles), ``rejected.csv``; ``training/`` with the cleaned annotations where it was
asked for; and ``hidden_truth.json`` if the raw folder had one.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data.assembly import Converted
from hubmap_ml.data.disk import MEBIBYTE, FreeBytes, free_bytes, full_disk_as_input_error, require_free
from hubmap_ml.data.fingerprints import Fingerprints, fingerprint_all, read_fingerprints, write_fingerprints
from hubmap_ml.data.images import FileImage
from hubmap_ml.data.pools import select_pool
from hubmap_ml.data.rejected import write_rejected
from hubmap_ml.data.synthetic import HIDDEN_TRUTH
from hubmap_ml.instances import Annotations, Category, Images, read_annotations, write_annotations, write_coco
from hubmap_ml.spec import InputError

SCHEMA = 2
DATA, COCO, REJECTED, TRAINING = "data.json", "coco.json", "rejected.csv", "training"


@dataclass(frozen=True, eq=False)
class PreparedData:
    """An open folder of prepared data.

    Attributes:
        folder: where it lies.
        raw: the raw folder; file names of images are relative to it.
        categories: what labels count through.
        digest: SHA-256 over what matters of the raw files, see ``content_digest``. Folds are not in it.
        images: M rows, training and test tiles, with folds.
        annotations: the raw truth of the same M images, by which everything is scored; test tiles and unlabelled
            ones have none.
        training_annotations: what is trained on: the same object, or the cleaned truth of the same images.
        rejected_count: records that the conversion left out (listed in rejected.csv).
        image_digests: of each image, see ``image_digests``.
    """

    folder: Path
    raw: Path
    categories: tuple[Category, ...]
    digest: str
    images: Images
    annotations: Annotations
    training_annotations: Annotations
    rejected_count: int
    image_digests: tuple[str, ...] = ()

    @property
    def hidden_truth(self) -> Path | None:
        """COCO file with the truth of the test tiles; only generated data has one."""
        path = self.folder / HIDDEN_TRUTH
        return path if path.is_file() else None

    @cached_property
    def fingerprints(self) -> Fingerprints:
        """Of the M images: what copies of them are found by."""
        return read_fingerprints(self.folder)

    def pool(self, criteria: Mapping[str, Any]) -> NDArray[np.int64]:
        """The images that meet all criteria, in table order: see ``select_pool``."""
        return select_pool(self.images, criteria, annotations=self.annotations)

    def image_path(self, row: int) -> Path:
        """The file of an image.

        Raises:
            InputError: the raw folder is gone.
        """
        if not self.raw.is_dir():
            raise InputError(
                f"the raw folder {self.raw} of {self.folder} is gone: bring it back or run prepare again"
            )
        return self.raw / str(self.images.file_names[row])

    def sources(self, rows: Sequence[int] | NDArray[np.int64]) -> Iterator[tuple[Images, FileImage]]:
        """Some images one by one, each as one row of ``images`` and its file; nothing is read before its turn."""
        for row in rows:
            yield self.images.take(np.array([row])), FileImage(self.image_path(int(row)))

    def annotations_of(self, rows: Sequence[int] | NDArray[np.int64]) -> Annotations:
        """The raw truth of some images, in the given order."""
        return self.annotations.take_images(np.asarray(rows, np.int64))

    def training_annotations_of(self, rows: Sequence[int] | NDArray[np.int64]) -> Annotations:
        """What is to be trained on for some images, in the given order."""
        return self.training_annotations.take_images(np.asarray(rows, np.int64))

    def digest_of(self, rows: Sequence[int] | NDArray[np.int64]) -> str:
        """SHA-256 over the pixels and annotations of some images, in the given order; of no other image."""
        return hashlib.sha256("\n".join(self.image_digests[int(row)] for row in rows).encode()).hexdigest()


def write_prepared(
    folder: Path,
    converted: Converted,
    folds: NDArray[np.int16],
    *,
    raw: Path,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    free: FreeBytes = free_bytes,
) -> PreparedData:
    """Write a folder of prepared data; it appears whole or not at all. Reads every image for its fingerprint.

    Args:
        folder: must not exist, or be empty.
        folds: (M,) int16 for ``converted.images``, -1 for images in no fold.
        raw: the raw folder that was converted.
        workers: threads that read images; they change nothing in the result.
        progress: called with (images read, images in all).
        free: how to ask for free bytes.

    Raises:
        InputError: the folder holds something, or the disk has no room.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already: remove it or name another folder for the prepared data")
    images = converted.images.replace(folds=np.asarray(folds, np.int16))
    annotations = _for_all_images(converted.annotations, images)
    cleaned = converted.training_annotations is not converted.annotations
    training = _for_all_images(converted.training_annotations, images) if cleaned else annotations
    words = annotations.masks.bits.words.nbytes + (training.masks.bits.words.nbytes if cleaned else 0)
    needed = 4 * words + 600 * len(annotations) + 2500 * len(images) + MEBIBYTE
    require_free(folder, needed, what="prepared data", free=free)
    digest = content_digest(images, annotations, converted.tile_digests, training=training)
    files = [FileImage(raw / str(name)) for name in images.file_names]
    prints = fingerprint_all(list(images.ids), files, workers=workers, progress=progress)
    unfinished = folder.with_name(folder.name + ".unfinished")
    with full_disk_as_input_error(folder, "prepared data"):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        write_annotations(unfinished, annotations)
        if cleaned:
            write_annotations(unfinished / TRAINING, training)
        write_fingerprints(unfinished, prints)
        write_coco(unfinished / COCO, annotations.take_images(np.flatnonzero(images.splits == "train")))
        write_rejected(unfinished / REJECTED, converted.rejected)
        if (raw / HIDDEN_TRUTH).is_file():
            shutil.copyfile(raw / HIDDEN_TRUTH, unfinished / HIDDEN_TRUTH)
        facts = {
            "schema": SCHEMA,
            "raw": str(raw.resolve()),
            "digest": digest,
            "categories": [[category.id, category.name] for category in annotations.categories],
            "images": len(images),
            "annotations": len(annotations),
            "rejected": len(converted.rejected),
            "left_out": dict(converted.left_out),
            "cleaned": cleaned,
            "image_digests": image_digests(images, annotations, training, converted.tile_digests),
        }
        (unfinished / DATA).write_text(json.dumps(facts, indent=1) + "\n")
        unfinished.rename(folder)
    return open_prepared(folder)


def open_prepared(folder: Path) -> PreparedData:
    """Open a folder that ``write_prepared`` wrote.

    Raises:
        InputError: it is no such folder, or of a newer layout.
    """
    try:
        facts = json.loads((folder / DATA).read_text())
        schema, raw, digest, rejected = (
            facts["schema"],
            Path(facts["raw"]),
            facts["digest"],
            int(facts["rejected"]),
        )
        digests = tuple(map(str, facts["image_digests"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder} is no folder of prepared data ({DATA} missing or damaged): run prepare"
        ) from error
    if schema != SCHEMA:
        raise InputError(f"{folder} has layout {schema}, this version reads {SCHEMA}: run prepare again")
    annotations = read_annotations(folder)
    cleaned = facts.get("cleaned", False)
    return PreparedData(
        folder=folder,
        raw=raw,
        categories=annotations.categories,
        digest=str(digest),
        images=annotations.images,
        annotations=annotations,
        training_annotations=read_annotations(folder / TRAINING) if cleaned else annotations,
        rejected_count=rejected,
        image_digests=digests,
    )


def content_digest(
    images: Images,
    annotations: Annotations,
    tile_digests: Sequence[str],
    *,
    training: Annotations | None = None,
) -> str:
    """SHA-256 over the bytes that matter: image files, annotated pixels with their types, metadata of the
    tiles.

    Neither the place of the raw folder nor the order of its tables changes it, and folds are no part of it.

    Args:
        images: M rows.
        annotations: of the same images.
        tile_digests: SHA-256 of each image file, (M,).
        training: cleaned annotations of the same images, if they are others.
    """
    records = _outlines(images, annotations, "")
    if training is not None and training is not annotations:
        records += _outlines(images, training, "training ")
    for row, tile_digest in enumerate(tile_digests):
        place = [int(value) for value in images.positions[row]]
        meta = [images.ids[row], images.datasets[row], images.slides[row], images.splits[row], *place]
        if images.groups[row] != images.slides[row]:
            meta.append(images.groups[row])
        records.append(json.dumps(["tile", *meta, tile_digest]))
    return hashlib.sha256("\n".join(sorted(records)).encode()).hexdigest()


def _outlines(images: Images, annotations: Annotations, prefix: str) -> list[str]:
    rows = annotations.image_rows()
    counts = annotations.masks.bits.to_rle(images.heights[rows], images.widths[rows])
    labels, crowds = annotations.labels.tolist(), annotations.iscrowd.tolist()
    names = [category.name for category in annotations.categories]
    return [
        json.dumps([f"{prefix}{'crowd' if crowd else 'outline'}", images.ids[row], names[label], text])
        for row, label, text, crowd in zip(rows, labels, counts, crowds, strict=True)
    ]


def image_digests(
    images: Images, annotations: Annotations, training: Annotations, tile_digests: Sequence[str]
) -> list[str]:
    """SHA-256 of each image with what is annotated on it: its id, the bytes of its file, types, pixels.

    What a training learns from and is scored by. Folds, slides and positions are no part of it: they do not change what
    is seen.

    Args:
        images, tile_digests: as for ``content_digest``.
        annotations: the raw truth.
        training: what is trained on; the same object where nothing was cleaned.
    """
    found: list[list[str]] = [[] for _ in range(len(images))]
    for prefix, part in {
        "": annotations,
        **({} if training is annotations else {"trained ": training}),
    }.items():
        for row, text in zip(part.image_rows(), _outlines(images, part, prefix), strict=True):
            found[row].append(text)
    return [
        hashlib.sha256(json.dumps([str(name), digest, annotated]).encode()).hexdigest()
        for name, digest, annotated in zip(images.ids, tile_digests, found, strict=True)
    ]


def _for_all_images(annotations: Annotations, images: Images) -> Annotations:
    """The same annotations over a longer table, whose further images have none."""
    more = len(images) - len(annotations.images)
    offsets = np.concatenate([annotations.offsets, np.repeat(annotations.offsets[-1:], more)])
    return annotations.replace(images=images, offsets=offsets)
