"""The page of a network's held-out predictions: precision over recall, classes mixed up, the tiles that cost most."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.viz.gallery import Gallery, PictureSize, gallery, scripts
from hubmap_ml.viz.illustrated_page import LARGEST, STYLES, within
from hubmap_ml.viz.line_plot import Line, line_plot
from hubmap_ml.viz.page import framed_page, section, write_text
from hubmap_ml.viz.tables import Cell, plain_table

MOST_POINTS = 300


@dataclass(frozen=True, eq=False)
class HeldOutPage:
    """Everything the page says.

    Attributes:
        title, verdict: its head.
        recall, precision: after each detection, by descending score.
        categories: names of K classes.
        confusion: int64 (K + 1, K + 1): truths by class (last row: nothing there) and by what was predicted (last
            column: nothing), at ``threshold``.
        threshold: the score with the best F1.
        gallery: the tiles that cost most; None without pictures.
    """

    title: str
    verdict: str
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    categories: Sequence[str]
    confusion: NDArray[np.int64]
    threshold: float
    gallery: Gallery | None = None


def write_held_out_page(path: Path, page: HeldOutPage) -> Path:
    """Write the page, whole or not at all, and return where it is."""
    return write_text(path, within(LARGEST, lambda size: _render(page, size)))


def _render(page: HeldOutPage, size: PictureSize) -> str:
    shown = page.gallery if page.gallery is not None and page.gallery.tiles else None
    return framed_page(
        page.title,
        page.verdict,
        [
            section("Precision over recall", _curve(page)),
            section("Classes", _confusion(page)),
            section(shown.title, gallery(shown, number=0, size=size)) if shown else "",
        ],
        styles=STYLES,
        scripts=f"<script>\n{scripts()}</script>\n" if shown else "",
    )


def _curve(page: HeldOutPage) -> str:
    rows = np.unique(np.linspace(0, max(len(page.recall) - 1, 0), MOST_POINTS).round().astype(int))
    points = [(float(page.recall[k]), float(page.precision[k])) for k in rows if k < len(page.recall)]
    drawn = line_plot([Line("precision", tuple(points), "recall")], label="Precision over recall")
    return drawn or '<p class="legend">Nothing was predicted.</p>'


def _confusion(page: HeldOutPage) -> str:
    names = [*page.categories, "nothing"]
    most = max(int(page.confusion.max(initial=0)), 1)
    rows: list[list[Cell]] = []
    for k, name in enumerate(names):
        row: list[Cell] = [escape(name if k < len(page.categories) else "nothing there")]
        for column, count in enumerate(page.confusion[k]):
            if k == column == len(page.categories):
                row.append(("", "number"))
                continue
            share = 100 * int(count) / most
            kind = "high" if k == column else "low" if count else "quiet"
            bar = f'<span class="track" aria-hidden="true"><span style="width:{share:.1f}%"></span></span>'
            row.append((f"{int(count):,}{bar}", f"number {kind}"))
        rows.append(row)
    legend = (
        '<p class="legend">Rows: what is there; columns: what was predicted, '
        f"at score ≥ {page.threshold:.2f} (the best F1). The last row counts predictions where nothing is (and second "
        "or badly placed ones), the last column "
        "truths that nothing was predicted for.</p>"
    )
    return plain_table(["", *(f"{name}|" for name in names)], rows) + legend
