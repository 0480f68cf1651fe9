"""The figures of a comparison: accuracy against connectivity and cost, and the course of each run."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from synaprune.errors import UsageError, nearest
from synaprune.report.costs import COSTS, ENERGY, MACS, SOPS, measured
from synaprune.report.figure import Axis, Column, Figure, Look, Table, Trace, percent, wide
from synaprune.report.names import has_budget, method_name, part_of
from synaprune.report.pivot import Pivot
from synaprune.report.published import POINTS, Published, published_for
from synaprune.report.records import Record, group_names, one_curve
from synaprune.train import results
from synaprune.train.results import Estimate, Row

__all__ = ["AXES", "FRONT", "PUBLISHED", "compare_figures", "in_front", "means", "with_few_series"]

AXES = ("error", "accuracy")
PUBLISHED = "published in papers"
SERIES = 12  # of more, those of a method and sweep become one
FRONT = 5  # series that a glance tells apart
HIGH = 0.9  # an accuracy above which what is missing to 1 tells more
FIGURES = {**results.FIGURES, "MACs": MACS, "energy": ENERGY, "seconds": ("seconds",)}


def compare_figures(
    records: Sequence[Record], front: Sequence[str], axis: str | None = None
) -> tuple[list[Figure], list[str]]:
    """Return the figures of some records, of which each belongs to a series, and what is missing for the others.

    Args:
        records: with their series.
        front: the series that are drawn in colour.
        axis: `error` or `accuracy`; None for errors where an accuracy is above 90 %.

    """
    part = part_of(records[0].metrics)
    rows = means(records)
    others = published_for(records[0].settings)
    figures = [
        _against(
            records,
            rows,
            "accuracy-connectivity",
            "Accuracy and connectivity",
            "Small marks are runs, large ones means over the seeds with the 95 % interval of the mean.",
            Axis("connectivity", "log", share=True),
            lambda record: record.metrics["connectivity"],
            "has no synapse left",
            others,
        )
    ]
    missing = []
    without = sorted({record.point for record in records if measured(record, SOPS) is None})
    for cost in COSTS:
        known = {record.point for record in records} - {r.point for r in records if cost.value(r) is None}
        if known:
            some = [record for record in records if record.point in known]
            title = f"Accuracy and {cost.name}"
            figure = _against(some, rows, cost.key, title, cost.note, cost.axis, cost.value, cost.nothing)
            figures.append(dataclasses.replace(figure, option=cost.name))
    if without:
        missing.append(
            f"Operations and energy were not measured for {len(without)} of {len({r.point for r in records})} points"
            f" ({_few(without)}): `synaprune eval RUN` measures a run, and a sweep each of its points."
        )
    courses = [record for record in records if record.epochs]
    if courses:
        accuracy = Axis(f"{part} accuracy", share=True)
        figures += [
            _course(courses, "course-accuracy", "Accuracy over time", accuracy, f"{part}_accuracy"),
            _course(
                courses,
                "course-connectivity",
                "Connectivity over time",
                Axis("connectivity", "log", share=True),
                "connectivity",
            ),
        ]
    if not others and records[0].settings.get("task") in {network["task"] for network, _ in POINTS}:
        missing.append("No published figure that was read at its source is of this task and this very network.")
    looks = {record.series: Look(record.family, record.sweep) for record in records}
    looks |= {PUBLISHED: Look(PUBLISHED, "")} if others else {}
    best = max(row.figures[f"{part} accuracy"].mean for row in rows)
    errors = axis == "error" if axis is not None else best > HIGH
    figures = [dataclasses.replace(figure, looks=looks, front=list(front)) for figure in figures]
    return [_with_errors(figure, part, errors) for figure in figures], missing


def with_few_series(records: Sequence[Record]) -> list[Record]:
    """Return the records in so many series that a list of them can be read: at worst one per method and sweep."""
    if len({record.series for record in records}) <= SERIES:
        return list(records)
    groups = zip(records, group_names(records))
    return [dataclasses.replace(record, series=group, family=family) for record, (group, family) in groups]


def in_front(records: Sequence[Record], table: Pivot, chosen: Sequence[str] = ()) -> list[str]:
    """Return the series that are drawn in colour at first.

    All where they are few; else those that the reader chose, the best dense network, what is published, and of the
    series that are best at a budget those that are so most often.

    Raises:
        UsageError: what was chosen names no series.

    """
    every = list(dict.fromkeys(record.series for record in records))
    published = [PUBLISHED] if published_for(records[0].settings) else []
    front = [series for name in chosen for series in _named(name, records)]
    if not chosen and len(every) + len(published) <= FRONT:
        return every + published
    tops = [best for column in range(len(table.budgets)) if (best := table.best(column)) is not None]
    dense = [series for series, cell in tops if cell.records[0].settings.get("method") == "dense"]
    often = [series for series, _ in Counter(series for series, _ in tops).most_common()]
    if not tops:
        part = part_of(records[0].metrics)
        ranked = sorted(records, key=lambda record: -record.metrics[f"{part}_accuracy"])
        often = [record.series for record in ranked]
    wanted = list(dict.fromkeys([*front, *dense[-1:], *published, *often]))
    return wanted[: max(FRONT, len(set(front)))]


def means(records: Sequence[Record]) -> list[Row]:
    """Return one row per point: means over the seeds, and the intervals."""
    plain = [
        {
            "point": record.point,
            "settings": record.settings,
            "metrics": {**record.metrics, "seconds": record.seconds},
        }
        for record in records
    ]
    return results.summary(plain, FIGURES)


def _named(name: str, records: Sequence[Record]) -> list[str]:
    """Return the series that a name is of: their own, that of their method, family or sweep."""
    known: dict[str, list[str]] = {}
    for r in records:
        for word in (r.series, r.family, r.sweep, str(r.settings.get("method")), method_name(r.settings)):
            known.setdefault(word.casefold(), []).append(r.series)
    if name.casefold() not in known:
        every = list(dict.fromkeys(record.series for record in records))
        raise UsageError(f"no series is called '{name[:80]}'{nearest(name, known)}; there are {_few(every, 12)}")
    return list(dict.fromkeys(known[name.casefold()]))


def _with_errors(figure: Figure, part: str, first: bool) -> Figure:
    """Return a figure of accuracies that can be drawn as errors too, or is at first."""
    if not figure.y.title.endswith("accuracy"):
        return figure
    error = Axis(f"{part} error, less is better", "error", share=True)
    return dataclasses.replace(figure, y=error if first else figure.y, other_y=figure.y if first else error)


def _against(
    records: Sequence[Record],
    rows: Sequence[Row],
    key: str,
    title: str,
    note: str,
    x: Axis,
    value: Callable[[Record], float | None],
    nothing: str,
    published: Sequence[Published] = (),
) -> Figure:
    """Return a figure of accuracy against something of which less is better; `nothing` says what 0 of it means."""
    part = part_of(records[0].metrics)
    accuracy = f"{part} accuracy"
    estimates = {row.point: row.figures[accuracy] for row in rows}
    by_point: dict[str, list[float]] = {}
    for record in records:
        by_point.setdefault(record.point, []).append(value(record) or 0.0)
    at = {point: statistics.fmean(values) for point, values in by_point.items()}
    curves = list(dict.fromkeys(record.series for record in records))
    reached = [record.metrics[f"{part}_accuracy"] for record in records]
    room = max(0.25 * (max(reached) - min(reached)), 0.005)
    low, high = max(min(reached) - room, 0.0), min(max(reached) + room, 1.0)  # two seeds may have endless intervals
    traces = []
    for series in curves:
        members = [record for record in records if record.series == series]
        points = sorted({record.point for record in members if at[record.point] > 0}, key=lambda point: at[point])
        # Several curves may have had to become one series; a line through points of all of them would mean nothing.
        groups = [group for some in _curves(members) for group in _linked(some, points)]
        traces += [
            Trace(
                series,
                [at[point] for point in group],
                [estimates[point].mean for point in group],
                "mean",
                [_end(estimates[point], -1, low, high) for point in group],
                [_end(estimates[point], +1, low, high) for point in group],
                [_mean_name(point, members) for point in group],
            )
            for group in groups
        ]
        traces.append(
            Trace(
                series,
                [value(record) for record in members],
                [record.metrics[f"{part}_accuracy"] for record in members],
                "point",
                names=[record.name for record in members],
            )
        )
    dense = {record.point: record.series for record in records if record.settings.get("method") == "dense"}
    if dense:
        best = max(dense, key=lambda point: estimates[point].mean)
        level = estimates[best].mean
        traces.append(Trace(dense[best], [], [level], "level", names=[f"{dense[best]} {percent(level)}"]))
        note += " The dotted line is the dense network" + (f", the best of {len(dense)}." if len(dense) > 1 else ".")
    none = sorted({record.point for record in records if value(record) == 0})
    if none:
        note += f" Not drawn, since a logarithmic axis has no 0: {', '.join(none)} ({nothing})."
    right = sorted({record.point for record in records if record.metrics[f"{part}_accuracy"] >= 1})
    if right:
        note += f" A run without an error is not drawn on the axis of errors: {', '.join(right)}."
    if published:
        traces.append(
            Trace(
                PUBLISHED,
                [point.connectivity for point in published],
                [point.accuracy for point in published],
                "published",
                names=[f"{point.name}, published" for point in published],
            )
        )
        sources = dict.fromkeys(point.source for point in published)
        note += f" Hollow marks are published, one seed each, not measured here: {'; '.join(sources)}."
    columns = [
        Column("run"),
        Column("point"),
        Column("seed", "number"),
        Column(x.title, "share" if x.share else "count"),
    ]
    cells: list[list[Any]] = [
        [r.name, r.point, r.settings.get("seed"), value(r), r.metrics[f"{part}_accuracy"]] for r in records
    ]
    cells += [
        [point.name, f"published: {point.source}", None, point.connectivity, point.accuracy] for point in published
    ]
    table = Table([*columns, Column(accuracy, "share")], cells)
    return Figure(key, title, note, x, Axis(accuracy, share=True), traces, table)


def _course(records: Sequence[Record], key: str, title: str, y: Axis, figure: str) -> Figure:
    """Return a figure of each run's epochs."""
    traces = [
        Trace(
            record.series,
            [epoch["epoch"] for epoch in record.epochs],
            [epoch.get(figure) for epoch in record.epochs],
            names=record.name,
        )
        for record in records
    ]
    note = "One line for each run whose folder was given; runs of one curve look alike."
    return Figure(key, title, note, Axis("epoch", whole=True), y, traces, wide("epoch", traces, "share"))


def _curves(records: Sequence[Record]) -> list[list[Record]]:
    """Return the records of one series by sweep, and by whether a number of synapses was asked for."""
    found: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        found.setdefault((record.sweep, record.settings.get("method"), has_budget(record.settings)), []).append(record)
    return list(found.values())


def _linked(records: Sequence[Record], order: Sequence[str]) -> list[list[str]]:
    """Return the points of records in an order: together if they are one curve, else each alone."""
    own = {record.point for record in records}
    points = [point for point in order if point in own]
    return [points] if one_curve(records) else [[point] for point in points]


def _end(estimate: Estimate, sign: int, low: float, high: float) -> float | None:
    """Return an end of the interval, inside of the picture; a single seed has none."""
    return None if estimate.half is None else min(max(estimate.mean + sign * estimate.half, low), high)


def _mean_name(point: str, members: Sequence[Record]) -> str:
    count = sum(record.point == point for record in members)
    return f"{point}: mean of {count} seeds" if count > 1 else f"{point}: one seed"


def _few(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
