"""Plain tables of a page: numbers to the right, rows that head a group, sets told apart by a dot's colour."""

import math
from collections.abc import Sequence
from html import escape

COLOURS = 6
Cell = str | tuple[str, str]
"""HTML, or HTML and the classes of its cell."""


def plain_table(heads: Sequence[str], rows: Sequence[Sequence[Cell] | str]) -> str:
    """A table; a head that ends in | is that of a column of numbers, a row that is text heads a group."""
    head = "".join(
        f'<th scope="col" class="number">{escape(name[:-1])}</th>'
        if name.endswith("|")
        else f'<th scope="col"{"" if name else " class=bars"}>{escape(name)}</th>'
        for name in heads
    )
    lines = []
    for row in rows:
        if isinstance(row, str):
            lines.append(
                f'<tr class="group"><th scope="colgroup" colspan="{len(heads)}">{escape(row)}</th></tr>'
            )
            continue
        cells = []
        for place, cell in enumerate(row):
            text, kind = cell if isinstance(cell, tuple) else (cell, "")
            tag, scope = ("th", ' scope="row"') if place == 0 else ("td", "")
            cells.append(f'<{tag}{scope} class="{kind.strip()}">{text}</{tag}>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll" tabindex="0"><table class="plain">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{chr(10).join(lines)}\n</tbody></table></div>"
    )


def name_cell(number: int, name: str) -> Cell:
    """The name of the set of this number, with its colour."""
    return f'<span class="dot" aria-hidden="true"></span>{escape(name)}', f"set{number % COLOURS}"


def number_cell(value: float, form: str = ".4f") -> Cell:
    """A number's cell; a dash for what is none."""
    return number_text(value, form), "number"


def number_text(value: float, form: str = ".4f") -> str:
    """A number as text; a dash for what is none."""
    return f"{value:{form}}" if math.isfinite(value) else "–"
