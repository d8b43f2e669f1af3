"""Two scores of several things as points of an inline picture (SVG) whose colours the page's style gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from hubmap_ml.viz.interval_plot import round_ticks

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 460, 70, 24, 14, 48


@dataclass(frozen=True)
class Point:
    """A point: where it is, what stands beside it and in its tip, the class of its colour, and whether it is a ring."""

    x: float
    y: float
    label: str
    tip: str
    colour: str
    ring: bool = False


def scatter_plot(points: Sequence[Point], *, x_title: str, y_title: str, words: str) -> str:
    """Draw points over two axes of round numbers.

    Args:
        points: finite; drawn in this order.
        x_title, y_title: of the axes.
        words: what the picture shows, for who cannot see it.

    Returns:
        HTML; "" without points.
    """
    if not points:
        return ""
    left, right = _range([point.x for point in points])
    low, high = _range([point.y for point in points])

    def x(value: float) -> float:
        return LEFT + (value - left) / (right - left) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick, text in round_ticks(left, right):
        parts.append(
            f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            f'<text class="tick" x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{text}</text>'
        )
    for tick, text in round_ticks(low, high):
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
            f'<text class="tick" x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{text}</text>'
        )
    parts.append(
        f'<text class="quiet" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(x_title)}</text>"
        f'<text class="quiet" x="14" y="{(TOP + HEIGHT - BOTTOM) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {(TOP + HEIGHT - BOTTOM) / 2})">{escape(y_title)}</text>'
    )
    for point in points:
        kind = ' class="ring"' if point.ring else ""
        at_edge = x(point.x) > WIDTH - RIGHT - 60
        shift, anchor = (-10, "end") if at_edge else (10, "start")
        parts.append(
            f'<g class="{escape(point.colour)}"><circle{kind} cx="{x(point.x):.1f}" cy="{y(point.y):.1f}" r="6">'
            f"<title>{escape(point.tip)}</title></circle>"
            f'<text class="quiet" x="{x(point.x) + shift:.1f}" y="{y(point.y) + 4:.1f}" text-anchor="{anchor}">'
            f"{escape(point.label)}</text></g>"
        )
    return (
        f'<div class="plot" tabindex="0"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(words)}">{"".join(parts)}</svg></div>'
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.07 * (high - low) or 0.05
    return low - margin, high + margin
