"""A figure as data: what is drawn, on which axes, and the table behind it.

The page (`vega`) and the files for papers (`paper`) are drawn from the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = [
    "Axis", "Column", "Figure", "Look", "Table", "Trace", "ends", "has_place", "percent", "shown", "ticks", "wide",
]  # fmt: skip

FEW = 3  # ticks, less than which would leave the reader guessing
MANY_DECADES = 10**2.7  # on which ticks at 2 and 5 would be too many


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        title: what it measures.
        scale: `linear`, `log`, `symlog` (counts that may be 0), `band` (names), or `error` (accuracies, drawn as what
            they lack of 1 on a logarithmic axis).
        share: values are shares of 1, shown in percent.
        low: where the axis ends below, if it must.
        high: where the axis ends above, if it must.
        whole: ticks at whole numbers only.
    """

    title: str
    scale: str = "linear"
    share: bool = False
    low: float | None = None
    high: float | None = None
    whole: bool = False


@dataclass(frozen=True)
class Trace:
    """Values that are drawn together.

    Attributes:
        series: what the legend calls them; traces of one series look alike.
        x: positions; of a `level` none.
        y: values; None where there is none.
        kind: `line`, `step` (of a histogram), `bar`, `point`, `mean`, `level`, `published` or `map`.
        low: lower ends of the intervals.
        high: upper ends of the intervals.
        names: what each point is, or all of them.
        values: of a `map`, the value at each (x, y).
    """

    series: str
    x: Sequence[Any]
    y: Sequence[Any]
    kind: str = "line"
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    names: Sequence[str] | str = ""
    values: Sequence[float] = ()


class Column(NamedTuple):
    """A column of a table; its form is `text`, `share`, `count` or `number`."""

    title: str
    form: str = "text"


@dataclass(frozen=True)
class Table:
    """The figures of a figure; cells are values, or texts that are shown as they are."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]


class Look(NamedTuple):
    """What tells a series of a comparison from the others.

    Attributes:
        family: series of one family have one colour and one mark.
        sweep: series of one sweep have one dash, and marks that are filled or hollow.
    """

    family: str
    sweep: str


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        key: name of its files, and of its place in the page.
        title: what it shows, in a few words.
        note: what to look at, in a sentence or two.
        x: the horizontal axis.
        y: the vertical axis.
        traces: what is drawn.
        table: the same as figures.
        absent_below: x up to which a synapse is absent; the zone is shaded.
        ordered: the series are steps of one quantity, such as epochs.
        looks: of each series of a comparison; none where each series has colour, dash and mark of its own.
        front: the series of a comparison that are drawn in colour; the others are grey.
        other_y: another vertical axis, which the reader may choose.
        option: which of several figures it is that stand in one place, of which the reader chooses one.
    """

    key: str
    title: str
    note: str
    x: Axis
    y: Axis
    traces: Sequence[Trace]
    table: Table
    absent_below: float | None = None
    ordered: bool = False
    looks: Mapping[str, Look] = field(default_factory=dict)
    front: Sequence[str] = ()
    other_y: Axis | None = None
    option: str = ""

    @property
    def series(self) -> list[str]:
        """Return the names of the series in the order of the traces; a level belongs to no legend."""
        return list(dict.fromkeys(trace.series for trace in self.traces if trace.kind not in ("level", "map")))

    @property
    def scattered(self) -> bool:
        """Whether single runs are points in it."""
        return any(trace.kind == "point" for trace in self.traces)


def percent(value: float) -> str:
    """Return a share in percent, with the digits that a small one needs.

    >>> percent(0.97425), percent(0.0073), percent(0.00012), percent(1.0)
    ('97.42 %', '0.73 %', '0.012 %', '100.00 %')
    """
    return f"{100 * value:.2f} %" if abs(value) >= 1e-3 or value == 0 else f"{100 * value:.2g} %"


def shown(value: Any, form: str = "text") -> str:
    """Return a cell as text.

    >>> shown(0.5, "share"), shown(1234.4, "count"), shown(0.000123456, "number"), shown(None, "count")
    ('50.00 %', '1,234', '0.0001235', '')
    """
    if value is None or value != value:
        return ""
    if isinstance(value, str) or form == "text":
        return str(value)
    if form == "share":
        return percent(value)
    return f"{value:,.0f}" if form == "count" else f"{value:.4g}"


def wide(title: str, traces: Iterable[Trace], form: str) -> Table:
    """Return a table with a row for each x of the traces and a column for each trace."""
    traces = list(traces)
    by_x = [dict(zip(trace.x, trace.y)) for trace in traces]
    rows = sorted({x for trace in traces for x in trace.x})
    heads = [trace.names if isinstance(trace.names, str) and trace.names else trace.series for trace in traces]
    return Table(
        [Column(title, "number"), *(Column(head, form) for head in heads)],
        [[x, *(values.get(x) for values in by_x)] for x in rows],
    )


def has_place(axis: Axis, value: Any) -> bool:
    """Tell whether an axis has a place for a number: a logarithmic one has none for 0 and below."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return {"log": value > 0, "error": value < 1}.get(axis.scale, True)


def ends(figure: Figure, name: str) -> tuple[float, float] | None:
    """Return the least and the largest value on axis `x` or `y`, intervals included; None where there is none."""
    if name == "y" and figure.y.scale == "error":
        return _errors(figure)
    axis, fields = (figure.x, ("x",)) if name == "x" else (figure.y, ("y", "low", "high"))
    values = [v for trace in figure.traces for field in fields for v in getattr(trace, field) if has_place(axis, v)]
    values += [end for end in (axis.low, axis.high) if values and end is not None]
    beyond = 1.1 if figure.scattered else 1.0  # such axes are wider than their values
    return (min(values) / beyond, max(values) * beyond) if values else None


def _errors(figure: Figure) -> tuple[float, float] | None:
    """Return the least and the largest error; an interval that ends near 0 would stretch the axis without end."""
    values = [1 - v for trace in figure.traces for v in trace.y if has_place(figure.y, v)]
    if not values:
        return None
    ends_of_intervals = (v for trace in figure.traces for v in (*trace.low, *trace.high))
    tips = [1 - v for v in ends_of_intervals if v is not None and has_place(figure.y, v)]
    least = max(min(values) / 2, min([*tips, min(values)]))
    return least / 1.25, min(max([*values, *tips]) * 1.1, 1.0)  # below there is room for the name of a level


def ticks(low: float, high: float, scale: str) -> list[float]:
    """Return the ticks of a `log` or `symlog` axis: 1, 2 and 5 in each decade, only 1 where they would be many.

    Where they would be few, there are more.

    >>> ticks(0.04, 1.0, "log"), ticks(0, 3000, "symlog")
    ([0.05, 0.1, 0.2, 0.5, 1.0], [0.0, 1.0, 10.0, 100.0, 1000.0])
    >>> ticks(0.016, 0.03, "log")
    [0.016, 0.018, 0.02, 0.022, 0.024, 0.026, 0.028, 0.03]
    """
    if high <= 0 or (scale == "log" and low <= 0):
        return [0.0] if scale == "symlog" else []
    first = 0 if scale == "symlog" else math.floor(math.log10(low) + 1e-9)
    last = math.floor(math.log10(high) + 1e-9)
    if scale == "symlog":
        return [0.0, *(10.0**decade for decade in range(first, last + 1) if 10**decade <= high)]
    digits = (1,) if high / low > MANY_DECADES else (1, 2, 5)
    found = [float(f"{digit}e{decade}") for decade in range(first, last + 1) for digit in digits]
    found = [value for value in found if low * 0.999 <= value <= high * 1.001]
    return found if len(found) >= FEW or low == high else _even(low, high)


def _even(low: float, high: float) -> list[float]:
    """Return ticks at whole multiples of a round step, three to seven of them."""
    decade = math.floor(math.log10((high - low) / FEW))
    step = max(float(f"{digit}e{decade}") for digit in (1, 2, 5) if float(f"{digit}e{decade}") <= (high - low) / FEW)
    return [float(f"{n * step:.12g}") for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
