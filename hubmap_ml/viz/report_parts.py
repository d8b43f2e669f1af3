"""Parts of the report that are tables: threshold studies, the ensemble's members, lineage."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from hubmap_ml.metrics import Interval
from hubmap_ml.viz.tables import Cell, number_text, plain_table


@dataclass(frozen=True)
class ReportStudy:
    """A threshold study before and after.

    Attributes:
        name: whose.
        before: score with the steps as declared.
        refitted: with the values chosen on all folds, on the images that they were chosen on.
        cross_fitted: with the values that the other folds chose; None where nothing could be cross-fitted.
        gain: 95 % of the honest gain (of the other where there is none), or why there is none.
        values: by name what was declared, what was chosen, and what the other folds chose for each fold.
    """

    name: str
    before: float
    refitted: float
    cross_fitted: float | None
    gain: Interval
    values: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """A difference with its 95 % interval on these slides."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class ReportMember:
    """A member in an ensemble.

    Attributes:
        weight: in the registered ensemble; 0 where it was not chosen.
        by_fold: its weight in each cross-fitted ensemble.
        alone: its score by itself, cross-fitted.
        added: the ensemble against itself without it.
        above: the ensemble against it alone.
        cost: seconds an image; None if unknown.
    """

    name: str
    weight: float
    by_fold: tuple[float, ...] = ()
    alone: float | None = None
    added: Difference | None = None
    above: Difference | None = None
    cost: float | None = None


@dataclass(frozen=True)
class ReportPair:
    """How two members differ: shares of detections, correlation of hits, truths found by one, both or neither."""

    first: str
    second: str
    disagreeing: float | None
    hit_correlation: float | None
    only_first: int
    only_second: int
    both: int
    neither: int


@dataclass(frozen=True)
class ReportEnsemble:
    """What an ensemble is made of."""

    fusion: str
    members: Sequence[ReportMember]
    folds: Sequence[str] = ()
    pairs: Sequence[ReportPair] = ()


@dataclass(frozen=True)
class ReportOrigin:
    """One thing that the report's subject came from.

    Attributes:
        name: in words.
        id: run, version or digest.
        comes_from: names of what it was made from.
        facts: what identifies it further, in words.
    """

    name: str
    id: str
    comes_from: tuple[str, ...] = ()
    facts: str = ""


def studies_table(studies: Sequence[ReportStudy], metric: str) -> str:
    """Return the studies as HTML: gains, and below the values that were searched."""
    rows: list[list[Cell] | str] = []
    for study in studies:
        honest = study.cross_fitted is not None and math.isfinite(study.cross_fitted)
        gain = (
            study.cross_fitted if honest and study.cross_fitted is not None else study.refitted
        ) - study.before
        sure = study.gain.low is not None
        mark = "high" if study.gain.excludes_zero and gain > 0 else "low" if study.gain.excludes_zero else ""
        rows.append(
            [
                escape(study.name),
                (number_text(study.before), "number"),
                (
                    number_text(study.cross_fitted) if honest and study.cross_fitted is not None else "–",
                    "number",
                ),
                (f"{gain:+.4f}{'' if honest else ' (not honest: one fold)'}", f"number {mark}"),
                (escape(study.gain.in_words("+.4f")), "number" if sure else "quiet"),
                (number_text(study.refitted), "number quiet"),
            ]
        )
    heads = ["member", "before|", "cross-fitted|", "gain|", "95 % on these slides|", "on its own images|"]
    legend = (
        f'<p class="legend">Scores are {escape(metric)}. <b>Cross-fitted</b>: each fold scored with the values that '
        "the other folds chose. The last column is measured on the images that the values were chosen on, and "
        "flatters. Each tune run has its own page, study.html.</p>"
    )
    values = "".join(_values(study) for study in studies if study.values)
    return plain_table(heads, rows) + legend + values


def _values(study: ReportStudy) -> str:
    rows: list[list[Cell]] = [
        [escape(name), (escape(before), "number"), (escape(chosen), "number"), escape(folds)]
        for name, (before, chosen, folds) in study.values.items()
    ]
    table = plain_table(["value", "before|", "chosen|", "chosen without each fold"], rows)
    return f"<details><summary>Values of {escape(study.name)}</summary>{table}</details>"


def ensemble_tables(ensemble: ReportEnsemble) -> str:
    """Return an ensemble's members with what each adds, and how they differ, as HTML."""
    rows: list[list[Cell]] = [
        [
            escape(member.name),
            (
                f"{member.weight:.3g}" if member.weight else "not chosen",
                "number" if member.weight else "quiet",
            ),
            *((f"{weight:.3g}" if weight else "–", "number") for weight in member.by_fold),
            ("–" if member.alone is None else number_text(member.alone), "number"),
            _difference(member.added),
            _difference(member.above),
            ("–" if member.cost is None else f"{member.cost:.2f}", "number"),
        ]
        for member in ensemble.members
    ]
    heads = ["member", "weight|", *(f"without {fold}|" for fold in ensemble.folds), "alone|"]
    heads += ["added by it|", "ensemble above it|", "s/image|"]
    legend = (
        f'<p class="legend">All cross-fitted. <b>Added by it</b>: the ensemble against itself without the member. '
        f"Fusion: <code>{escape(ensemble.fusion)}</code></p>"
    )
    inside = plain_table(heads, rows) + legend
    if ensemble.pairs:
        pairs: list[list[Cell]] = [
            [
                f"{escape(pair.first)} and {escape(pair.second)}",
                ("–" if pair.disagreeing is None else f"{100 * pair.disagreeing:.1f} %", "number"),
                ("–" if pair.hit_correlation is None else f"{pair.hit_correlation:.2f}", "number"),
                *(
                    (f"{count:,}", "number")
                    for count in (pair.only_first, pair.only_second, pair.both, pair.neither)
                ),
            ]
            for pair in ensemble.pairs
        ]
        heads = ["pair", "disagreeing|", "correlation|", "only first|", "only second|", "both|", "neither|"]
        inside += (
            f"<h3>Diversity</h3>{plain_table(heads, pairs)}"
            '<p class="legend"><b>Disagreeing</b>: detections that the other has no counterpart for. '
            "<b>Correlation</b> over the truths of being found; last four: truths found by one, both or neither. "
            "Members that fail on the same objects add little.</p>"
        )
    return inside


def _difference(found: Difference | None) -> Cell:
    if found is None:
        return "–", "number"
    mark = ("high" if found.value > 0 else "low") if found.interval.excludes_zero else ""
    return (
        f'{found.value:+.4f}<br><span class="quiet">{escape(found.interval.in_words("+.3f"))}</span>',
        f"number {mark}",
    )


def lineage_table(origins: Sequence[ReportOrigin]) -> str:
    """Return what everything came from, as HTML."""
    rows: list[list[Cell]] = [
        [
            escape(origin.name),
            f"<code>{escape(origin.id)}</code>",
            escape(", ".join(origin.comes_from)) or "–",
            (escape(origin.facts), "quiet"),
        ]
        for origin in origins
    ]
    return (
        f"<details><summary>{len(origins)} runs, versions and data</summary>"
        f"{plain_table(['what', 'id', 'made from', ''], rows)}</details>"
    )
