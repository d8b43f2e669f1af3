"""Reading a table of submissions with their scores: csv (also Kaggle's own list) or Markdown, columns by name.

A cell that is empty, ``-``, ``–`` or ``?`` says nothing. Rows are counted as lines of the file in errors.
"""

import csv
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubmap_ml.spec import InputError, LoggedSubmission

ALIASES: Mapping[str, tuple[str, ...]] = {
    "name": ("submission", "title", "notebook", "filename", "file"),
    "digest": ("sha256", "file digest"),
    "model": ("model version",),
    "public": ("public score", "public lb", "public leaderboard", "lb", "leaderboard", "lb score"),
    "private": ("private score", "private lb", "private leaderboard", "pb"),
    "cv": ("cv score", "local cv", "local score", "oof", "oof score", "out of fold", "cross-validation"),
    "cv_metric": ("metric", "local metric"),
    "folds": ("fold scheme", "split", "validation", "cv scheme"),
    "leaderboard_metric": ("lb metric", "competition metric"),
    "date": ("submitted", "day", "time"),
    "note": ("notes", "comment", "comments", "description", "remarks"),
}
"""Other names of each column; case, spaces, _ and - make no difference."""

SAYS_NOTHING = ("", "-", "–", "—", "?", "na", "n/a", "none", "nan", "null")
NUMBERS = ("public", "private", "cv")


@dataclass(frozen=True)
class ScoreTable:
    """What a table says.

    Attributes:
        submissions: in the table's order.
        left_out: headers of columns that mean nothing here.
    """

    submissions: tuple[LoggedSubmission, ...]
    left_out: tuple[str, ...]


def read_score_table(path: Path) -> ScoreTable:
    """Read a table of submissions.

    Raises:
        InputError: no such file, no table in it, no column of names or none of scores, two columns of one meaning, a
            score that is no number, or a submission that is there twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as text ({error})") from None
    rows = _markdown(text) if any(_is_rule(line) for line in text.splitlines()) else _csv(path, text)
    if not rows:
        raise InputError(f"{path} holds no table: a csv with a header, or a Markdown table is expected")
    (_, header), *body = rows
    columns, left_out = _columns(path, header)
    found: list[tuple[int, LoggedSubmission]] = []
    for number, cells in body:
        if len(cells) != len(header):
            raise InputError(f"{path}, row {number}: {len(cells)} cells, must be {len(header)} as the header")
        one = _submission(path, number, {field: cells[at] for field, at in columns.items()}, header, columns)
        for earlier, other in found:
            if one.is_same_as(other):
                raise InputError(
                    f"{path}, row {number}, column {header[columns['name']]!r}: {one.name!r} is row {earlier} "
                    "already; give them different names, dates or digests"
                )
        found.append((number, one))
    return ScoreTable(tuple(one for _, one in found), left_out)


def _columns(path: Path, header: list[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the place of each field, and the headers that stand for none."""
    meanings = {_plain(alias): field for field, names in ALIASES.items() for alias in (field, *names)}
    columns: dict[str, int] = {}
    left_out = []
    for place, name in enumerate(header):
        field = meanings.get(_plain(name))
        if field is None:
            left_out.append(name)
        elif field in columns:
            raise InputError(f"{path}: columns {header[columns[field]]!r} and {name!r} both mean {field}")
        else:
            columns[field] = place
    if "name" not in columns:
        raise InputError(f"{path} has no column 'name' ({', '.join(ALIASES['name'])} would do too)")
    if not set(NUMBERS) & set(columns):
        raise InputError(f"{path} has no column of scores: 'public', 'private' or 'cv' is needed")
    return columns, tuple(left_out)


def _submission(
    path: Path, number: int, cells: Mapping[str, str], header: list[str], columns: Mapping[str, int]
) -> LoggedSubmission:
    values: dict[str, Any] = {}
    for field, text in cells.items():
        said = _unadorned(text)
        if said.lower() in SAYS_NOTHING:
            continue
        if field in NUMBERS:
            try:
                values[field] = float(said)
                if not math.isfinite(values[field]):
                    raise ValueError
            except ValueError:
                raise InputError(
                    f"{path}, row {number}, column {header[columns[field]]!r}: {text.strip()!r} is no score; a "
                    "number such as 0.312, or nothing, is expected"
                ) from None
        else:
            values[field] = said
    if "name" not in values:
        raise InputError(
            f"{path}, row {number}, column {header[columns['name']]!r}: the submission has no name; every one needs one"
        )
    if "digest" in values:
        values["digest"] = values["digest"].lower()
    try:
        return LoggedSubmission(**values)
    except InputError as error:
        raise InputError(f"{path}, row {number}: {error}") from None


def _markdown(text: str) -> list[tuple[int, list[str]]]:
    """Return the first table's header and rows with their lines' numbers."""
    lines = text.splitlines()
    rule = next(number for number, line in enumerate(lines) if _is_rule(line))
    if rule == 0:
        return []
    found = [(rule, _cells(lines[rule - 1]))]
    for number, line in enumerate(lines[rule + 1 :], start=rule + 2):
        if "|" not in line:
            break
        found.append((number, _cells(line)))
    return found


def _is_rule(line: str) -> bool:
    """Whether a line stands between a Markdown table's header and its rows."""
    return {"|", "-"} <= set(line) <= set("|-: \t")


def _cells(line: str) -> list[str]:
    inside = line.strip().removeprefix("|")
    inside = inside[:-1] if inside.endswith("|") and not inside.endswith("\\|") else inside
    return [cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", inside)]


def _csv(path: Path, text: str) -> list[tuple[int, list[str]]]:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(f"{path}, row {reader.line_num} cannot be read as csv ({error})") from None
    return rows


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", _unadorned(name).lower())


def _unadorned(text: str) -> str:
    """Take Markdown's emphasis and code marks off a cell."""
    return text.strip().strip("*`").strip()
