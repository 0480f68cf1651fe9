"""Figures as Vega-Lite specifications, which the page's script draws as SVG.

Colours are variables of the page's style sheet, so that light, dark and print are one drawing. Of what comes from
outside, only data reaches a specification, never the name of a field or an expression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from synaprune.report.figure import Axis, Figure, Trace, ends, has_place, ticks

__all__ = ["COLOURS", "colour", "dash", "data", "specification"]

COLOURS = 8  # of the style sheet
DASHES = ([1, 0], [7, 3], [2, 2], [9, 2, 2, 2])
ALL_LABELS = 8  # so many fit even on a phone
MAP_WIDTH = 320  # at most, so that it fits a phone
INK, MUTED, GRID, FAINT = "var(--ink)", "var(--muted)", "var(--grid)", "var(--faint)"
HALO = {"stroke": "var(--page)", "strokeWidth": 3}  # lets words be read over lines
# How each series in front looks: colour, filling, dash and shape.
LOOKS = ("paints", "fills", "dashes", "shapes")
# What the script of the page sets: series that are hidden in a figure of its own; in a comparison those in front, how
# they look, and whether the others are shown.
SIGNALS: dict[str, Any] = {"hidden": [], "front": [], **{name: [] for name in LOOKS}, "grey": True}

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


def dash(figure: Figure, series: str) -> list[int]:
    """Return the dash of a series; the second round through the colours has others than the first."""
    index = figure.series.index(series)
    return DASHES[0 if figure.ordered else (index + index // COLOURS) % len(DASHES)]


def data(figure: Figure) -> list[dict[str, Any]]:
    """Return the traces as the page holds them: lists with few digits, an `x` of 1, 2, … as its last number.

    Accuracies stay accuracies on an axis of errors, since the reader may choose the other axis.
    """
    if figure.y.scale == "error":
        figure = replace(figure, y=replace(figure.y, scale="linear"))
    return [_compact(figure, trace) for trace in figure.traces]


def specification(figure: Figure) -> dict[str, Any]:
    """Return the Vega-Lite specification; its data sets are named after the kinds of traces."""
    base = {"params": [{"name": name, "value": value} for name, value in SIGNALS.items()], "config": CONFIG}
    kinds = list(dict.fromkeys(trace.kind for trace in figure.traces))
    if kinds == ["map"]:
        return base | _map(figure)
    layers = _compared(figure, kinds) if figure.looks else [it for kind in kinds for it in _layers(figure, kind)]
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
    places = _places(figure)
    by_series = {"color": _by_series(figure, [colour(figure, series) for series in figure.series])}
    dashes = [dash(figure, series) for series in figure.series]
    line = {
        **places,
        **by_series,
        "strokeDash": _by_series(figure, dashes),
        "detail": {"field": "t", "type": "nominal"},
        "order": {"field": "i", "type": "quantitative"},
    }
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
    shown = [{"filter": "indexof(hidden, datum.s) < 0"}]
    return [{"data": {"name": kind}, "transform": shown, "mark": mark, "encoding": code} for mark, code in drawn]


def _compared(figure: Figure, kinds: Sequence[str]) -> list[dict[str, Any]]:
    """Return the layers of a comparison: behind in grey the series that are not in front, if they are shown at all.

    Which series are in front and how each looks is known by the page's script alone, as it is what the reader chooses.
    """
    places, own = _places(figure), _as_errors(figure)
    at = "indexof(front, datum.s)"
    behind = [*own, {"filter": f"grey && {at} < 0"}]
    before = [*own, {"calculate": at, "as": "k"}, {"filter": "datum.k >= 0"}]
    before += [{"calculate": f"{name}[datum.k]", "as": name} for name in LOOKS]
    colour, fill, dashed, shape = ({"field": name, "type": "nominal", "scale": None} for name in LOOKS)
    course = {**places, "detail": {"field": "t", "type": "nominal"}, "order": {"field": "i", "type": "quantitative"}}
    coloured = {**course, "color": colour, "strokeDash": dashed}
    ends_of_interval = ("eh", "el") if own else ("l", "h")
    interval = {"y": {**places["y"], "field": ends_of_interval[0]}, "y2": {"field": ends_of_interval[1]}}
    either = [*own, {"filter": f"grey || {at} >= 0"}]
    words = {"type": "text", "align": "left", "fontSize": 12, **HALO}
    marks: dict[str, list[tuple[list[Any], dict[str, Any], dict[str, Any]]]] = {
        "level": [
            (either, {"type": "rule", "strokeDash": [2, 3], "color": INK}, {"y": places["y"]}),
            (
                either,
                {**words, "dx": 4, "dy": 10 if own else -8, "color": INK},
                {"x": {"value": 0}, "y": places["y"], "text": {"field": "n"}},
            ),
        ],
        "line": [
            (behind, {"type": "line", "strokeWidth": 1, "color": FAINT, "clip": True}, course),
            (before, {"type": "line", "strokeWidth": 1.5, "clip": True}, coloured),
        ],
        "mean": [
            (behind, {"type": "line", "strokeWidth": 1.2, "color": FAINT}, course),
            (behind, {"type": "point", "filled": True, "size": 18, "color": FAINT, "opacity": 1}, places),
            (before, {"type": "line", "strokeWidth": 2.2}, coloured),
            (before, {"type": "rule", "strokeWidth": 1.5}, {**places, **interval, "color": colour}),
            (
                before,
                {"type": "point", "size": 70, "opacity": 1, "strokeWidth": 2},
                {**places, "stroke": colour, "fill": fill, "shape": shape},
            ),
        ],
        "point": [
            (before, {"type": "point", "filled": True, "size": 16, "opacity": 0.5}, {**places, "color": colour})
        ],
        "published": [
            (behind, {"type": "point", "size": 60, "color": FAINT, "opacity": 1}, places),
            (before, {"type": "point", "size": 90, "opacity": 1}, {**places, "color": colour, "shape": shape}),
        ],
    }  # fmt: skip
    # Grey first, whatever kind it is.
    drawn = [(kind, *mark) for kind in kinds for mark in marks[kind]]
    drawn.sort(key=lambda mark: mark[1] is not behind)
    layers = [{"data": {"name": k}, "transform": t, "mark": mark, "encoding": code} for k, t, mark, code in drawn]
    pixels = {n: {"field": f"p{n}", "type": "quantitative", "scale": None, "axis": None} for n in ("x", "y")}
    encoding = {**pixels, "text": {"field": "text", "type": "nominal"}, "color": colour}
    return [*layers, {"data": {"name": "label"}, "mark": {**words, "baseline": "middle"}, "encoding": encoding}]


def _as_errors(figure: Figure) -> list[dict[str, Any]]:
    """Return the transforms that make errors of accuracies, none where the axis is of accuracies."""
    reach = ends(figure, "y")
    if figure.y.scale != "error" or reach is None:
        return []
    least, most = (_short(end) for end in reach)
    bounds = [
        {"calculate": f"isValid(datum.{end}) ? clamp(1 - datum.{end}, {least}, {most}) : null", "as": f"e{end}"}
        for end in ("l", "h")
    ]
    return [{"filter": "isValid(datum.y) && datum.y < 1"}, {"calculate": "1 - datum.y", "as": "e"}, *bounds]


def _places(figure: Figure) -> dict[str, dict[str, Any]]:
    """Return the encodings of both positions."""
    places = {name: _channel(name, axis, ends(figure, name)) for name, axis in (("x", figure.x), ("y", figure.y))}
    if figure.scattered:
        places["x"]["scale"]["padding"] = 14  # pixels, so that no mark is cut
    return places


def _channel(name: str, axis: Axis, reach: tuple[float, float] | None) -> dict[str, Any]:
    """Return the encoding of a position, with ticks where they are read best over the reach of the values."""
    style: dict[str, Any] = {"title": axis.title}
    if axis.scale == "band":
        return {"field": name, "type": "nominal", "sort": None, "axis": {**style, "labelAngle": 0, "ticks": False}}
    error = axis.scale == "error"
    scale: dict[str, Any] = {"type": "log" if error else axis.scale, "nice": axis.scale == "linear"}
    scale |= {"domain": list(map(_short, reach))} if error and reach is not None else {}
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
    if axis.scale in ("log", "error", "symlog") and reach is not None:
        values = ticks(*reach, "symlog" if axis.scale == "symlog" else "log")
        style |= {"values": values, "labelOverlap": len(values) > ALL_LABELS}
    else:
        style["tickCount"] = 5
    return {"field": "e" if error else name, "type": "quantitative", "scale": scale, "axis": style}


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
