"""The report's first table: members and ensembles with score, interval, leak level, cost, and why they are promoted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from hubmap_ml.metrics import Interval
from hubmap_ml.spec.durations import duration


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
        interval: 95 % of the believable score on these slides.
        leak: leak level in words.
        cost: what an image costs, in words.
        why: why it is promoted or leads, or why not.
    """

    name: str
    kind: str = "member"
    out_of_fold: float | None = None
    cross_fitted: float | None = None
    hidden_test: float | None = None
    seconds: float | None = None
    badge: str = ""
    note: str = ""
    interval: Interval | None = None
    leak: str = ""
    cost: str = ""
    why: str = ""


SCORES = (
    ("cross_fitted", "cross-fitted", "thresholds chosen on the other folds: the score of the procedure"),
    ("out_of_fold", "out of fold", "on the held-out folds, thresholds as registered"),
    ("hidden_test", "hidden test", "on test images whose truth was not used"),
)


def score_table(rows: Sequence[ReportRow], metric: str) -> str:
    """Return the table with its legend as HTML; "" without rows. Columns that nobody fills are left out."""
    if not rows:
        return ""
    shown = [score for score in SCORES if any(_score_of(row, score[0]) is not None for row in rows)]
    values = {
        key: [value for row in rows if (value := _score_of(row, key)) is not None] for key, _, _ in shown
    }
    best = {key: max(found) if len(found) > 1 else math.inf for key, found in values.items()}
    sure = any(row.interval is not None for row in rows)
    timed = any(row.seconds is not None for row in rows)
    told = [name for name in ("leak", "cost") if any(getattr(row, name) for row in rows)]
    heads = ['<th scope="col">model</th>']
    heads += [f'<th scope="col" class="number" title="{escape(why)}">{name}</th>' for _, name, why in shown]
    if sure:
        heads.insert(2 if shown else 1, '<th scope="col" class="number">95 % on these slides</th>')
    heads += [f'<th scope="col" class="words">{name}</th>' for name in told]
    heads += ['<th scope="col" class="number">time</th>'] if timed else []
    lines = []
    for row in rows:
        cells = [_name_cell(row)]
        cells += [_score_cell(_score_of(row, key), best[key], name) for key, name, _ in shown]
        if sure:
            cells.insert(2 if shown else 1, _interval_cell(row.interval))
        cells += [
            f'<td class="words" data-label="{name}">{escape(getattr(row, name)) or "–"}</td>' for name in told
        ]
        if timed:
            cells.append(f'<td class="number time" data-label="time">{duration(row.seconds)}</td>')
        lines.append(f'<tr class="{escape(row.kind)}">{"".join(cells)}</tr>')
    legend = "; ".join(f"<b>{name}</b>: {escape(why)}" for _, name, why in shown)
    return (
        f'<div class="scroll" tabindex="0"><table class="scores">\n<thead><tr>{"".join(heads)}</tr></thead>\n'
        f"<tbody>\n{chr(10).join(lines)}\n</tbody></table></div>"
        f'<p class="legend">Scores are {escape(metric)}. {legend}.</p>'
    )


def _score_of(row: ReportRow, key: str) -> float | None:
    value: float | None = getattr(row, key)
    return value if value is not None and math.isfinite(value) else None


def _name_cell(row: ReportRow) -> str:
    badge = f' <span class="badge">{escape(row.badge)}</span>' if row.badge else ""
    notes = "".join(f'<span class="note">{escape(text)}</span>' for text in (row.why, row.note) if text)
    return f'<th scope="row">{escape(row.name)}{badge}{notes}</th>'


def _interval_cell(interval: Interval | None) -> str:
    known = interval is not None and interval.low is not None
    words = "–" if interval is None else interval.in_words(".4f")
    return f'<td class="{"number" if known else "words"}" data-label="95 %">{escape(words)}</td>'


def _score_cell(value: float | None, best: float, name: str) -> str:
    if value is None:
        return f'<td class="number" data-label="{name}">–</td>'
    mark = " best" if value == best else ""
    share = 100.0 * min(max(value, 0.0), 1.0)
    return (
        f'<td class="number score{mark}" data-label="{name}"><span class="value">{value:.4f}</span>'
        f'<span class="track" aria-hidden="true"><span style="width:{share:.1f}%"></span></span></td>'
    )
