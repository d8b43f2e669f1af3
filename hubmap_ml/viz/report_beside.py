"""Two experiments side by side: each one's scores, pipeline and ensemble, and the two compared on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from hubmap_ml.viz.gallery import Gallery, PictureSize, gallery, scripts
from hubmap_ml.viz.illustrated_page import LARGEST, STYLES, within
from hubmap_ml.viz.page import framed_page, section, write_text
from hubmap_ml.viz.report import (
    ReportData,
    ReportErrors,
    error_sections,
    origin_sections,
    summary_sections,
)
from hubmap_ml.viz.tables import plain_table

LONGEST_VALUE = 300


@dataclass(frozen=True)
class ReportBeside:
    """Everything that the page says.

    Attributes:
        left, right: the two; of them the summaries are shown.
        verdict: the first thing to know.
        errors: the two compared; None where they could not be.
        galleries: tiles of each.
        changes: dotted key, value of the left and of the right one, of all that they were told differently.
        notes: what a reader must know about the comparison.
    """

    left: ReportData
    right: ReportData
    verdict: str
    errors: ReportErrors | None = None
    galleries: Sequence[Gallery] = ()
    changes: Sequence[tuple[str, Any, Any]] = ()
    notes: Sequence[str] = ()


def write_beside(path: Path, data: ReportBeside) -> Path:
    """Write the page, whole or not at all, and return where it is."""
    return write_text(path, render_beside(data))


def render_beside(data: ReportBeside, *, largest: int = LARGEST) -> str:
    """The page as HTML text; every value is escaped; arguments as for ``render_page``."""
    return within(largest, lambda size: _page(data, size))


def _page(data: ReportBeside, size: PictureSize) -> str:
    left, right = data.left, data.right
    names = [left.title, right.title]
    if names[0] == names[1]:
        names = [f"{name} ({k})" for k, name in enumerate(names, start=1)]
    columns = "".join(
        f'<div><p class="verdict">{escape(side.verdict)}</p>{"".join(summary_sections(side, of=name))}</div>'
        for side, name in zip((left, right), names, strict=True)
    )
    notes = "".join(f'<p class="legend">{escape(note)}</p>' for note in data.notes)
    return framed_page(
        f"{names[0]} and {names[1]}",
        data.verdict,
        [
            f'<div class="beside">{columns}</div>',
            notes,
            *error_sections(data.errors),
            _changes(data.changes, names),
            *(
                section(one.title, gallery(one, number=number, size=size))
                for number, one in enumerate(data.galleries)
            ),
            *origin_sections(left, of=names[0]),
            *origin_sections(right, of=names[1]),
        ],
        generated=left.generated,
        styles=STYLES,
        scripts=f"<script>\n{scripts()}</script>\n" if data.galleries else "",
    )


def _changes(changes: Sequence[tuple[str, Any, Any]], names: Sequence[str]) -> str:
    if not changes:
        return section("What they were told differently", '<p class="legend">Nothing.</p>')
    rows = [
        [f"<code>{escape(path)}</code>", escape(_told(before)), escape(_told(after))]
        for path, before, after in changes
    ]
    return section("What they were told differently", plain_table(["key", *names], rows))


def _told(value: Any) -> str:
    text = "–" if value is None else str(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
