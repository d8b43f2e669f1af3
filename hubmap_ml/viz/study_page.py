"""The page of a threshold study: gains, values and how stable they are, and how the search went.

One HTML file that needs nothing but itself: plotly's script stands in it (5 MB), there is no network. Without scripts
the tables can still be read.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from hubmap_ml.viz import study_figures as figures
from hubmap_ml.viz.page import framed_page, section


@dataclass(frozen=True)
class StudyGain:
    """A gain of the tuned steps over the base steps.

    Attributes:
        name: how it was measured.
        before, after: scores.
        low, high: 95 % interval of the gain; None where there is none.
        words: why there is none, or how it was made.
    """

    name: str
    before: float
    after: float
    low: float | None = None
    high: float | None = None
    words: str = ""


@dataclass(frozen=True)
class StudyValue:
    """A searched value.

    Attributes:
        name: as in the space; values of a class end with its name.
        before: of the base steps.
        best: chosen on all folds.
        by_fold: chosen for each held-out fold by the others.
        spread: how far these lie apart, as a share of the range; None where nothing was cross-fitted.
        importance: share in what makes trials differ; None where that is not known.
        low, high: searched range; None for choices.
        log: whether it was searched by its logarithm.
    """

    name: str
    before: Any
    best: Any
    by_fold: tuple[Any, ...] = ()
    spread: float | None = None
    importance: float | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False


@dataclass(frozen=True)
class StudyPage:
    """Everything the page says.

    Attributes:
        title, verdict: its head.
        metric, sampler: names.
        gains: the honest one first.
        values: in the order of the space.
        folds: their numbers.
        fold_base, fold_tuned, fold_held_out: scores of each fold before, with the values chosen on all folds, and with
            those that the other folds chose.
        trials: as ``tuning.Study`` has them.
        curves: ``before`` and ``after``: recall and precision.
        steps: the chosen post-processing, as data.
        mismatch, interpolation_error: as ``tuning.Study`` has them.
    """

    title: str
    verdict: str
    metric: str
    sampler: str
    gains: Sequence[StudyGain]
    values: Sequence[StudyValue]
    folds: Sequence[int]
    fold_base: Sequence[float]
    fold_tuned: Sequence[float]
    fold_held_out: Sequence[float]
    trials: pd.DataFrame
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    steps: Sequence[Mapping[str, Any]]
    mismatch: float
    interpolation_error: float


def write_study_page(path: Path, page: StudyPage) -> Path:
    """Write the page, whole or not at all, and return where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    beside.write_text(render_study_page(page), encoding="utf-8")
    beside.replace(path)
    return path


def render_study_page(page: StudyPage) -> str:
    """The page as HTML text; every value is escaped."""
    from plotly.offline import get_plotlyjs

    drawn: list[figures.Figure] = []
    sections = [
        _gains(page),
        _values(page),
        _folds(page),
        _curves(page, drawn),
        _search(page, drawn),
        _how(page),
    ]
    files = resources.files(__package__ or "")
    script = files.joinpath("study.js").read_text(encoding="utf-8")
    data = json.dumps(drawn, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    scripts = (
        f'<script type="application/json" id="figures">{data}</script>\n'
        f"<script>{get_plotlyjs()}</script>\n<script>\n{script}</script>\n"
    )
    return framed_page(page.title, page.verdict, sections, styles=("study.css",), scripts=scripts)


def _gains(page: StudyPage) -> str:
    ends = [0.0]
    for gain in page.gains:
        some = (gain.low, gain.high, gain.after - gain.before)
        ends += [end for end in some if end is not None and math.isfinite(end)]
    low, high = min(ends), max(ends)
    room = 0.06 * (high - low) or 0.01
    low, high = low - room, high + room

    def place(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    rows = []
    for k, gain in enumerate(page.gains):
        size = gain.after - gain.before
        interval, bar = f'<span class="note">{escape(gain.words) or "–"}</span>', ""
        if gain.low is not None and gain.high is not None:
            interval = f"{gain.low:+.4f} to {gain.high:+.4f}"
            width = f"{100 * (gain.high - gain.low) / (high - low):.2f}%"
            bar = f'<i class="bar" style="left:{place(gain.low)};width:{width}"></i>'
        forest = (
            f'<span class="forest" aria-hidden="true"><i class="zero" style="left:{place(0)}"></i>{bar}'
            f'<i class="dot" style="left:{place(size)}"></i></span>'
        )
        rows.append(
            f'<tr class="{"ensemble" if k == 0 and len(page.gains) > 1 else "member"}">'
            f'<th scope="row">{escape(gain.name)}</th>'
            f'<td class="number" data-label="before">{_score(gain.before)}</td>'
            f'<td class="number" data-label="after">{_score(gain.after)}</td>'
            f'<td class="number" data-label="gain"><b>{size:+.4f}</b></td>'
            f'<td class="number" data-label="95 %">{interval}</td><td class="wide">{forest}</td></tr>'
        )
    legend = (
        "<b>Cross-fitted</b>: each fold scored with the values that the other folds chose. The other line is measured "
        "on the images that the values were chosen on, and flatters."
    )
    made = next((gain.words for gain in page.gains if gain.low is not None and gain.words), "")
    if made:
        legend += f" Intervals: {escape(made)}."
    return section("Gain", _table(("", "before", "after", "gain", "95 % interval", ""), rows, legend))


def _values(page: StudyPage) -> str:
    rows = []
    for value in page.values:
        strip = _strip(value)
        spread = "–" if value.spread is None or not value.by_fold else f"{100 * value.spread:.0f} %"
        weight = "–"
        if value.importance is not None:
            weight = (
                f'<span class="value">{100 * value.importance:.0f} %</span><span class="track" aria-hidden="true">'
                f'<span style="width:{100 * value.importance:.1f}%"></span></span>'
            )
        rows.append(
            f'<tr><th scope="row">{escape(value.name)}</th>'
            f'<td class="number" data-label="before">{_text(value.before)}</td>'
            f'<td class="number" data-label="chosen"><b>{_text(value.best)}</b></td>'
            f'<td class="wide" data-label="folds">{strip}</td>'
            f'<td class="number" data-label="spread">{spread}</td>'
            f'<td class="number score" data-label="importance">{weight}</td></tr>'
        )
    legend = (
        "<b>Folds</b>: what the other folds chose for each fold (points), and on all folds (line), in the searched "
        "range. <b>Spread</b>: how much of that range lies between them: a value that wanders was not found, it does "
        "not matter or cannot be told here. <b>Importance</b>: share of the differences between trials (fANOVA over "
        "the evenly spread ones)."
    )
    return section(
        "Values", _table(("value", "before", "chosen", "<folds", "spread", "importance"), rows, legend)
    )


def _strip(value: StudyValue) -> str:
    if value.low is None or value.high is None:
        return escape(", ".join(_text(one) for one in value.by_fold))
    low, high = value.low, value.high

    def place(one: float) -> str:
        if value.log:
            return f"{100 * math.log(one / low) / math.log(high / low):.2f}%"
        return f"{100 * (one - low) / (high - low):.2f}%"

    inside = [one for one in value.by_fold if low <= one <= high]
    points = "".join(f'<i class="dot" style="left:{place(one)}"></i>' for one in inside)
    line = f'<i class="chosen" style="left:{place(value.best)}"></i>' if low <= value.best <= high else ""
    said = f"{_text(low)} to {_text(high)}: {', '.join(_text(one) for one in value.by_fold)}"
    return (
        f'<span class="strip" role="img" aria-label="{escape(said)}" title="{escape(said)}">{line}{points}</span>'
        f'<span class="ends"><span>{_text(low)}</span><span>{_text(high)}</span></span>'
    )


def _folds(page: StudyPage) -> str:
    if len(page.folds) < 2:
        return ""
    rows = [
        f'<tr><th scope="row">fold {fold}</th><td class="number" data-label="before">{_score(before)}</td>'
        f'<td class="number" data-label="others\' choice">{_score(held_out)}</td>'
        f'<td class="number" data-label="chosen on all">{_score(tuned)}</td></tr>'
        for fold, before, held_out, tuned in zip(
            page.folds, page.fold_base, page.fold_held_out, page.fold_tuned, strict=True
        )
    ]
    legend = f"Scores are {escape(page.metric)}. A fold without truths has none."
    return section("Folds", _table(("", "before", "others' choice", "chosen on all folds"), rows, legend))


def _curves(page: StudyPage, drawn: list[figures.Figure]) -> str:
    if not page.curves:
        return ""
    figure = _place(drawn, figures.precision_over_recall(page.curves), "precision over recall")
    note = (
        "At mask IoU 0.6, all images and classes together; after: with the values that the other folds chose."
    )
    return section(
        "Precision and recall", f'<div class="plots one">{figure}</div><p class="legend">{note}</p>'
    )


def _search(page: StudyPage, drawn: list[figures.Figure]) -> str:
    groups = (
        [(str(name), part) for name, part in page.trials.groupby("class", sort=False)]
        if "class" in page.trials
        else [("", page.trials)]
    )
    parts = []
    for name, trials in groups:
        of_group = (
            [value for value in page.values if value.name.endswith(f".{name}")] if name else list(page.values)
        )
        by_weight = sorted(of_group, key=lambda value: -(value.importance or 0.0))
        axes = {
            value.name: _axis(value, trials) for value in by_weight if _axis(value, trials).name in trials
        }
        varied = [axis for axis in axes.values() if trials[axis.name].nunique() > 1]
        base = {_axis(value, trials).name: value.before for value in of_group}
        plots = [_place(drawn, figures.history(trials, page.metric), "score of each trial")]
        plots += [
            _place(
                drawn, figures.slice_of(trials, axis, page.metric, base[axis.name]), f"score over {axis.name}"
            )
            for axis in varied
        ]
        parts.append(
            (f"<h3>{escape(name)}</h3>" if name else "") + f'<div class="plots">{"".join(plots)}</div>'
        )
        pairs = figures.contours(trials, varied, page.metric)
        if pairs:
            shown = "".join(_place(drawn, figure, title) for title, figure in pairs)
            parts.append(f'<div class="plots">{shown}</div>')
        if len(varied) > 1:
            lines = _place(
                drawn, figures.parallel(trials, varied, page.metric), "parallel coordinates", " tall"
            )
            parts.append(f'<div class="plots one"><div class="wide-plot">{lines}</div></div>')
    counts = page.trials["part"].value_counts()
    fixed = int(counts.get("fixed", 0))
    proposed = len(page.trials) - fixed
    note = (
        f"{len(page.trials)} trials by {escape(page.sampler)}: {fixed} fixed beforehand"
        + (
            f", {proposed} proposed by what was found, for each held-out fold without its truths"
            if proposed
            else ""
        )
        + ". Contours are smoothed means of all trials; blank where none lie near. Lines: the best trials. The "
        "vertical axes leave out the lowest tenth."
    )
    return section("Search", "".join(parts) + f'<p class="legend">{note}</p>')


def _how(page: StudyPage) -> str:
    steps = "\n".join(f"- {json.dumps(dict(step))}" for step in page.steps)
    checks = [
        f"The chosen values were scored again by applying the steps and evaluating, and by an independent reference: "
        f"difference {page.mismatch:.1g}.",
    ]
    if page.interpolation_error > 0:
        checks.append(
            "Mask thresholds between those of the cache are interpolated while searching; the best were scored again "
            f"exactly before one was chosen (largest difference {page.interpolation_error:.4f})."
        )
    lines = "\n".join(f"<li>{escape(line)}</li>" for line in checks)
    inside = f'<pre class="steps">{escape(steps)}</pre><ul class="how">{lines}</ul>'
    return section("The chosen post-processing", inside)


def _axis(value: StudyValue, trials: pd.DataFrame) -> figures.Axis:
    """A value as an axis; a class's own stands in the trials under the value's name without the class."""
    name = value.name
    if name not in trials and "class" in trials:
        found = [
            str(column)
            for column in trials.columns
            if name.startswith(f"{column}.") or _long(str(column), name)
        ]
        name = found[0] if found else name
    return figures.Axis(name, value.low, value.high, value.log, value.best, value.by_fold)


def _long(column: str, name: str) -> bool:
    """Whether a short name such as ``nms_iou`` is a class's ``nms.iou.astro``."""
    return name.startswith(f"{column.replace('_', '.', 1)}.")


def _place(drawn: list[figures.Figure], figure: figures.Figure, title: str, kind: str = "") -> str:
    drawn.append(figure)
    return (
        f'<figure class="plot"><div class="drawing{kind}" data-figure="{len(drawn) - 1}" role="img" '
        f'aria-label="{escape(title)}">'
        f"<noscript>{escape(title)}: needs scripts</noscript></div></figure>"
    )


def _table(heads: Sequence[str], rows: Sequence[str], legend: str) -> str:
    kinds = ["", *("wide" if head.startswith("<") else "number" for head in heads[1:])]
    cells = "".join(
        f'<th scope="col" class="{kind}">{escape(head.removeprefix("<"))}</th>'
        for head, kind in zip(heads, kinds, strict=True)
    )
    return (
        f'<div class="scroll"><table class="scores">\n<thead><tr>{cells}</tr></thead>\n'
        f"<tbody>\n{chr(10).join(rows)}\n</tbody></table></div>" + f'<p class="legend">{legend}</p>'
    )


def _score(value: float | None) -> str:
    return f"{value:.4f}" if value is not None and math.isfinite(value) else "–"


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return escape(str(value))
    return f"{value:.4g}"
