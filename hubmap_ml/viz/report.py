"""The report: one HTML page that needs nothing but itself.

It opens from disk and inside MLflow's sandboxed artifact viewer: no network, pictures as data URIs, light and dark by
the reader's setting. A short script moves the sliders of galleries; without it everything can still be read. What the
page says arrives as plain values; where they come from is no concern here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape, unescape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.metrics import Comparison, ErrorAnatomy, WorstImage
from hubmap_ml.spec.durations import duration
from hubmap_ml.viz import comparison as comparisons
from hubmap_ml.viz.gallery import Gallery, PictureSize, data_uri, gallery, scripts
from hubmap_ml.viz.illustrated_page import LARGEST, STYLES, within
from hubmap_ml.viz.line_plot import Line, line_plot
from hubmap_ml.viz.page import contents, framed_page, section, write_text
from hubmap_ml.viz.pipeline_graph import GraphStep, pipeline_graph
from hubmap_ml.viz.report_parts import (
    ReportEnsemble,
    ReportOrigin,
    ReportStudy,
    ensemble_tables,
    lineage_table,
    studies_table,
)
from hubmap_ml.viz.report_scores import ReportRow, score_table

JPEG_QUALITY = 90
LONG = 5
"""A page of more sections begins with links to them."""


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
class ReportErrors:
    """What several sets of predictions get wrong: their comparison, and of each set its errors and worst images.

    Attributes:
        notes: what a reader must know about it.
        first: number of the set that the page is about, whose worst images are named; None for those of all.
    """

    comparison: Comparison
    anatomies: Sequence[ErrorAnatomy]
    worst: Sequence[Sequence[WorstImage]]
    notes: Sequence[str] = ()
    first: int | None = None


@dataclass(frozen=True)
class ReportData:
    """Everything the page says; what is empty is left out.

    Attributes:
        title: the experiment's name, or the run's.
        verdict: the first thing to know, one sentence.
        metric: the metric's name, as the table's columns mean it.
        rows: the final table, in this order.
        stages: the chain, in the order it ran.
        figures: pictures without a slider.
        how_scored: sentences on how the scores came about.
        environment: what ran it (versions, commit, machine), name to value.
        generated: when, as text.
        graph: the pipeline's steps, drawn above the chain.
        studies: threshold studies before and after.
        ensemble: what the ensemble is made of.
        errors: scores side by side, by slide, and what is wrong.
        galleries: tiles with sliders.
        curves: by title, lines over epochs.
        lineage: what everything came from.
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
    graph: Sequence[GraphStep] = ()
    studies: Sequence[ReportStudy] = ()
    ensemble: ReportEnsemble | None = None
    errors: ReportErrors | None = None
    galleries: Sequence[Gallery] = ()
    curves: Mapping[str, Sequence[Line]] = field(default_factory=dict)
    lineage: Sequence[ReportOrigin] = ()


def write_page(path: Path, data: ReportData) -> Path:
    """Write the page, whole or not at all, and return where it is."""
    return write_text(path, render_page(data))


def render_page(data: ReportData, *, largest: int = LARGEST) -> str:
    """The page as HTML text; every value is escaped.

    Args:
        data: what it says.
        largest: bytes that it may have: pictures become smaller, then fewer, until it has no more.
    """
    return within(largest, lambda size: _page(data, size))


def _page(data: ReportData, size: PictureSize) -> str:
    sections = [text for text in (*summary_sections(data), *detail_sections(data, size)) if text]
    titles = [unescape(found[1]) for text in sections if (found := re.search("<h2>(.*?)</h2>", text))]
    return framed_page(
        data.title,
        data.verdict,
        [contents(titles) if len(titles) > LONG else "", *sections],
        generated=data.generated,
        styles=STYLES,
        scripts=f"<script>\n{scripts()}</script>\n" if data.galleries else "",
    )


def summary_sections(data: ReportData, *, of: str = "") -> list[str]:
    """The sections that two experiments have beside each other: scores, pipeline, studies, ensemble.

    Args:
        data: what they say.
        of: whose, in their titles.
    """
    whose = f" of {of}" if of else ""
    return [
        section(f"Scores{whose}", score_table(data.rows, data.metric)) if data.rows else "",
        _pipeline(data, whose),
        *(
            section(f"{title}{whose}", line_plot(lines, label=title))
            for title, lines in data.curves.items()
            if any(line.points for line in lines)
        ),
        section(f"Thresholds, before and after{whose}", studies_table(data.studies, data.metric))
        if data.studies
        else "",
        section(f"The ensemble's members{whose}", ensemble_tables(data.ensemble)) if data.ensemble else "",
    ]


def detail_sections(data: ReportData, size: PictureSize) -> list[str]:
    """The sections about errors and pictures, and where everything came from."""
    return [
        *error_sections(data.errors),
        *(
            section(one.title, gallery(one, number=number, size=size))
            for number, one in enumerate(data.galleries)
        ),
        _pictures(data.figures),
        _how_scored(data.how_scored),
        *origin_sections(data),
        _environment(data.environment),
    ]


def origin_sections(data: ReportData, *, of: str = "") -> list[str]:
    """Where everything came from."""
    title = f"Lineage of {of}" if of else "Lineage"
    return [section(title, lineage_table(data.lineage)) if data.lineage else ""]


def error_sections(errors: ReportErrors | None) -> list[str]:
    """Sections on what sets of predictions score by slide and get wrong; those of ``compare``'s page."""
    if errors is None:
        return []
    found = errors.comparison
    return [
        comparisons.scores_section(found, "Scores side by side") if len(found.scores) > 1 else "",
        comparisons.gains_section(found),
        comparisons.slides_section(found),
        comparisons.errors_section(found, errors.anatomies),
        *(
            comparisons.worst_section(found, number, errors.anatomies[number], part, opened=False)
            for number, part in enumerate(errors.worst)
            if errors.first in (None, number)
        ),
        *(f'<p class="legend">{escape(note)}</p>' for note in errors.notes),
    ]


def _pipeline(data: ReportData, whose: str) -> str:
    if not data.graph and not data.stages:
        return ""
    chain = _chain(data.stages)
    if data.graph and chain:
        chain = f"<details><summary>Every run, with its verdict</summary>{chain}</details>"
    return section(f"The {'pipeline' if data.graph else 'chain'}{whose}", pipeline_graph(data.graph) + chain)


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
    return f'<ol class="chain">\n{chr(10).join(lines)}\n</ol>\n{note}'


def _pictures(figures: Sequence[ReportFigure]) -> str:
    if not figures:
        return ""
    lines = []
    for figure in figures:
        alt = figure.alt or ", ".join(text for text in (figure.title, figure.caption) if text)
        caption = f"<span>{escape(figure.caption)}</span>" if figure.caption else ""
        height, width = figure.image.shape[:2]
        lines.append(
            f'<figure><img src="{data_uri(figure.image, JPEG_QUALITY)}" width="{width}" height="{height}" '
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
