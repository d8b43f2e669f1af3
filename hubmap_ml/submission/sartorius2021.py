"""Sartorius - Cell Instance Segmentation (Kaggle, 2021): one csv row a mask.

    id,predicted
    0114f484a16c,1 1 705 2
    0114f484a16c,900 5 1604 5

Run lengths are row-major and count from 1. Masks of an image must not share a pixel; classes and scores are not asked
for. An image without instances has one row with an empty ``predicted``.
"""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hubmap_ml.instances import BitMasks, Category, Images, Instances, Masks, PredictionSet
from hubmap_ml.instances.row_runs import from_row_runs, to_row_runs
from hubmap_ml.spec import InputError
from hubmap_ml.submission.tables import read_table, require_once, rows_in_order

log = logging.getLogger(__name__)

COLUMNS: tuple[str, ...] = ("id", "predicted")
HAS_CLASSES = False


def write(path: Path, predictions: PredictionSet, sample_submission: Path | None = None) -> Path:
    """Write predictions as a submission file, whole or not at all.

    All classes are written. Instances keep their order; those without a pixel are left out.

    Args:
        path: of the csv file.
        predictions: with bit masks that do not overlap; every image has at least one row.
        sample_submission: a csv file whose ``id`` column says which images are wanted, in which order; None
            takes the predictions' own.

    Returns:
        ``path``.

    Raises:
        InputError: masks that are missing, still soft or overlap, or a sample that names other images.
    """
    if predictions.masks is None or not predictions.masks.all_bits:
        state = "has no masks" if predictions.masks is None else "has masks that are not thresholded yet"
        raise InputError(f"submission {path}: the prediction set {state}; add a mask_threshold step")
    images = predictions.images
    rows = np.arange(len(images))
    if sample_submission is not None:
        table = read_table(sample_submission, ("id",))
        require_once(sample_submission, table)
        rows = rows_in_order(sample_submission, table["id"].tolist(), images, "the predictions")
    keep = predictions.masks.bits.areas() > 0
    if not keep.all():
        log.info("%d instances without a pixel are not written to %s", int((~keep).sum()), path)
    predictions = predictions.take(np.flatnonzero(keep))
    for row in rows:
        _require_no_overlap(
            path,
            predictions.image(int(row)),
            str(images.ids[row]),
            "add a no_overlaps step to the post-processing, after mask_threshold",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    with beside.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(COLUMNS)
        for row in rows:
            found = predictions.image(int(row))
            assert found.masks is not None
            for text in to_row_runs(found.masks.bits, found.height, found.width) or [""]:
                out.writerow([images.ids[row], text])
    beside.replace(path)
    return path


def read(
    path: Path, images: Images | None = None, categories: Sequence[Category] | None = None
) -> PredictionSet:
    """Read a submission file.

    Args:
        path: of the csv file.
        images: the images it must speak of; it does not say their sizes.
        categories: what labels index into; the file names no class, all masks get the first. None is one class,
            ``cell``.

    Returns:
        Predictions with bit masks, tight boxes and score 1, images in ``images``' order, instances in the file's.

    Raises:
        InputError: no ``images``, a missing file or column, other images than ``images``, run lengths that cannot be
            read, or masks that overlap; names file and row.
    """
    if images is None:
        raise InputError(
            f"{path}: this format does not say how large images are; give the images it speaks of"
        )
    table = read_table(path, COLUMNS)
    rows = rows_in_order(path, table["id"].tolist(), images, "the images to read")
    texts = table["predicted"].tolist()
    masks, reasons = from_row_runs(texts, images.heights[rows], images.widths[rows])
    filled = np.array([text.strip() != "" for text in texts], dtype=np.bool_)
    for number, reason in enumerate(reasons):
        if reason is not None and filled[number]:
            raise InputError(f"{path}, row {number + 2}: {reason}")
    instances = []
    for row in range(len(images)):
        bits = masks.take(np.flatnonzero(filled & (rows == row)))
        height, width = int(images.heights[row]), int(images.widths[row])
        found = Instances.build(
            bits.tight_boxes(), np.ones(len(bits)), 0, masks=Masks.from_bits(bits), height=height, width=width
        )
        _require_no_overlap(path, found, str(images.ids[row]), "each pixel may belong to one row only")
        instances.append(found)
    known = tuple(categories) if categories else (Category(id=0, name="cell"),)
    return PredictionSet.from_instances(images, known, instances)


def _require_no_overlap(path: Path, found: Instances, image: str, remedy: str) -> None:
    """Refuse masks of an image that share a pixel; the refusal ends with what to do."""
    if len(found) == 0 or found.masks is None:
        return
    bits: BitMasks = found.masks.bits
    shared = np.triu(bits.intersection_matrix(), k=1)
    if shared.any():
        first, second = np.argwhere(shared)[0].tolist()
        pairs, pixels = int((shared > 0).sum()), int(shared[first, second])
        raise InputError(
            f"{path}, image {image}: {pairs} pairs of masks overlap (the first, instances {first} and {second}, "
            f"in {pixels} pixels), which the competition forbids: {remedy}"
        )
