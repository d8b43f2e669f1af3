"""Any csv with a run-length mask in each row: the image and the mask, perhaps a score and a class, by named columns.

What competitions without a format of their own here ask for, and what most notebooks write. Nothing in such a file
says how its runs go, and wrong guesses give wrong masks in silence: so it is asked for. This reads only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from hubmap_ml.instances import Category, Images, PredictionSet
from hubmap_ml.instances.coco import results_of
from hubmap_ml.instances.row_runs import from_row_runs
from hubmap_ml.spec import InputError
from hubmap_ml.submission.tables import read_table

Runs = Literal["columns", "rows", "coco"]

_DIGITS = 15


@dataclass(frozen=True)
class RunLengthColumns:
    """How such a file is to be read.

    Attributes:
        image: column with the image: its id, or its file's name with or without suffix.
        mask: column with the run lengths; empty for an image without instances.
        score: column with the score; None scores everything 1.
        category: column with the class, by name or by id; None where there is one class.
        runs: ``columns`` ("start length …" down the columns: HuBMAP 2021, Airbus, Severstal), ``rows`` (along the rows:
            Sartorius 2021, DSB 2018) or ``coco`` (COCO's compressed counts).
        first: number of the first pixel, 1 or 0; COCO's counts have none.
    """

    image: str
    mask: str
    score: str | None = None
    category: str | None = None
    runs: Runs = "columns"
    first: int = 1

    def __post_init__(self) -> None:
        if self.runs not in get_args(Runs):
            raise InputError(
                f"--runs is {self.runs!r}; say how runs go: 'columns' down the columns, 'rows' along the rows, "
                "'coco' for COCO's compressed counts"
            )
        if self.first not in (0, 1):
            raise InputError(f"--first-pixel is {self.first}; pixels are counted from 0 or from 1")


def read_run_length_csv(
    path: Path, images: Images, categories: Sequence[Category], columns: RunLengthColumns
) -> PredictionSet:
    """Read predictions from a csv of run lengths.

    Args:
        path: of the csv.
        images: those that it may speak of.
        categories: of the classes that it names.
        columns: how it is to be read.

    Returns:
        Predictions with bit masks over all ``images``, instances of an image in the file's order.

    Raises:
        InputError: no such file or column, an unknown image or class, a score that is no number, or run lengths that
            do not fit the image; names the row.
    """
    named = [columns.image, columns.mask, columns.score, columns.category]
    table = read_table(path, [name for name in named if name is not None])
    if columns.category is None and len(categories) != 1:
        known = ", ".join(category.name for category in categories)
        raise InputError(f"{path}: which column says the class, of {known}? Name it with --column class=…")
    row_of, class_of = _rows_by_name(images), _classes_by_name(categories)
    texts = [text.strip() for text in table[columns.mask]]
    filled = [k for k, text in enumerate(texts) if text]
    where = [f"{path}, row {k + 2}" for k in range(len(texts))]
    rows = []
    for k, name in enumerate(table[columns.image].tolist()):
        if name not in row_of:
            raise InputError(f"{where[k]}: there is no image {name!r}")
        rows.append(row_of[name])
    masks = _as_coco(columns, texts, filled, rows, images, where)
    records: list[dict[str, Any]] = []
    for k, counts in zip(filled, masks, strict=True):
        row = rows[k]
        size = [int(images.heights[row]), int(images.widths[row])]
        records.append(
            {
                "image_id": row,
                "category_id": _class(table[columns.category][k], class_of, where[k])
                if columns.category is not None
                else 0,
                "segmentation": {"size": size, "counts": counts},
                "score": 1.0 if columns.score is None else _score(table[columns.score][k], where[k]),
            }
        )
    return results_of(
        path,
        records,
        images,
        categories,
        row_of={row: row for row in range(len(images))},
        label_of={label: label for label in range(len(categories))},
        name_of=lambda k: where[filled[k]],
    )


def _as_coco(
    columns: RunLengthColumns,
    texts: Sequence[str],
    filled: Sequence[int],
    rows: Sequence[int],
    images: Images,
    where: Sequence[str],
) -> list[Any]:
    """The counts, as COCO has them, of the rows that hold a mask."""
    found = [texts[k] for k in filled]
    if columns.runs == "coco":
        return found
    if columns.first == 0:
        found = [_counted_from_one(text) for text in found]
    heights, widths = (sides[[rows[k] for k in filled]] for sides in (images.heights, images.widths))
    if columns.runs == "rows":
        bits, reasons = from_row_runs(found, heights, widths)
        for k, reason in zip(filled, reasons, strict=True):
            if reason is not None:
                raise InputError(f"{where[k]}: {reason}")
        return list(bits.to_rle(heights, widths))
    return [
        _down_the_columns(text, int(height) * int(width), where[k])
        for k, text, height, width in zip(filled, found, heights, widths, strict=True)
    ]


def _down_the_columns(text: str, pixels: int, where: str) -> list[int]:
    """COCO's counts of 1-based "start length …" runs down the columns, in any order."""
    words = text.split()
    if not all(_is_number(word) and 0 < int(word) <= pixels for word in words):
        raise InputError(
            f"{where}: its run lengths hold something that is no whole number from 1 to the image's {pixels} pixels"
        )
    if len(words) % 2:
        raise InputError(f"{where}: its run lengths are not pairs of start and length")
    counts, at = [], 0
    for start, length in sorted(zip(map(int, words[::2]), map(int, words[1::2]), strict=True)):
        if start - 1 < at:
            raise InputError(f"{where}: its run lengths give a pixel twice")
        counts += [start - 1 - at, length]
        at = start - 1 + length
    if at > pixels:
        raise InputError(f"{where}: its run lengths reach beyond the image's {pixels} pixels")
    return [*counts, pixels - at]


def _counted_from_one(text: str) -> str:
    """The same runs counted from 1; what is no number is left for whoever reads them."""
    words = text.split()
    return " ".join(
        str(int(word) + 1) if place % 2 == 0 and _is_number(word) else word
        for place, word in enumerate(words)
    )


def _is_number(word: str) -> bool:
    """Whether a word is a whole number that a pixel of an image may have."""
    return word.isascii() and word.isdigit() and len(word) <= _DIGITS


def _rows_by_name(images: Images) -> Mapping[str, int]:
    """Rows by id, by file name and by its stem; a name that two images share is none, an id goes first."""
    found: dict[str, int | None] = {}
    for row, file in enumerate(images.file_names):
        for name in {PurePosixPath(file).name, PurePosixPath(file).stem} - {""}:
            found[name] = None if name in found else row
    by_file = {name: row for name, row in found.items() if row is not None}
    return by_file | {str(name): row for row, name in enumerate(images.ids)}


def _classes_by_name(categories: Sequence[Category]) -> Mapping[str, int]:
    by_id = {str(category.id): label for label, category in enumerate(categories)}
    return by_id | {category.name: label for label, category in enumerate(categories)}


def _class(text: str, class_of: Mapping[str, int], where: str) -> int:
    if text.strip() not in class_of:
        raise InputError(f"{where}: there is no class {text!r}")
    return class_of[text.strip()]


def _score(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{where}: its score is {text!r}, which is no number") from None
