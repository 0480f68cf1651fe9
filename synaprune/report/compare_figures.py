"""The figures of a comparison: accuracy against connectivity and operations, and the course of each run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from synaprune.report.figure import Axis, Column, Figure, Table, Trace, percent, wide
from synaprune.report.names import has_budget, method_name, part_of
from synaprune.report.published import POINTS, Published, published_for
from synaprune.report.records import Record, one_curve
from synaprune.train import results
from synaprune.train.results import Estimate, Row

__all__ = ["PUBLISHED", "compare_figures", "means", "with_few_series"]

PUBLISHED = "published in papers"
SERIES = 12  # more would be told apart neither in a legend nor in a figure
ENERGY = "energy"
FIGURES = {**results.FIGURES, ENERGY: ("energy", "total_pj"), "seconds": ("seconds",)}
SOPS = ("operations", "total", "effective_acs")


def compare_figures(records: Sequence[Record]) -> tuple[list[Figure], list[str]]:
    """Return the figures of some records, of which each belongs to a series, and what is missing for the others."""
    part = part_of(records[0].metrics)
    rows = means(records)
    others = published_for(records[0].settings)
    figures = [
        _against(
            records,
            rows,
            "accuracy-connectivity",
            "Accuracy against connectivity",
            "Small marks are runs, large ones means over the seeds with the 95 % interval of the mean.",
            Axis("connectivity", "log", share=True),
            "connectivity",
            lambda record: record.metrics["connectivity"],
            "has no synapse left",
            others,
        )
    ]
    missing = []
    without = sorted({record.point for record in records if _sops(record) is None})
    measured = [record for record in records if record.point not in without]
    if measured:
        figures.append(
            _against(
                measured,
                rows,
                "accuracy-sops",
                "Accuracy against operations",
                "Additions that spikes cause on existing synapses, per image, on a logarithmic axis.",
                Axis("SOPs per image", "log", whole=True),
                "SOPs",
                _sops,
                "fired no spike",
            )
        )
    if without:
        missing.append(
            f"Operations and energy were not measured for {len(without)} of {len({r.point for r in records})} points"
            f" ({_few(without)}): `synaprune eval RUN` measures a run, and a sweep each of its points."
        )
    courses = [record for record in records if record.epochs]
    if courses:
        figures += [
            _course(courses, "course-accuracy", "Accuracy over time", Axis("accuracy", share=True), f"{part}_accuracy"),
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
    return figures, missing


def with_few_series(records: Sequence[Record]) -> list[Record]:
    """Return the records in so many series that each can have a look of its own: at worst one per method."""
    if len({record.series for record in records}) <= SERIES:
        return list(records)
    return [dataclasses.replace(record, series=method_name(record.settings)) for record in records]


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


def _against(
    records: Sequence[Record],
    rows: Sequence[Row],
    key: str,
    title: str,
    note: str,
    x: Axis,
    figure: str,
    value: Callable[[Record], float | None],
    nothing: str,
    published: Sequence[Published] = (),
) -> Figure:
    """Return a figure of accuracy against something of which less is better; `nothing` says what 0 of it means."""
    part = part_of(records[0].metrics)
    accuracy = f"{part} accuracy"
    by_point = {row.point: row.figures for row in rows}
    curves = list(dict.fromkeys(record.series for record in records))
    reached = [record.metrics[f"{part}_accuracy"] for record in records]
    room = max(0.25 * (max(reached) - min(reached)), 0.005)
    low, high = max(min(reached) - room, 0.0), min(max(reached) + room, 1.0)  # two seeds may have endless intervals
    traces = []
    for series in curves:
        members = [record for record in records if record.series == series]
        points = list(dict.fromkeys(record.point for record in members))
        points = [point for point in points if figure in by_point[point] and by_point[point][figure].mean > 0]
        points.sort(key=lambda point: by_point[point][figure].mean)
        # Several curves may have had to become one series; a line through points of all of them would mean nothing.
        groups = [group for some in _curves(members) for group in _linked(some, points)]
        traces += [
            Trace(
                series,
                [by_point[point][figure].mean for point in group],
                [by_point[point][accuracy].mean for point in group],
                "mean",
                [_end(by_point[point][accuracy], -1, low, high) for point in group],
                [_end(by_point[point][accuracy], +1, low, high) for point in group],
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
    dense = dict.fromkeys(record.point for record in records if record.settings.get("method") == "dense")
    if dense:
        best = max(by_point[point][accuracy].mean for point in dense)
        traces.append(Trace("dense", [], [best], "level", names=[f"dense {percent(best)}"]))
        note += " The dotted line is the dense network" + (f", the best of {len(dense)}." if len(dense) > 1 else ".")
    none = sorted({record.point for record in records if value(record) == 0})
    if none:
        note += f" Not drawn, since a logarithmic axis has no 0: {', '.join(none)} ({nothing})."
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
            [epoch.get(figure) or None for epoch in record.epochs],
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


def _sops(record: Record) -> float | None:
    found: Any = record.metrics
    for key in SOPS:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
