"""The report: one HTML page that needs nothing but itself.

It opens from disk and inside MLflow's sandboxed artifact viewer: no network, no scripts, pictures as data
URIs, light and dark by the reader's setting. What it says arrives as plain values; where they come from is no
concern here.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hubmap_ml.viz.page import framed_page, section, write_text

JPEG_QUALITY = 90


@dataclass(frozen=True)
class ReportRow:
    """One line of the final table: a member or the ensemble.

    Attributes:
        name: as registered.
        kind: ``"member"`` or ``"ensemble"``; ensembles stand out.
        out_of_fold: the headline score on held-out folds; None where there is none.
        cross_fitted: the score of the procedure, with thresholds chosen on the other folds.
        hidden_test: the score on test images whose truth was never used.
        seconds: time spent on it, all stages together.
        badge: a word such as ``promoted`` or ``champion``.
        note: one short sentence.
    """

    name: str
    kind: str = "member"
    out_of_fold: float | None = None
    cross_fitted: float | None = None
    hidden_test: float | None = None
    seconds: float | None = None
    badge: str = ""
    note: str = ""


@dataclass(frozen=True)
class ReportStage:
    """One step of the chain: what ran, for how long, how it ended.

    Attributes:
        name: a sentence-like name such as ``finetune · htc · fold 1``.
        seconds: wall time; None if unknown.
        status: ``finished``, ``reused``, ``failed`` or ``running``.
        detail: its result in a few words.
    """

    name: str
    seconds: float | None = None
    status: str = "finished"
    detail: str = ""


@dataclass(frozen=True)
class ReportFigure:
    """A picture of the gallery.

    Attributes:
        title: short, such as the tile's id.
        image: (H, W, 3) uint8 RGB.
        caption: what to see on it.
        alt: for those who cannot see it; the title and caption if empty.
    """

    title: str
    image: NDArray[np.uint8]
    caption: str = ""
    alt: str = ""


@dataclass(frozen=True)
class ReportData:
    """Everything the page says.

    Attributes:
        title: the experiment's name.
        verdict: the first thing to know, one sentence.
        metric: the metric's name, as the table's columns mean it.
        rows: the final table, in this order.
        stages: the chain, in the order it ran.
        figures: the gallery.
        how_scored: sentences on how the scores came about.
        environment: what ran it (versions, commit, machine), name to value.
        generated: when, as text.
    """

    title: str
    verdict: str
    metric: str
    rows: Sequence[ReportRow]
    stages: Sequence[ReportStage] = ()
    figures: Sequence[ReportFigure] = ()
    how_scored: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    generated: str = ""


SCORES = (
    ("out_of_fold", "out of fold", "on the held-out folds, thresholds as registered"),
    ("cross_fitted", "cross-fitted", "thresholds chosen on the other folds: the score of the procedure"),
    ("hidden_test", "hidden test", "on test images whose truth was not used"),
)


def write_page(path: Path, data: ReportData) -> Path:
    """Write the page, whole or not at all, and return where it is."""
    return write_text(path, render_page(data))


def render_page(data: ReportData) -> str:
    """The page as HTML text; every value is escaped."""
    sections = [
        _table(data),
        _chain(data.stages),
        _gallery(data.figures),
        _how_scored(data.how_scored),
        _environment(data.environment),
    ]
    return framed_page(data.title, data.verdict, sections, generated=data.generated)


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: ``8 s``, ``1 min 40 s``, ``2 h 5 min``; a dash if unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _score_of(row: ReportRow, key: str) -> float | None:
    value: float | None = getattr(row, key)
    return value if value is not None and math.isfinite(value) else None


def _table(data: ReportData) -> str:
    if not data.rows:
        return ""
    shown = [score for score in SCORES if any(_score_of(row, score[0]) is not None for row in data.rows)]
    values = {
        key: [value for row in data.rows if (value := _score_of(row, key)) is not None] for key, _, _ in shown
    }
    best = {key: max(found) if len(found) > 1 else math.inf for key, found in values.items()}
    timed = any(row.seconds is not None for row in data.rows)
    heads = ['<th scope="col">model</th>']
    heads += [f'<th scope="col" class="number" title="{escape(why)}">{name}</th>' for _, name, why in shown]
    heads += ['<th scope="col" class="number">time</th>'] if timed else []
    lines = []
    for row in data.rows:
        cells = [_name_cell(row)]
        cells += [_score_cell(_score_of(row, key), best[key], name) for key, name, _ in shown]
        if timed:
            cells.append(f'<td class="number time" data-label="time">{duration(row.seconds)}</td>')
        lines.append(f'<tr class="{escape(row.kind)}">{"".join(cells)}</tr>')
    legend = "; ".join(f"<b>{name}</b>: {escape(why)}" for _, name, why in shown)
    table = (
        f'<div class="scroll"><table class="scores">\n<thead><tr>{"".join(heads)}</tr></thead>\n'
        f"<tbody>\n{chr(10).join(lines)}\n</tbody></table></div>"
        f'<p class="legend">Scores are {escape(data.metric)}. {legend}.</p>'
    )
    return section("Scores", table)


def _name_cell(row: ReportRow) -> str:
    badge = f' <span class="badge">{escape(row.badge)}</span>' if row.badge else ""
    note = f'<span class="note">{escape(row.note)}</span>' if row.note else ""
    return f'<th scope="row">{escape(row.name)}{badge}{note}</th>'


def _score_cell(value: float | None, best: float, name: str) -> str:
    if value is None:
        return f'<td class="number" data-label="{name}">–</td>'
    mark = " best" if value == best else ""
    share = 100.0 * min(max(value, 0.0), 1.0)
    return (
        f'<td class="number score{mark}" data-label="{name}"><span class="value">{value:.4f}</span>'
        f'<span class="track" aria-hidden="true"><span style="width:{share:.1f}%"></span></span></td>'
    )


def _chain(stages: Sequence[ReportStage]) -> str:
    if not stages:
        return ""
    longest = max((stage.seconds or 0.0 for stage in stages), default=0.0) or 1.0
    lines = []
    for stage in stages:
        share = 100.0 * (stage.seconds or 0.0) / longest
        detail = f'<span class="detail">{escape(stage.detail)}</span>' if stage.detail else ""
        lines.append(
            f'<li class="{escape(stage.status)}"><span class="step">{escape(stage.name)}</span>'
            f'<span class="status">{escape(stage.status)}</span>'
            f'<span class="took">{duration(stage.seconds)}</span>{detail}'
            f'<span class="track" aria-hidden="true"><span style="width:{share:.1f}%"></span></span></li>'
        )
    total = sum(stage.seconds or 0.0 for stage in stages)
    note = f'<p class="legend">{len(stages)} steps, {duration(total)} of work.</p>'
    return section("The chain", f'<ol class="chain">\n{chr(10).join(lines)}\n</ol>\n{note}')


def _gallery(figures: Sequence[ReportFigure]) -> str:
    if not figures:
        return ""
    lines = []
    for figure in figures:
        alt = figure.alt or ", ".join(text for text in (figure.title, figure.caption) if text)
        caption = f"<span>{escape(figure.caption)}</span>" if figure.caption else ""
        height, width = figure.image.shape[:2]
        lines.append(
            f'<figure><img src="{_data_uri(figure.image)}" width="{width}" height="{height}" '
            f'alt="{escape(alt)}"><figcaption><b>{escape(figure.title)}</b>{caption}</figcaption></figure>'
        )
    return section("Truth and prediction", f'<div class="gallery">\n{chr(10).join(lines)}\n</div>')


def _how_scored(sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    lines = "\n".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return section("How these scores were made", f'<ul class="how">\n{lines}\n</ul>')


def _environment(environment: Mapping[str, str]) -> str:
    if not environment:
        return ""
    lines = "\n".join(
        f"<div><dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in environment.items()
    )
    return section("Environment", f'<dl class="environment">\n{lines}\n</dl>')


def _data_uri(image: NDArray[np.uint8]) -> str:
    done, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(image[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not done:
        raise ValueError(f"a picture of shape {image.shape} could not be encoded")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
