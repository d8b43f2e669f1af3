"""Lines over steps as an inline drawing (SVG) whose colours the page's style gives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from hubmap_ml.viz.interval_plot import round_ticks
from hubmap_ml.viz.tables import COLOURS

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 240, 48, 16, 26, 28


@dataclass(frozen=True)
class Line:
    """One line: its name, its points (x, y), and what x is; points that are no numbers are left out."""

    name: str
    points: tuple[tuple[float, float], ...]
    x_name: str = "epoch"


def line_plot(lines: Sequence[Line], *, label: str) -> str:
    """Draw lines in one frame.

    Args:
        lines: at least one with a point.
        label: what is drawn, for those who cannot see it.

    Returns:
        HTML; "" where there is no point.
    """
    known = [
        replace(line, points=tuple(point for point in line.points if all(map(math.isfinite, point))))
        for line in lines
    ]
    points = [point for line in known for point in line.points]
    if not points:
        return ""
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    room = 0.06 * (high - low) or 0.05
    low, high = low - room, high + room

    def x(value: float) -> float:
        return LEFT + (value - left) / ((right - left) or 1.0) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick, text in round_ticks(low, high):
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{text}</text>')
    for place, anchor in ((left, "start"), (right, "end")):
        parts.append(
            f'<text x="{x(place):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{known[0].x_name} {place:.3g}</text>'
        )
    for number, line in enumerate(known):
        if not line.points:
            continue
        path = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in line.points)
        last = line.points[-1]
        parts.append(
            f'<g class="set{number % COLOURS}"><path d="M{path}"/>'
            f'<circle cx="{x(last[0]):.1f}" cy="{y(last[1]):.1f}" r="3.5"/>'
            f'<rect x="{LEFT + 150 * number}" y="6" width="14" height="4" rx="2"/></g>'
            f'<text x="{LEFT + 150 * number + 20}" y="12">{escape(line.name)} {last[1]:.4g}</text>'
        )
    said = "; ".join(f"{line.name} ends at {line.points[-1][1]:.4g}" for line in known if line.points)
    return (
        f'<div class="curve"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(f"{label}: {said}")}">{"".join(parts)}</svg></div>'
    )
