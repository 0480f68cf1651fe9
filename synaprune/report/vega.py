"""Figures as Vega-Lite specifications, which the page's script draws as SVG.

Colours are variables of the page's style sheet, so that light, dark and print are one drawing. Of what comes from
outside, only data reaches a specification, never the name of a field or an expression.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from synaprune.report.figure import Axis, Figure, Trace, ends, has_place, ticks

__all__ = ["COLOURS", "colour", "data", "look", "specification"]

COLOURS = 8  # of the style sheet
DASHES = ([1, 0], [7, 3], [2, 2], [9, 2, 2, 2])
SHAPES = ("circle", "square", "triangle-up", "cross", "triangle-down", "diamond", "triangle-right", "triangle-left")
ALL_LABELS = 8  # so many fit even on a phone
MAP_WIDTH = 320  # at most, so that it fits a phone
INK, MUTED, GRID = "var(--ink)", "var(--muted)", "var(--grid)"

CONFIG = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED,
        "titleColor": INK,
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "gridColor": GRID,
        "domainColor": MUTED,
        "tickColor": MUTED,
    },
    "axisY": {"domain": False, "ticks": False, "titleAngle": 0, "titleAlign": "left", "titleX": 0, "titleY": -10},
    "axisX": {"grid": False},
    "line": {"strokeWidth": 2, "strokeJoin": "round"},
}


def colour(figure: Figure, series: str) -> str:
    """Return the variable that holds the colour of a series; steps of one quantity go from faint to strong."""
    index, count = figure.series.index(series), len(figure.series)
    if figure.ordered:
        return f"var(--s{4 - round(3 * (count - 1 - index) / max(count - 1, 3))})"
    return f"var(--c{index % COLOURS + 1})"


def look(figure: Figure, series: str) -> tuple[list[int], str]:
    """Return dash and shape of a series; the second round through the colours has others than the first."""
    index = figure.series.index(series)
    turn = index + index // COLOURS
    return DASHES[0 if figure.ordered else turn % len(DASHES)], SHAPES[turn % len(SHAPES)]


def data(figure: Figure) -> list[dict[str, Any]]:
    """Return the traces as the page holds them: lists with few digits, an `x` of 1, 2, … as its last number."""
    return [_compact(figure, trace) for trace in figure.traces]


def specification(figure: Figure) -> dict[str, Any]:
    """Return the Vega-Lite specification; its data sets are named after the kinds of traces."""
    base = {"params": [{"name": "hidden", "value": []}], "config": CONFIG}
    kinds = list(dict.fromkeys(trace.kind for trace in figure.traces))
    if kinds == ["map"]:
        return base | _map(figure)
    layers = [layer for kind in kinds for layer in _layers(figure, kind)]
    if figure.absent_below is not None:
        layers.insert(0, _absent(figure))
    size = {
        "width": "container",
        "height": 330 if figure.scattered else 250,
        "autosize": {"type": "fit-x", "contains": "padding"},
    }
    return {**base, **size, "layer": layers}


def _layers(figure: Figure, kind: str) -> list[dict[str, Any]]:
    """Return the layers that draw the traces of one kind."""
    places = {name: _channel(name, axis, ends(figure, name)) for name, axis in (("x", figure.x), ("y", figure.y))}
    if figure.scattered:
        places["x"]["scale"]["padding"] = 14  # pixels, so that no mark is cut
    by_series = {"color": _by_series(figure, [colour(figure, series) for series in figure.series])}
    looks = [look(figure, series) for series in figure.series]
    dashes, shapes = [dash for dash, _ in looks], [shape for _, shape in looks]
    line = {
        **places,
        **by_series,
        "strokeDash": _by_series(figure, dashes),
        "detail": {"field": "t", "type": "nominal"},
        "order": {"field": "i", "type": "quantitative"},
    }
    shape = {"shape": _by_series(figure, shapes)}
    drawn: list[tuple[dict[str, Any], dict[str, Any]]]
    match kind:
        case "line":
            thin = sum(trace.kind == "line" for trace in figure.traces) > 2 * COLOURS
            drawn = [
                ({"type": "line", "strokeWidth": 1 if thin else 2, "opacity": 0.6 if thin else 1, "clip": True}, line)
            ]
        case "step":
            drawn = [({"type": "line", "interpolate": "step-after"}, line)]
        case "bar":
            offset = {"xOffset": {"field": "s", "type": "nominal", "scale": {"domain": figure.series}}}
            drawn = [({"type": "bar"}, {**places, **by_series, **offset})]
        case "point":
            drawn = [({"type": "point", "filled": True, "size": 22, "opacity": 0.6}, {**places, **by_series, **shape})]
        case "mean":
            interval = {"y": {**places["y"], "field": "l"}, "y2": {"field": "h"}}
            drawn = [
                ({"type": "line", "opacity": 0.7}, line),
                ({"type": "rule", "strokeWidth": 2}, {**places, **interval, **by_series}),
                ({"type": "point", "filled": True, "size": 80, "opacity": 1}, {**places, **by_series, **shape}),
            ]
        case "published":
            drawn = [({"type": "point", "size": 90, "strokeWidth": 2, "fill": None}, {**places, **by_series, **shape})]
        case "level":
            label: dict[str, Any] = {"type": "text", "align": "left", "dx": 4, "dy": -6, "color": INK, "fontSize": 12}
            drawn = [
                ({"type": "rule", "strokeDash": [2, 3], "color": INK}, {"y": places["y"]}),
                (label, {"x": {"value": 0}, "y": places["y"], "text": {"field": "n"}}),
            ]
    shown = [{"filter": "indexof(hidden, datum.s) < 0"}]
    return [{"data": {"name": kind}, "transform": shown, "mark": mark, "encoding": code} for mark, code in drawn]


def _channel(name: str, axis: Axis, reach: tuple[float, float] | None) -> dict[str, Any]:
    """Return the encoding of a position, with ticks where they are read best over the reach of the values."""
    style: dict[str, Any] = {"title": axis.title}
    if axis.scale == "band":
        return {"field": name, "type": "nominal", "sort": None, "axis": {**style, "labelAngle": 0, "ticks": False}}
    scale: dict[str, Any] = {"type": axis.scale, "nice": axis.scale == "linear"}
    scale |= {"zero": axis.low == 0} if axis.scale == "linear" else {}
    scale |= {"domainMin": axis.low} if axis.low is not None else {}
    scale |= {"domainMax": axis.high} if axis.high is not None else {}
    # By an expression: the format of a log axis would leave out labels as it sees fit.
    if axis.share:
        style["labelExpr"] = "format(datum.value, '~%')"
    elif axis.whole:
        style |= {"labelExpr": "format(datum.value, '~s')", "tickMinStep": 1}
    elif axis.scale != "linear":
        style["labelExpr"] = "format(datum.value, '~g')"
    if axis.scale in ("log", "symlog") and reach is not None:
        values = ticks(*reach, axis.scale)
        style |= {"values": values, "labelOverlap": len(values) > ALL_LABELS}
    else:
        style["tickCount"] = 5
    return {"field": name, "type": "quantitative", "scale": scale, "axis": style}


def _by_series(figure: Figure, values: Sequence[Any]) -> dict[str, Any]:
    """Return an encoding that gives each series its own of some values."""
    scale = {"domain": figure.series, "range": list(values)}
    return {"field": "s", "type": "nominal", "scale": scale, "legend": None}


def _absent(figure: Figure) -> dict[str, Any]:
    """Return the shaded zone of absent synapses."""
    low = min(min(trace.x) for trace in figure.traces)
    return {
        "data": {"values": [{"x": low, "to": figure.absent_below}]},
        "mark": {"type": "rect", "color": GRID, "opacity": 0.6},
        "encoding": {"x": _channel("x", figure.x, None), "x2": {"field": "to"}},
    }


def _map(figure: Figure) -> dict[str, Any]:
    """Return a map of cells: the darker the more, crossed out where there is nothing."""
    trace = figure.traces[0]
    columns, rows = max(trace.x) + 1, max(trace.y) + 1
    step = max(6, min(32, MAP_WIDTH // columns))
    plain = {"title": None, "labels": False, "ticks": False, "domain": False}
    places = {
        name: {"field": name, "type": "ordinal", "axis": plain, "scale": {"padding": 0.08}} for name in ("x", "y")
    }
    strength = {"field": "v", "type": "quantitative", "legend": None, "scale": {"range": [0.1, 1], "domainMin": 0}}
    filled = {"mark": {"type": "rect", "fill": "var(--c1)"}, "encoding": {**places, "fillOpacity": strength}}
    gone = {
        "transform": [{"filter": "datum.v == 0"}],
        "mark": {"type": "point", "shape": "M-.5,-.5L.5,.5M.5,-.5L-.5,.5", "size": step * step / 3, "stroke": MUTED},
        "encoding": places,
    }
    return {"data": {"name": "map"}, "width": columns * step, "height": rows * step, "layer": [filled, gone]}


def _compact(figure: Figure, trace: Trace) -> dict[str, Any]:
    x: Any = list(trace.x)
    if x and x == list(range(1, len(x) + 1)):
        x = len(x)
    elif x and not isinstance(x[0], str):
        x = _placed(figure.x, x)
    compact = {"k": trace.kind, "s": trace.series, "x": x, "y": _placed(figure.y, trace.y)}
    if trace.low and trace.high:
        compact |= {"l": _placed(figure.y, trace.low), "h": _placed(figure.y, trace.high)}
    if trace.values:
        compact["v"] = list(trace.values)
    if trace.names:
        compact["n"] = trace.names if isinstance(trace.names, str) else list(trace.names)
    return compact


def _placed(axis: Axis, values: Sequence[Any]) -> list[Any]:
    """Return numbers with the digits that can be seen, None where the axis has no place for one."""
    return [_short(value) if has_place(axis, value) else None for value in values]


def _short(value: Any) -> Any:
    return value if isinstance(value, int) else float(f"{value:.6g}")
