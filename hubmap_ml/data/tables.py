"""Reading the csv tables of raw folders: every cell is text (an id like 1e5 stays one)."""

import csv
from collections.abc import Sequence
from pathlib import Path

from hubmap_ml.spec import InputError

_LONGEST = 2**31 - 1  # characters of a cell; run lengths are longer than the csv module expects


def read_csv(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """The wanted columns of a table whose rows must all be whole.

    Returns:
        For each row the number of its last line (the first line of the file is 1) and its cells, stripped.

    Raises:
        InputError: no such file, no csv, a missing column, or a row with another number of cells.
    """
    rows = read_loose_csv(path, columns)
    found = []
    for line, row in rows:
        if row is None:
            raise InputError(f"{path}, line {line}: it has another number of cells than the first line")
        found.append((line, row))
    return found


def read_loose_csv(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str] | None]]:
    """As ``read_csv``, but a row with another number of cells is None."""
    if not path.is_file():
        raise InputError(f"{path} does not exist: the raw folder needs the competition's {path.name}")
    limit = csv.field_size_limit(_LONGEST)
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines, strict=True)
            header = next(reader, [])
            missing = [name for name in columns if name not in header]
            if missing:
                raise InputError(
                    f"{path} has no column {missing[0]!r} (its columns: {', '.join(header) or 'none'}): correct "
                    f"its first line"
                )
            places = [(name, header.index(name)) for name in columns]
            return [
                (
                    reader.line_num,
                    {name: row[k].strip() for name, k in places} if len(row) == len(header) else None,
                )
                for row in reader
                if row
            ]
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as csv: {error}") from error
    finally:
        csv.field_size_limit(limit)
