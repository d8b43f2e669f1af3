"""The pipeline as a picture: a column a stage, a lane a member, with scores and times, as an inline drawing (SVG)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from hubmap_ml.spec.durations import duration

COLUMNS = (
    "prepare",
    "pretrain",
    "finetune",
    "predict",
    "tune",
    "promote",
    "ensemble",
    "submit",
)
"""The usual order; a stage that is not among them stands behind the last one that it comes from."""

BOX_WIDTH, BOX_HEIGHT, GAP, LANE, HEAD, MARGIN = 110, 56, 24, 92, 30, 12
LANE_NAME, READABLE = 24, 736
LONGEST_NAME = 60
SHARED = ""


@dataclass(frozen=True)
class GraphStep:
    """One or several runs of a stage that the drawing shows as one box.

    Attributes:
        id: unique in the graph.
        stage: its column.
        lane: whose it is (a member); ``SHARED`` where it belongs to all.
        score: mean of its runs' scores; None where the stage has none.
        seconds: of all its runs together; None if unknown.
        runs: how many there are (one a fold).
        status: ``finished``, ``failed`` or ``running``.
        words: what came out, for those who point at it or cannot see it.
        comes_from: ids of the steps before it.
    """

    id: str
    stage: str
    lane: str = SHARED
    score: float | None = None
    seconds: float | None = None
    runs: int = 1
    status: str = "finished"
    words: str = ""
    comes_from: tuple[str, ...] = ()


def pipeline_graph(steps: Sequence[GraphStep]) -> str:
    """Draw the steps from left to right.

    Args:
        steps: in any order; what a step comes from and is not among them is left out.

    Returns:
        HTML; "" without steps. Every value is escaped; colours are the page's style's.
    """
    if not steps:
        return ""
    columns = {stage: k for k, stage in enumerate(_columns(steps))}
    lanes = list(dict.fromkeys(step.lane for step in steps if step.lane != SHARED)) or [SHARED]
    width = 2 * MARGIN + len(columns) * BOX_WIDTH + (len(columns) - 1) * GAP
    height = HEAD + len(lanes) * LANE + MARGIN
    middle = HEAD + len(lanes) * LANE / 2
    left = {stage: MARGIN + k * (BOX_WIDTH + GAP) for stage, k in columns.items()}

    def y(step: GraphStep) -> float:
        if step.lane == SHARED:
            return middle
        return HEAD + lanes.index(step.lane) * LANE + LANE_NAME + BOX_HEIGHT / 2

    parts = []
    if lanes != [SHARED]:
        own = [left[step.stage] for step in steps if step.lane != SHARED]
        first, last = min(own) - GAP / 3, max(own) + BOX_WIDTH + GAP / 3
        for number, lane in enumerate(lanes):
            top = HEAD + number * LANE
            shown = lane if len(lane) <= LONGEST_NAME else lane[: LONGEST_NAME - 1] + "…"
            parts.append(
                f'<rect class="lane" x="{first:.1f}" y="{top + 2}" width="{last - first:.1f}" '
                f'height="{LANE - 4}" rx="8"/>'
                f'<text class="lane-name" x="{first + 8:.1f}" y="{top + 17}">{escape(shown)}</text>'
            )
    for stage, x in left.items():
        parts.append(
            f'<text class="column" x="{x + BOX_WIDTH / 2:.1f}" y="18" text-anchor="middle">{escape(stage)}</text>'
        )
    known = {step.id: step for step in steps}
    for step in steps:
        for origin in _direct(step, known):
            if columns[known[origin].stage] < columns[step.stage]:
                x1, y1 = left[known[origin].stage] + BOX_WIDTH, y(known[origin])
                x2, y2 = left[step.stage], y(step)
                bend = max(GAP, (x2 - x1) / 2)
                parts.append(
                    f'<path class="edge" d="M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} '
                    f'{x2:.1f} {y2:.1f}"/>'
                )
    parts += [_box(step, left[step.stage], y(step) - BOX_HEIGHT / 2) for step in steps]
    label = f"Pipeline of {len(steps)} steps: " + "; ".join(_said(step) for step in steps)
    return (
        f'<div class="graph" tabindex="0" role="group" aria-label="The pipeline, drawn">'
        f'<svg viewBox="0 0 {width} {height:.0f}" width="{width}" style="min-width:{min(width, READABLE)}px" '
        f'role="img" aria-label="{escape(label)}">{"".join(parts)}</svg></div>'
    )


def _direct(step: GraphStep, known: Mapping[str, GraphStep]) -> list[str]:
    """What a step comes from without a detour: an origin that another origin comes from needs no line of its own."""
    origins = [name for name in dict.fromkeys(step.comes_from) if name in known and name != step.id]
    behind: set[str] = set()
    for origin in origins:
        waiting = list(known[origin].comes_from)
        while waiting:
            name = waiting.pop()
            if name in known and name not in behind:
                behind.add(name)
                waiting += known[name].comes_from
    return [name for name in origins if name not in behind]


def _columns(steps: Sequence[GraphStep]) -> list[str]:
    """Stages from left to right: each behind all that it comes from, else in the usual order."""
    by_id = {step.id: step for step in steps}
    before: dict[str, set[str]] = {step.stage: set() for step in steps}
    for step in steps:
        origins = {by_id[name].stage for name in step.comes_from if name in by_id}
        before[step.stage] |= origins - {step.stage}
    ordered: list[str] = []
    while len(ordered) < len(before):
        left = [stage for stage in before if stage not in ordered]
        free = [stage for stage in left if before[stage] <= set(ordered)] or left  # a circle: the usual order
        ordered.append(min(free, key=lambda stage: _usual(stage, ordered)))
    return ordered


def _usual(stage: str, ordered: Sequence[str]) -> tuple[float, str]:
    if stage in COLUMNS:
        return COLUMNS.index(stage), stage
    last = max((COLUMNS.index(name) for name in ordered if name in COLUMNS), default=-1)
    return last + 0.5, stage


def _box(step: GraphStep, x: float, y: float) -> str:
    score = "–" if step.score is None or not math.isfinite(step.score) else f"{step.score:.4f}"
    how = [f"{step.runs} runs"] if step.runs > 1 else []
    how += [duration(step.seconds)] if step.seconds is not None else []
    if step.status != "finished":
        how = [step.status, *how]
    middle = x + BOX_WIDTH / 2
    return (
        f'<g class="step {escape(step.status)}"><title>{escape(_said(step))}</title>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/>'
        f'<text class="value" x="{middle:.1f}" y="{y + 26:.1f}" text-anchor="middle">{score}</text>'
        f'<text class="how-long" x="{middle:.1f}" y="{y + 44:.1f}" text-anchor="middle">'
        f"{escape(' · '.join(how))}</text></g>"
    )


def _said(step: GraphStep) -> str:
    words = [" · ".join(filter(None, (step.stage, step.lane)))]
    if step.words:
        words.append(step.words)
    elif step.score is not None and math.isfinite(step.score):
        words.append(f"{step.score:.4f}")
    return ": ".join(words)


def grouped(steps: Sequence[GraphStep], *, by: Mapping[str, str] | None = None) -> list[GraphStep]:
    """Draw the runs of one stage and member as one step: scores averaged, times added up.

    Args:
        steps: of single runs.
        by: id of the group of each step; stage and lane where it is not there.
    """
    names = {step.id: (by or {}).get(step.id, f"{step.stage}/{step.lane}") for step in steps}
    groups: dict[str, list[GraphStep]] = {}
    for step in steps:
        groups.setdefault(names[step.id], []).append(step)
    found = []
    for name, members in groups.items():
        scores = [one.score for one in members if one.score is not None and math.isfinite(one.score)]
        times = [one.seconds for one in members if one.seconds is not None]
        origins = dict.fromkeys(
            names[origin] for one in members for origin in one.comes_from if origin in names
        )
        odd = next((one.status for one in members if one.status != "finished"), "finished")
        found.append(
            GraphStep(
                name,
                members[0].stage,
                members[0].lane,
                sum(scores) / len(scores) if scores else None,
                sum(times) if times else None,
                len(members),
                odd,
                members[0].words if len(members) == 1 else f"{len(members)} runs",
                tuple(origin for origin in origins if origin != name),
            )
        )
    return found
