"""The page of a score log: CV against the leaderboards, what to trust, what may move, and which submissions to keep."""

import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from hubmap_ml.metrics import RankAgreement, ScoreLogFindings
from hubmap_ml.metrics.score_log import RULES, Group
from hubmap_ml.spec import LoggedSubmission
from hubmap_ml.viz.page import framed_page, section, write_text
from hubmap_ml.viz.scatter_plot import Point, scatter_plot
from hubmap_ml.viz.tables import COLOURS, Cell, name_cell, number_text, plain_table

SHOWN_INVERSIONS = 12
TITLES = {"cv": "CV", "public": "public leaderboard", "private": "private leaderboard"}
METHODS = (
    "Coefficients: Spearman by average ranks, Kendall's tau-b. 95 % intervals are Fisher's (standard errors of Bonett "
    "and Wright 2000, and of Fieller, Hartley and Pearson 1957), from five submissions; they take submissions for "
    "independent draws, and those of one team resemble each other.",
    "Differences of two coefficients: Zou 2007, for coefficients that share a score.",
    "Expected moves: pairs of normal scores with the Kendall coefficient found (Greiner's relation), ranked twice, "
    "4,000 draws; the interval is that of the ends of Kendall's interval. The private leaderboard is other images: "
    "where its scores are not known yet, the move from CV to public is the nearest thing that was seen.",
    *RULES,
)


def write_score_page(path: Path, findings: ScoreLogFindings, *, title: str, generated: str = "") -> Path:
    """Write the page, whole or not at all, and return where it is."""
    return write_text(path, render_score_page(findings, title=title, generated=generated))


def render_score_page(findings: ScoreLogFindings, *, title: str, generated: str = "") -> str:
    """The page as HTML text; every value is escaped.

    Args:
        findings: of the log.
        title, generated: plain text.
    """
    numbers = {id(one): number for number, one in enumerate(findings.submissions, start=1)}
    return framed_page(
        title,
        findings.verdict,
        [
            _kept(findings, numbers),
            *(_group(k, group, numbers) for k, group in enumerate(findings.groups)),
            _agreements(findings),
            _moves(findings),
            _submissions(findings),
            _how(),
        ],
        generated=generated,
        styles=("comparison.css", "scores.css"),
    )


def _kept(findings: ScoreLogFindings, numbers: dict[int, int]) -> str:
    if not findings.keep:
        return ""
    lines = [
        f"<li><b>{numbers[id(one)]} · {escape(one.name)}</b><span>{escape(one.in_words())}</span></li>"
        for one in findings.keep
    ]
    known = sorted((one.private for one in findings.submissions if one.private is not None), reverse=True)
    places = [known.index(one.private) + 1 for one in findings.keep if one.private is not None]
    how = f" On the private leaderboard their places are {_listed(places)} of {len(known)}." if places else ""
    words = f'<p class="legend">{escape(findings.keep_words[0].upper() + findings.keep_words[1:])}.{how}</p>'
    return section(
        "Keep for the private leaderboard", f'<ul class="kept">\n{chr(10).join(lines)}\n</ul>{words}'
    )


def _group(k: int, group: Group, numbers: dict[int, int]) -> str:
    points = [
        Point(
            one.cv,
            score,
            str(numbers[id(one)]) if board == "public" or one.public is None else "",
            f"{one.name}: {one.in_words()}",
            f"set{k % COLOURS}",
            ring=board == "private",
        )
        for board in ("public", "private")
        for one in group.submissions
        if one.cv is not None and (score := getattr(one, board)) is not None
    ]
    picture = scatter_plot(
        points,
        x_title=f"CV ({group.name})",
        y_title="leaderboard",
        words=f"{len(group.submissions)} submissions, CV against leaderboard; {group.public.in_words()}. "
        "The table below has the values.",
    )
    legend = (
        '<p class="legend">Filled: public leaderboard; ring: private. Numbers are those of the table.</p>'
        if points
        else '<p class="legend">None of these has a leaderboard score yet.</p>'
    )
    said = [group.words]
    if group.over_public.low is not None:
        said.append(
            "Spearman's coefficient with the private leaderboard, CV's less the public leaderboard's: 95 % "
            f"{group.over_public.in_words('+.2f')}"
        )
    inversions = [f"<li>{escape(pair.in_words())}</li>" for pair in group.inversions[:SHOWN_INVERSIONS]]
    more = len(group.inversions) - len(inversions)
    inverted = ""
    if inversions:
        rest = f'<p class="legend">And {more} smaller ones.</p>' if more else ""
        title = f"<h3>Rank inversions ({len(group.inversions)})</h3>"
        inverted = f'{title}<ul class="notes">{"".join(inversions)}</ul>{rest}'
    return section(
        f"CV against leaderboard: {group.name}",
        f'<p class="says">{escape(". ".join(said))}.</p>{picture}{legend}{inverted}',
    )


def _agreements(findings: ScoreLogFindings) -> str:
    rows: list[list[Cell] | str] = []
    for k, group in enumerate(findings.groups):
        rows.append(_agreement(name_cell(k, f"{group.name}: CV and public"), group.public))
        if group.private.n:
            rows.append(_agreement(name_cell(k, f"{group.name}: CV and private"), group.private))
    if findings.boards.n:
        rows.append(_agreement("public and private", findings.boards))
    if not rows:
        return ""
    heads = ["rankings", "submissions|", "Spearman|", "95 %|", "Kendall|", "95 %|", "missing to know|"]
    return section("How alike they rank", plain_table(heads, rows))


def _agreement(name: Cell, found: RankAgreement) -> list[Cell]:
    missing = found.missing
    if missing is None:
        words = "over 1,000" if math.isfinite(found.spearman) else "–"
    else:
        words = f"about {missing}" if missing else "none"
    return [
        name,
        (str(found.n), "number"),
        (number_text(found.spearman, "+.2f"), "number"),
        (
            found.spearman_interval.in_words("+.2f"),
            "number" if found.spearman_interval.low is not None else "quiet",
        ),
        (number_text(found.kendall, "+.2f"), "number"),
        (
            found.kendall_interval.in_words("+.2f"),
            "number" if found.kendall_interval.low is not None else "quiet",
        ),
        (words, "number"),
    ]


def _moves(findings: ScoreLogFindings) -> str:
    if not findings.moves:
        return ""
    rows: list[list[Cell] | str] = []
    for move in findings.moves:
        expected = move.expected
        rows.append(
            [
                f"{TITLES[move.origin]} to {TITLES[move.target]}",
                (str(move.n), "number"),
                (f"{move.seen:.1f}", "number"),
                ("–" if expected is None else f"{expected.places:.1f}", "number"),
                (move.interval.in_words(".1f"), "number" if move.interval.low is not None else "quiet"),
                ("–" if expected is None else f"{expected.first_falls:.1f}", "number"),
                ("–" if expected is None else f"{100 * expected.first_stays:.0f} %", "number"),
            ]
        )
    heads = [
        "from, to",
        "submissions|",
        "places moved|",
        "expected|",
        "95 %|",
        "the first falls|",
        "stays first|",
    ]
    legend = (
        '<p class="legend">Places that a submission moves on average among these; expected for as many others that '
        "agree as much.</p>"
    )
    return section("Shake-up", plain_table(heads, rows) + legend)


def _submissions(findings: ScoreLogFindings) -> str:
    group_of = {id(one): k for k, group in enumerate(findings.groups) for one in group.submissions}
    texts: dict[str, Callable[[LoggedSubmission], str]] = {
        "CV is": lambda one: ", ".join(filter(None, (one.cv_metric, one.folds))),
        "model": lambda one: one.model,
        "date": lambda one: one.date,
        "note": lambda one: one.note,
        "file": lambda one: one.digest[:12],
    }
    said = {name: text for name, text in texts.items() if any(map(text, findings.submissions))}
    rows: list[list[Cell] | str] = []
    for number, one in enumerate(findings.submissions, start=1):
        name = f"{number} · {one.name}"
        scores = (_score(value) for value in (one.public, one.private, one.cv))
        rows.append(
            [
                name_cell(group_of[id(one)], name) if id(one) in group_of else escape(name),
                *scores,
                *(escape(text(one)) for text in said.values()),
            ]
        )
    heads = ["submission", "public|", "private|", "CV|", *said]
    return section("Submissions", plain_table(heads, rows)) if rows else ""


def _how() -> str:
    lines = "\n".join(f"<li>{escape(sentence)}</li>" for sentence in METHODS)
    return section("How this was made", f'<ul class="notes">\n{lines}\n</ul>')


def _score(value: float | None) -> Cell:
    return ("–" if value is None else f"{value:.4f}"), "number"


def _listed(places: Sequence[int]) -> str:
    return " and ".join(map(str, places))
