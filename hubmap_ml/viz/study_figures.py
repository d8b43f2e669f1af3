"""Figures of a threshold study as plotly's JSON: history, slices, contours, parallel coordinates, precision and recall.

Colours are written as names of the page's style variables (``--accent``), which the page fills in for a light or a dark
reader; nothing here imports plotly.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Figure = dict[str, Any]

GRID = 28
BANDWIDTH = 0.1
"""Of the contours' smoothing, as a share of the searched range."""
LEAST_WEIGHT = 0.35
"""Where fewer trials than this lie near, a contour stays blank."""
MOST_CONTOURS = 6
MOST_LINES = 150
SCALE = [[0.0, "--scale-low"], [0.5, "--scale-mid"], [1.0, "--scale-high"]]


@dataclass(frozen=True)
class Axis:
    """A searched value as an axis.

    Attributes:
        low, high: searched range; None for choices.
        log: whether it was searched by its logarithm.
        best: the value chosen on all folds.
        by_fold: values that the folds chose.
    """

    name: str
    low: float | None
    high: float | None
    log: bool = False
    best: Any = None
    by_fold: tuple[Any, ...] = ()

    @property
    def is_range(self) -> bool:
        """Whether it is a range of numbers."""
        return self.low is not None and self.high is not None


def history(trials: pd.DataFrame, metric: str) -> Figure:
    """Each trial's score, and the best so far."""
    values = trials["value"].to_numpy(float)
    best = np.fmax.accumulate(values)
    return _figure(
        [
            _dots(trials["number"], values, "trial", size=4, opacity=0.45),
            {"type": "scatter", "mode": "lines", "x": _plain(trials["number"]), "y": _plain(best),
             "name": "best so far", "line": {"color": "--good", "width": 2, "shape": "hv"}},
        ],
        x="trial", y=metric, y_range=_upper_part(values),
    )  # fmt: skip


def slice_of(trials: pd.DataFrame, axis: Axis, metric: str, base: Any = None) -> Figure:
    """Score over one value, all trials; the choices of the folds and of all folds as lines."""
    values = trials["value"].to_numpy(float)
    x = trials[axis.name]
    data = [_dots(x if axis.is_range else x.map(str), values, "trial", size=5, opacity=0.5)]
    limits = _upper_part(values)
    marks = [(value, "a fold's choice", "--quiet", "dot") for value in dict.fromkeys(axis.by_fold)]
    marks += [(axis.best, "chosen", "--good", "solid")] + (
        [(base, "before", "--bad", "dash")] if base is not None else []
    )
    named: set[str] = set()
    for value, name, color, dash in marks:
        at = value if axis.is_range else str(value)
        data.append(
            {"type": "scatter", "mode": "lines", "x": [at, at], "y": limits, "name": name, "hoverinfo": "x+name",
             "showlegend": name not in named,
             "line": {"color": color, "width": 2 if dash == "solid" else 1.5, "dash": dash}}
        )  # fmt: skip
        named.add(name)
    return _figure(data, x=axis.name, y=metric, y_range=limits, x_log=axis.log)


def contours(trials: pd.DataFrame, axes: Sequence[Axis], metric: str) -> list[tuple[str, Figure]]:
    """Score over pairs of ranges, smoothed; pairs of the first axes first."""
    ranges = [axis for axis in axes if axis.is_range]
    pairs = sorted(itertools.combinations(range(len(ranges)), 2), key=sum)[:MOST_CONTOURS]
    return [
        (f"{ranges[i].name} × {ranges[j].name}", _contour(trials, ranges[i], ranges[j], metric))
        for i, j in pairs
    ]


def parallel(trials: pd.DataFrame, axes: Sequence[Axis], metric: str) -> Figure:
    """The best trials as lines through all values and the score."""
    best = trials.sort_values("value", ascending=False, kind="stable").head(MOST_LINES)[::-1]
    dimensions = []
    for axis in axes:
        if axis.is_range:
            shown = np.log10(best[axis.name].astype(float)) if axis.log else best[axis.name]
            low, high = (
                (math.log10(end) if axis.log else end) for end in (axis.low or 0.0, axis.high or 0.0)
            )
            dimensions.append(
                {"label": f"log10 {axis.name}" if axis.log else axis.name, "values": _plain(shown),
                 "range": [min(low, _lowest(shown)), max(high, _highest(shown))]}
            )  # fmt: skip
        else:
            words = sorted({str(value) for value in best[axis.name]})
            dimensions.append(
                {"label": axis.name, "values": [words.index(str(value)) for value in best[axis.name]],
                 "tickvals": list(range(len(words))), "ticktext": words}
            )  # fmt: skip
    dimensions.append({"label": metric, "values": _plain(best["value"])})
    trace = {
        "type": "parcoords", "dimensions": dimensions,
        "line": {"color": _plain(best["value"]), "colorscale": SCALE, "showscale": False},
        "labelfont": {"color": "--ink", "size": 13}, "tickfont": {"color": "--quiet", "size": 11},
        "rangefont": {"color": "--quiet", "size": 11}, "unselected": {"line": {"color": "--line", "opacity": 0.25}},
    }  # fmt: skip
    figure = _figure([trace])
    figure["layout"]["margin"] = {"l": 60, "r": 50, "t": 50, "b": 24}
    return figure


def precision_over_recall(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Precision over recall, before and after."""
    style = {"before": ("--bad", "dash"), "after": ("--good", "solid")}
    data = []
    for name, (recall, precision) in curves.items():
        color, dash = style.get(name, ("--accent", "solid"))
        data.append(
            {"type": "scatter", "mode": "lines", "x": _plain(recall), "y": _plain(precision), "name": name,
             "line": {"color": color, "dash": dash, "width": 2}}
        )  # fmt: skip
    return _figure(data, x="recall", y="precision", x_range=[0, 1], y_range=[0, 1.02])


def _contour(trials: pd.DataFrame, first: Axis, second: Axis, metric: str) -> Figure:
    known = trials[np.isfinite(trials["value"])]
    unit = [_unit(known[axis.name].to_numpy(float), axis) for axis in (first, second)]
    at = np.linspace(0, 1, GRID)
    near = [np.exp(-0.5 * ((at[:, None] - u[None, :]) / BANDWIDTH) ** 2) for u in unit]
    weight = near[1] @ near[0].T  # rows: second axis
    with np.errstate(invalid="ignore", divide="ignore"):
        smooth = (near[1] * known["value"].to_numpy(float)) @ near[0].T / weight
    smooth[weight < LEAST_WEIGHT] = np.nan
    x, y = (_from_unit(at, axis) for axis in (first, second))
    limits = _upper_part(known["value"].to_numpy(float))
    data: list[Figure] = [
        {"type": "contour", "zmin": limits[0], "zmax": limits[1], "x": _plain(x), "y": _plain(y),
         "z": [_plain(row) for row in smooth], "colorscale": SCALE,
         "ncontours": 14, "line": {"width": 0.6, "color": "--line"},
         "colorbar": {"thickness": 10, "outlinewidth": 0, "tickfont": {"color": "--quiet", "size": 10}, "nticks": 5},
         "hovertemplate": f"{first.name} %{{x:.3g}}<br>{second.name} %{{y:.3g}}<br>{metric} %{{z:.4f}}<extra></extra>"}
    ]  # fmt: skip
    chosen = list(zip(first.by_fold, second.by_fold, strict=True))
    if chosen:
        data.append(
            {"type": "scatter", "mode": "markers", "x": [a for a, _ in chosen], "y": [b for _, b in chosen],
             "name": "a fold's choice",
             "marker": {"size": 8, "color": "--card", "line": {"color": "--ink", "width": 1.5}}}
        )  # fmt: skip
    data.append(
        {"type": "scatter", "mode": "markers", "x": [first.best], "y": [second.best], "name": "chosen",
         "marker": {"size": 13, "symbol": "star", "color": "--star", "line": {"color": "--ink", "width": 1}}}
    )  # fmt: skip
    ranges = [[axis.low, axis.high] for axis in (first, second)]
    figure = _figure(
        data,
        x=first.name,
        y=second.name,
        x_range=ranges[0],
        y_range=ranges[1],
        x_log=first.log,
        y_log=second.log,
    )
    figure["layout"]["showlegend"] = False
    return figure


def _unit(values: NDArray[np.float64], axis: Axis) -> NDArray[np.float64]:
    low, high = axis.low or 0.0, axis.high or 0.0
    if axis.log:
        return np.asarray(np.log(np.maximum(values, 1e-300) / low) / math.log(high / low))
    return np.asarray((values - low) / (high - low))


def _from_unit(at: NDArray[np.float64], axis: Axis) -> NDArray[np.float64]:
    low, high = axis.low or 0.0, axis.high or 0.0
    return np.asarray(low * (high / low) ** at if axis.log else low + at * (high - low))


def _figure(
    data: list[Figure],
    *,
    x: str = "",
    y: str = "",
    x_range: Sequence[Any] | None = None,
    y_range: Sequence[Any] | None = None,
    x_log: bool = False,
    y_log: bool = False,
) -> Figure:
    layout = {
        "margin": {"l": 54, "r": 14, "t": 12, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "--ink", "size": 12, "family": "system-ui, sans-serif"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 11}},
        "hoverlabel": {"bgcolor": "--card", "bordercolor": "--line", "font": {"color": "--ink"}},
        "xaxis": _axis(x, x_range, x_log),
        "yaxis": _axis(y, y_range, y_log),
    }
    if len(data) > 1:
        layout["margin"] = {"l": 54, "r": 14, "t": 34, "b": 44}
    return {"data": data, "layout": layout}


def _axis(title: str, span: Sequence[Any] | None, log: bool) -> Figure:
    found: Figure = {
        "title": {"text": title, "font": {"size": 12}, "standoff": 6},
        "gridcolor": "--line",
        "zeroline": False,
        "linecolor": "--line",
        "tickfont": {"size": 11, "color": "--quiet"},
        "automargin": True,
    }
    if span is not None:
        found["range"] = [math.log10(end) for end in span] if log else list(span)
    if log:
        found["type"] = "log"
    return found


def _dots(x: Any, y: Any, name: str, *, size: int, opacity: float) -> Figure:
    return {
        "type": "scatter", "mode": "markers", "x": _plain(x), "y": _plain(y), "name": name,
        "marker": {"size": size, "color": "--accent", "opacity": opacity},
    }  # fmt: skip


def _upper_part(values: NDArray[np.float64]) -> list[float]:
    """Return the limits between which most trials lie: outliers below would flatten the rest."""
    known = values[np.isfinite(values)]
    if not len(known):
        return [0.0, 1.0]
    low, high = float(np.quantile(known, 0.1)), float(known.max())
    room = 0.06 * (high - low) or 0.01
    return [low - room, high + room]


def _lowest(values: Any) -> float:
    return float(np.min(np.asarray(values, np.float64)))


def _highest(values: Any) -> float:
    return float(np.max(np.asarray(values, np.float64)))


def _plain(values: Any) -> list[Any]:
    """Return plain numbers with at most six digits, and None for what is none."""
    return [
        (float(f"{value:.6g}") if math.isfinite(value) else None) if isinstance(value, float | np.floating)
        else value.item() if isinstance(value, np.generic) else value
        for value in list(values)
    ]  # fmt: skip
