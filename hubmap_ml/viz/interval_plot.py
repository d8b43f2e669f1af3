"""Values with their intervals on a common axis, as an inline picture (SVG) whose colours the page's style gives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from hubmap_ml.metrics import Interval

WIDTH, LEFT, RIGHT, TOP, STEP = 900, 210, 80, 12, 38
MOST_TICKS = 8
LONGEST_NAME = 28


@dataclass(frozen=True)
class Range:
    """One line of the plot: a value, its intervals (drawn where there are any), and the class of its colour."""

    name: str
    value: float
    on_these: Interval
    on_new: Interval
    colour: str


def interval_plot(ranges: Sequence[Range], *, zero: bool = False, form: str = ".4f") -> str:
    """Draw values and intervals, one below the other.

    Args:
        ranges: what is drawn; a value that is no number only has its name.
        zero: whether 0 is on the axis, as a line.
        form: of the values beside the axis.

    Returns:
        HTML; "" where no value is a number.
    """
    ends = [
        end
        for one in ranges
        for i in (one.on_these, one.on_new)
        for end in (i.low, i.high)
        if end is not None
    ]
    ends += [one.value for one in ranges if math.isfinite(one.value)] + ([0.0] if zero else [])
    if not ends or not any(math.isfinite(one.value) for one in ranges):
        return ""
    low, high = min(ends), max(ends)
    margin = 0.06 * (high - low) or 0.05
    low, high = low - margin, high + margin
    bottom = TOP + STEP * len(ranges)

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    parts = []
    for tick, label in round_ticks(low, high):
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(
            f'<text class="tick" x="{x(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{label}</text>'
        )
    if zero:
        parts.append(f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{TOP}" y2="{bottom}"/>')
    for number, one in enumerate(ranges):
        middle = TOP + STEP * number + STEP / 2
        parts.append(f'<g class="{escape(one.colour)}">')
        shown = one.name if len(one.name) <= LONGEST_NAME else one.name[: LONGEST_NAME - 1] + "…"
        parts.append(f'<text x="{LEFT - 14}" y="{middle + 4}" text-anchor="end">{escape(shown)}</text>')
        for interval, kind, shift in ((one.on_these, "range", 0), (one.on_new, "range wide", 10)):
            if interval.low is not None and interval.high is not None:
                parts.append(
                    f'<line class="{kind}" x1="{x(interval.low):.1f}" x2="{x(interval.high):.1f}" '
                    f'y1="{middle + shift}" y2="{middle + shift}"/>'
                )
        if math.isfinite(one.value):
            parts.append(f'<circle cx="{x(one.value):.1f}" cy="{middle}" r="5"/>')
            parts.append(
                f'<text class="quiet" x="{WIDTH - RIGHT + 12}" y="{middle + 4}">{one.value:{form}}</text>'
            )
        parts.append("</g>")
    label = "; ".join(f"{one.name} {one.value:{form}}, 95 % {one.on_these.in_words(form)}" for one in ranges)
    return (
        f'<div class="plot"><svg viewBox="0 0 {WIDTH} {bottom + 28}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg></div>"
    )


def round_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round numbers between two ends, with their texts."""
    rough = (high - low) / MOST_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first = math.ceil(low / step)
    return [(k * step, f"{k * step + 0.0:.{digits}f}") for k in range(first, math.floor(high / step) + 1)]
