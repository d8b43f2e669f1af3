"""Reading csv files of competitions with suspicion, and the images that they name."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hubmap_ml.instances import Images
from hubmap_ml.spec import InputError


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a csv as text; the header is row 1 in errors.

    By the csv module: pandas takes a row that is cut short for empty cells.

    Raises:
        InputError: no such file, no csv, a missing column, or a row with another number of cells.
    """
    limit = csv.field_size_limit(2**31 - 1)  # a row of many masks is longer than the module expects
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file, strict=True))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as csv ({error})") from None
    finally:
        csv.field_size_limit(limit)
    header = lines[0] if lines else []
    absent = [column for column in columns if column not in header]
    if absent:
        raise InputError(f"{path} has no column {absent[0]!r} (it has {', '.join(header) or 'none'})")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise InputError(
                f"{path}, row {number}: {len(line)} columns, must be {len(header)}; it may be cut short"
            )
    return pd.DataFrame(lines[1:], columns=header, dtype=object)


def read_header(path: Path) -> list[str]:
    """The column names of a csv.

    Raises:
        InputError: no such file, or no csv.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file, strict=True), [])
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as csv ({error})") from None


def require_once(path: Path, table: pd.DataFrame) -> None:
    """Refuse an image that has two rows.

    Raises:
        InputError: it has; names the second.
    """
    twice = np.flatnonzero(table["id"].duplicated())
    if len(twice):
        raise InputError(f"{path}, row {twice[0] + 2}: image {table['id'].iloc[twice[0]]!r} a second time")


def rows_in_order(path: Path, ids: Sequence[str], images: Images, what: str) -> NDArray[np.int64]:
    """The rows of ``images`` in the order of a file that must name each of them.

    Args:
        ids: of the file, one a row.
        what: what the images are, for messages.

    Raises:
        InputError: an image that only the file or only ``images`` has.
    """
    missing = np.flatnonzero(~images.has(list(ids)))
    if len(missing):
        raise InputError(f"{path}, row {missing[0] + 2}: image {ids[missing[0]]!r} is not among {what}")
    absent = sorted(set(images.ids) - set(ids))
    if absent:
        raise InputError(f"{path}: image {absent[0]!r} of {what} has no row")
    return images.rows_of(list(ids))


def size_of(path: Path, row: int, table: pd.DataFrame) -> tuple[int, int]:
    """Height and width of an image, in a table with these columns.

    Args:
        path: of the csv.
        row: of the table, from 0.

    Raises:
        InputError: no whole numbers greater than 0.
    """
    texts = str(table["height"].iloc[row]), str(table["width"].iloc[row])
    if not all(text.isascii() and text.isdigit() and int(text) > 0 for text in texts):
        raise InputError(
            f"{path}, row {row + 2}: height {texts[0]!r} and width {texts[1]!r} must be whole numbers > 0"
        )
    return int(texts[0]), int(texts[1])


def read_image_list(path: Path) -> Images:
    """Read a list of images: ``id``, ``height``, ``width`` in pixels, and ``file_name`` where there is such a column.

    Raises:
        InputError: no such file or column, an image twice, or a size that is none; names the row.
    """
    table = read_table(path, ("id", "height", "width"))
    require_once(path, table)
    sizes = [size_of(path, row, table) for row in range(len(table))]
    return Images.build(
        ids=table["id"].tolist(),
        heights=[height for height, _ in sizes],
        widths=[width for _, width in sizes],
        file_names=table["file_name"].tolist() if "file_name" in table else "",
    )
