"""HuBMAP - Hacking the Human Vasculature (Kaggle, 2023): one csv row an image.

    id,height,width,prediction_string
    72e40acccadf,512,512,0 0.93 eNoLCAgIMAwNMAAABj4BnQ== 0 0.5 eNqL...

The string holds a triple per instance: class id (0, blood vessel), score, mask. A mask is COCO's compressed
run-length text (column-major, ``pycocotools.mask.encode`` of the Fortran-ordered mask), compressed by zlib at
level 9, in base64: the competition's ``encode_binary_mask``. An image without instances has an empty string.
"""

import base64
import binascii
import csv
import logging
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import BitMasks, Category, Images, Instances, Masks, PredictionSet
from hubmap_ml.spec import InputError
from hubmap_ml.submission.tables import read_table, require_once, rows_in_order, size_of

log = logging.getLogger(__name__)

COLUMNS: tuple[str, ...] = ("id", "height", "width", "prediction_string")
SCORED = "blood_vessel"
SCORED_ID = "0"
HAS_CLASSES = True


def write(path: Path, predictions: PredictionSet, sample_submission: Path | None = None) -> Path:
    """Write predictions as a submission file, whole or not at all.

    The competition scores one class. If the predictions know several, ``blood_vessel`` is written and the
    others are not. Instances keep their order; those without a pixel are left out.

    Args:
        path: of the csv file.
        predictions: with bit masks; every image becomes a row.
        sample_submission: a csv file whose ``id`` column says which images are wanted, in which order; None
            takes the predictions' own.

    Returns:
        ``path``.

    Raises:
        InputError: masks that are missing or still soft, several classes and none of them ``blood_vessel``,
            or a sample that names other images, or other sizes, than the predictions.
    """
    if predictions.masks is None or not predictions.masks.all_bits:
        state = "has no masks" if predictions.masks is None else "has masks that are not thresholded yet"
        raise InputError(f"submission {path}: the prediction set {state}; add a mask_threshold step")
    images = predictions.images
    rows = np.arange(len(images)) if sample_submission is None else _sample_rows(sample_submission, images)
    keep = (predictions.labels == _scored_label(predictions.categories, path)) & (
        predictions.masks.bits.areas() > 0
    )
    if not keep.all():
        log.info(
            "%d instances of other classes or without a pixel are not written to %s", int((~keep).sum()), path
        )
    predictions = predictions.take(np.flatnonzero(keep))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    with beside.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for row in rows:
            text = _prediction_string(predictions.image(int(row)))
            table.writerow([images.ids[row], images.heights[row], images.widths[row], text])
    beside.replace(path)
    return path


def read(
    path: Path, images: Images | None = None, categories: Sequence[Category] | None = None
) -> PredictionSet:
    """Read a submission file.

    Args:
        path: of the csv file.
        images: the images it should speak of; None builds them from the file's own ids and sizes.
        categories: what labels index into; class 0 becomes ``blood_vessel``, or the only one. None is that
            one alone.

    Returns:
        Predictions with bit masks and tight boxes, images in ``images``' order (or the file's), instances in
        the file's.

    Raises:
        InputError: a missing file or column, an image twice, images other than ``images``, or a string that
            is not made of whole triples with a class, a finite score and a mask of the image's size; names
            file and row.
    """
    known = tuple(categories) if categories is not None else (Category(id=0, name=SCORED),)
    label = _scored_label(known, path)
    table = read_table(path, COLUMNS)
    require_once(path, table)
    ids = table["id"].tolist()
    sizes = [size_of(path, row, table) for row in range(len(table))]
    found = Images.build(ids=ids, heights=[size[0] for size in sizes], widths=[size[1] for size in sizes])
    order = np.arange(len(found))
    if images is not None:
        rows = rows_in_order(path, ids, images, "the images to read")
        _same_sizes(path, ids, sizes, images.take(rows), "the images to read")
        order = found.rows_of(list(images.ids))
    strings = table["prediction_string"].tolist()
    instances = [_instances(strings[row], sizes[row], label, f"{path}, row {row + 2}") for row in order]
    return PredictionSet.from_instances(images if images is not None else found, known, instances)


def encode_mask(counts: str) -> str:
    """COCO's compressed run-length text, as the competition wraps it."""
    return base64.b64encode(zlib.compress(counts.encode("ascii"), zlib.Z_BEST_COMPRESSION)).decode("ascii")


def decode_mask(text: str) -> str:
    """Undo ``encode_mask``.

    Raises:
        ValueError: not base64, not zlib, or not text inside.
    """
    try:
        return zlib.decompress(base64.b64decode(text, validate=True)).decode("ascii")
    except (binascii.Error, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error


def _prediction_string(instances: Instances) -> str:
    if len(instances) == 0 or instances.masks is None:
        return ""
    texts = instances.masks.bits.to_rle(instances.height, instances.width)
    # The shortest decimal that gives the same float32 back.
    scores = [np.format_float_positional(score, trim="-") for score in instances.scores]
    return " ".join(
        f"{SCORED_ID} {score} {encode_mask(text)}" for score, text in zip(scores, texts, strict=True)
    )


def _instances(text: str, size: tuple[int, int], label: int, where: str) -> Instances:
    height, width = size
    words = text.split()
    if len(words) % 3:
        raise InputError(
            f"{where}: prediction_string has {len(words)} words, must be triples of class, score and mask"
        )
    scores, counts = [], []
    for number, (category, score, mask) in enumerate(zip(words[::3], words[1::3], words[2::3], strict=True)):
        here = f"{where}, instance {number}"
        if category != SCORED_ID:
            raise InputError(f"{here}: class {category!r}, the competition knows only {SCORED_ID}")
        scores.append(_score(score, here))
        try:
            counts.append(decode_mask(mask))
        except ValueError as error:
            raise InputError(f"{here}: the mask is not base64 of zlib of run lengths ({error})") from None
    try:
        bits = BitMasks.from_rle(counts, height, width)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return Instances.build(
        bits.tight_boxes(), scores, label, masks=Masks.from_bits(bits), height=height, width=width
    )


def _score(text: str, where: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = float("nan")
    if not math.isfinite(score):
        raise InputError(f"{where}: score {text!r} is no finite number")
    return score


def _scored_label(categories: Sequence[Category], path: Path) -> int:
    names = [category.name for category in categories]
    if SCORED in names:
        return names.index(SCORED)
    if len(names) == 1:
        return 0
    raise InputError(f"{path}: the competition scores {SCORED!r}, and the categories are {names}")


def _sample_rows(sample: Path, images: Images) -> NDArray[np.int64]:
    """Rows of ``images`` in the sample's order."""
    table = read_table(sample, ("id",))
    require_once(sample, table)
    rows = rows_in_order(sample, table["id"].tolist(), images, "the predictions")
    if "height" in table.columns and "width" in table.columns:
        sizes = [size_of(sample, row, table) for row in range(len(table))]
        _same_sizes(sample, table["id"].tolist(), sizes, images.take(rows), "the predictions")
    return rows


def _same_sizes(
    path: Path, ids: Sequence[str], sizes: Sequence[tuple[int, int]], images: Images, what: str
) -> None:
    """Refuse sizes (height, width) of rows that are not those of the same ``images``."""
    for row, (height, width) in enumerate(sizes):
        if (height, width) != (images.heights[row], images.widths[row]):
            raise InputError(
                f"{path}, row {row + 2}: image {ids[row]!r} is {width} x {height} (width x height), "
                f"in {what} {images.widths[row]} x {images.heights[row]}"
            )
