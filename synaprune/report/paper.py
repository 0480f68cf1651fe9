"""The figures as files for papers: SVG and PNG in the width of a column, readable in grey.

Matplotlib draws them, from the same data as the page. Series differ by dash, by marker and by lightness, so that no
colour is needed; words in the SVG stay words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from synaprune.errors import MachineError, UsageError
from synaprune.files import replacing
from synaprune.report.figure import Axis, Figure, Trace, ends, has_place, ticks
from synaprune.terminal import safe

__all__ = ["draw", "write_figures"]

# Dark to light, so that neighbours differ in grey too.
COLOURS = ("#08306b", "#d95f02", "#1b9e77", "#7570b3", "#a6761d", "#e7298a", "#66a61e", "#666666")
GREY = "0.8"  # of the series of a comparison that are not in front
STEPS = ("#b3cde3", "#8c96c6", "#88419d", "#2d004b")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
MARKERS = "os^PvD><"
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "font.family": "sans-serif",
    "axes.linewidth": 0.6,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "text.parse_math": False,  # names may hold dollars
    "legend.handlelength": 2.4,
    "lines.linewidth": 1.1,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "svg.fonttype": "none",
    "svg.hashsalt": "synaprune",  # the same data give the same file
}
COLUMN = (3.4, 2.4)  # inches: one column of the usual two


def write_figures(figures: Iterable[Figure], folder: Path) -> list[Path]:
    """Write each figure as SVG and PNG into a folder, which is made if absent, and return the files.

    Raises:
        UsageError: the folder is a file.
        MachineError: a file cannot be written.

    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"'{folder}' is a file; name a folder with --figures")
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for figure in figures:
            with mpl.rc_context(STYLE):
                drawing = draw(figure)
                for form in ("svg", "png"):
                    path = folder / f"{_file_name(figure.key)}.{form}"
                    with replacing(path) as file:
                        metadata = {"Date": None} if form == "svg" else None
                        drawing.savefig(file, format=form, dpi=300, metadata=metadata, facecolor="white")
                    written.append(path)
    except MachineError:
        raise
    except OSError as error:
        raise MachineError(f"the figures in '{folder}' cannot be written ({error.strerror})") from error
    return written


def draw(figure: Figure) -> Drawing:
    """Return a figure as Matplotlib's."""
    drawing = Drawing(figsize=COLUMN, layout="constrained")
    axes = drawing.subplots()
    if any(trace.kind == "map" for trace in figure.traces):
        _map(axes, figure)
        return drawing
    if figure.absent_below is not None:
        axes.axvspan(min(min(trace.x) for trace in figure.traces), figure.absent_below, color="0.93", linewidth=0)
    # Grey first, so that it hides nothing.
    for trace in sorted(figure.traces, key=lambda trace: trace.series in figure.front):
        _trace(axes, figure, trace)
    for name, axis in (("x", figure.x), ("y", figure.y)):
        _axis(axes, name, axis, ends(figure, name))
    handles, names = axes.get_legend_handles_labels()
    unique = dict(zip(names, handles))
    if len(unique) > 1:
        if len(unique) <= 6 and set(figure.series) == set(unique):
            axes.legend(unique.values(), unique.keys(), loc="best")
        else:  # beneath, where they hide nothing
            drawing.set_figheight(COLUMN[1] + 0.16 * math.ceil(len(unique) / 2))
            drawing.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=2, fontsize=6)
    return drawing


def _trace(axes: Axes, figure: Figure, trace: Trace) -> None:
    """Draw one trace."""
    x, y = trace.x if figure.x.scale == "band" else _placed(figure.x, trace.x), _placed(figure.y, trace.y)
    if trace.kind == "level":
        if y[0] == y[0]:
            side = "top" if figure.y.scale == "error" else "bottom"
            axes.axhline(y[0], color="0.3", linestyle=(0, (1, 2)), linewidth=0.8, zorder=0)
            axes.annotate(safe(trace.names[0]), (0.02, y[0]), xycoords=("axes fraction", "data"), fontsize=6, va=side)
        return
    if figure.looks and trace.series not in figure.front:
        if trace.kind != "point":
            line = 0.0 if trace.kind == "published" else 0.6
            mark = None if trace.kind == "line" else "."
            axes.plot(x, y, color=GREY, linewidth=line, marker=mark, markersize=2.5, zorder=1)
        return
    series = figure.series
    colour, dash, marker, filled = _look(figure, trace.series)
    face = colour if filled else "white"
    match trace.kind:
        case "line":
            axes.plot(x, y, color=colour, linestyle=dash, label=safe(trace.series))
        case "step":
            axes.step(x, y, where="post", color=colour, linestyle=dash, label=safe(trace.series))
        case "bar":
            width, index = 0.8 / len(series), series.index(trace.series)
            places = [place + (index - (len(series) - 1) / 2) * width for place in range(len(x))]
            axes.bar(places, y, width, color=colour, label=safe(trace.series), edgecolor="black", linewidth=0.4)
            axes.set_xticks(range(len(x)), map(safe, trace.x))
            axes.margins(y=0.5)  # the legend's place
        case "point":
            axes.plot(x, y, marker, color=colour, markersize=1.6, alpha=0.6, zorder=2)
        case "mean":
            bars = list(zip(*(_bar(figure, *estimate) for estimate in zip(y, trace.low, trace.high))))
            axes.errorbar(
                x, y, bars, color=colour, linestyle=dash, marker=marker, markerfacecolor=face, markersize=4, capsize=2,
                label=safe(trace.series), zorder=3,
            )  # fmt: skip
        case "published":
            axes.plot(x, y, marker, color=colour, markerfacecolor="none", markersize=5, label=safe(trace.series))


def _look(figure: Figure, series: str) -> tuple[str, Any, str, bool]:
    """Return colour, dash and mark of a series, and whether the mark is filled.

    Where series are of several sweeps, dash and filling are the sweep's, and colour and mark the family's.
    """
    if figure.ordered:
        index = figure.series.index(series)
        return STEPS[round(3 * index / max(len(figure.series) - 1, 1))], DASHES[0], MARKERS[0], True
    sweeps = list(dict.fromkeys(look.sweep for look in figure.looks.values() if look.sweep))
    if len(sweeps) < 2:
        index, turn = (figure.front or figure.series).index(series), None
    else:
        families = list(dict.fromkeys(figure.looks[one].family for one in figure.front))
        sweep = figure.looks[series].sweep
        index, turn = families.index(figure.looks[series].family), sweeps.index(sweep) if sweep else 0
    look = index + index // len(COLOURS)  # so that the second round through the colours looks different
    dash = DASHES[(look if turn is None else turn) % len(DASHES)]
    return COLOURS[index % len(COLOURS)], dash, MARKERS[look % len(MARKERS)], not turn


def _bar(figure: Figure, value: float, low: float | None, high: float | None) -> tuple[float, float]:
    """Return how far an interval reaches below and above a value on the figure's axis."""
    if low is None or high is None:
        return 0.0, 0.0
    if figure.y.scale != "error":
        return value - low, high - value
    least, most = ends(figure, "y") or (0.0, 1.0)
    return value - min(max(1 - high, least), value), max(min(1 - low, most), value) - value


def _placed(axis: Axis, values: Sequence[Any]) -> list[float]:
    """Return where values are drawn, not a number where the axis has no place for one."""
    error = axis.scale == "error"
    return [(1 - value if error else value) if has_place(axis, value) else float("nan") for value in values]


def _axis(axes: Axes, name: str, axis: Axis, reach: tuple[float, float] | None) -> None:
    """Set scale, ticks and title of an axis."""
    handle = axes.xaxis if name == "x" else axes.yaxis
    handle.set_label_text(safe(axis.title))
    if axis.scale == "band":
        return
    if axis.scale != "linear" and reach is not None:  # Matplotlib has no logarithmic axis for nothing
        scale = "log" if axis.scale == "error" else axis.scale
        (axes.set_xscale if name == "x" else axes.set_yscale)(scale)
        handle.set_ticks(ticks(*reach, scale))
        handle.set_minor_locator(NullLocator())
        handle.set_minor_formatter(NullFormatter())
    elif axis.whole:
        handle.set_major_locator(MaxNLocator(integer=True, nbins=6, steps=[1, 2, 5, 10]))
    if axis.share:
        handle.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    elif axis.whole or axis.scale != "linear":
        handle.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    if axis.scale == "error" and reach is not None:
        axes.set_ylim(*reach)
    elif name == "y":
        axes.set_ylim(bottom=axis.low, top=axis.high)


def _map(axes: Axes, figure: Figure) -> None:
    """Draw a map: the darker the more, crossed out where there is nothing."""
    trace = figure.traces[0]
    columns, rows = max(trace.x) + 1, max(trace.y) + 1
    values = [[0.0] * columns for _ in range(rows)]
    for x, y, value in zip(trace.x, trace.y, trace.values):
        values[y][x] = value
    image = axes.imshow(values, cmap="Greys", vmin=0)
    gone = [(x, y) for x, y, value in zip(trace.x, trace.y, trace.values) if value == 0]
    axes.plot([x for x, _ in gone], [y for _, y in gone], "x", color="0.5", markersize=max(1.0, 40 / columns))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.figure.colorbar(image, ax=axes, label=safe(f"{trace.series} per input"))


def _file_name(key: str) -> str:
    """Return a key as the name of a file: layers may have any name."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in key).lstrip(".") or "figure"
