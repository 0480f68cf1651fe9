"""The page of a comparison."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from synaprune.report import compare_html, html
from synaprune.report.compare_figures import AXES, compare_figures, in_front, means, with_few_series
from synaprune.report.figure import Column, Figure, Table, percent
from synaprune.report.names import part_of
from synaprune.report.pivot import pivot
from synaprune.report.records import Record, gather
from synaprune.train.results import NOTE, Estimate

__all__ = ["comparison", "comparison_page"]

# Title of the column, the figure of the row, and its form.
MEANS = [("connectivity", "connectivity", "share"), ("SOPs", "SOPs", "count"), ("MACs", "MACs", "count")]
MEANS += [("energy, nJ", "energy", "nJ"), ("SOPs / dense", "SOPs / dense", "share"), ("seconds", "seconds", "count")]
ALIKE = 1.5  # times as long as another run of its point may a run have taken, if seconds are to tell anything


def comparison(
    paths: Iterable[str | os.PathLike[str]], show: Sequence[str] = (), axis: str | None = None
) -> tuple[list[Record], list[Figure], list[str]]:
    """Return the records at some places, their figures, and what is missing.

    Args:
        paths: of runs, results and folders of them.
        show: names of series, methods or sweeps to bring forward.
        axis: `error` or `accuracy`; None for errors where an accuracy is above 90 %.

    Raises:
        UsageError: as `gather`; a name to show is of nothing.

    """
    records, missing = gather(paths)
    records = with_few_series(records)
    figures, unseen = compare_figures(records, in_front(records, pivot(records), show), axis)
    return records, figures, [*missing, *unseen]


def comparison_page(paths: Iterable[str | os.PathLike[str]], show: Sequence[str] = (), axis: str | None = None) -> str:
    """Return the page that compares runs, results and folders of them; arguments and errors as of `comparison`."""
    records, figures, missing = comparison(paths, show, axis)
    points = len({record.point for record in records})
    title = f"{records[0].settings.get('task', 'networks')}: {_count(points, 'point')}, {_count(len(records), 'run')}"
    part = part_of(records[0].metrics)
    by_budget, looks, front = pivot(records), figures[0].looks, figures[0].front
    costs = {figure.option: figure.option for figure in figures if figure.option}
    axes = dict(zip(AXES, ("error, logarithmic", "accuracy")))
    first = "error" if figures[0].y.scale == "error" else "accuracy"
    table, series = _means(records)
    lost = _incomparable(records)
    body = [
        f"<header><h1>{html.text(title)}</h1>",
        f'<p class="note">Figures of the last epoch, judged on the {part} images.{_sweeps(records)}</p>',
        compare_html.glyphs(),
        compare_html.best(by_budget),
        "</header>",
        html.missing(missing),
        "<main>",
        '<div class="controls">',
        compare_html.chooser(looks, front),
        compare_html.switch("axis", "Axis", axes, first),
        compare_html.switch("option", "Cost", costs, next(iter(costs), "")),
        "</div>",
        '<div class="grid">',
        *(html.figure(figure, with_legend=False) for figure in figures),
        "</div>",
        compare_html.by_budget(by_budget, looks, front, f"{part} accuracy"),
        f"<section><h2>Points</h2><p class=note>{html.text(NOTE)} Choose a head to sort.{html.text(lost)}</p>",
        html.table(table, "Points", sortable=True, series=series),
        "</section></main>",
        "<footer>Written by synaprune. Connectivity is non-zero weights over all weights of the layers; energy is that"
        " of the operations alone, memory not counted.</footer>",
    ]
    return html.document(title, body, figures)


def _sweeps(records: Sequence[Record]) -> str:
    """Return in words how sweeps are told apart, if there are several."""
    sweeps = list(dict.fromkeys(record.sweep for record in records))
    if len(sweeps) < 2:
        return ""
    return html.text(f" Sweeps differ in dash and filling, methods in colour and mark: {', '.join(sweeps)}.")


def _means(records: Sequence[Record]) -> tuple[Table, list[str]]:
    """Return the table of points, and the series of each row."""
    accuracy = f"{part_of(records[0].metrics)} accuracy"
    rows = means(records)
    chosen = [(accuracy, accuracy, "share"), *MEANS]
    chosen = [column for column in chosen if any(column[1] in row.figures for row in rows)]
    if _incomparable(records):
        chosen = [column for column in chosen if column[1] != "seconds"]
    columns = [Column("point"), *(Column(title, "share") for title, _, _ in chosen), Column("seeds", "count")]
    cells = [
        [row.point, *(_shown(row.figures.get(figure), form) for _, figure, form in chosen), len(row.seeds)]
        for row in rows
    ]
    series = {record.point: record.series for record in records}
    return Table(columns, cells), [series[row.point] for row in rows]


def _incomparable(records: Sequence[Record]) -> str:
    """Return in words why the seconds of some records say nothing about their methods; empty where they may."""
    known = [record.machine for record in records if isinstance(record.machine, dict) and record.machine]
    machines = {tuple(str(machine.get(key)) for key in ("processor", "gpu", "threads")) for machine in known}
    if len(machines) > 1:
        return " Seconds are left out: not all runs had the same processor, GPU and number of threads."
    by_point: dict[str, list[float]] = {}
    for record in records:
        by_point.setdefault(record.point, []).append(record.seconds)
    ratio, point = max((max(some) / min(some) if min(some) > 0 else 1.0, point) for point, some in by_point.items())
    if ratio <= ALIKE:
        return ""
    return (
        f" Seconds are left out: of runs that differ in the seed alone, one took {ratio:.1f} times as long as another"
        f" ({point}), so that something else was running on the machine."
    )


def _shown(estimate: Estimate | None, form: str) -> str:
    """Return a mean and its interval."""
    if estimate is None:
        return ""
    mean, half = estimate
    if form == "share":
        return percent(mean) if half is None else f"{percent(mean)} ± {100 * half:.2f}"
    scale = 1e-3 if form == "nJ" else 1.0
    digits = 2 if form == "nJ" else 0
    text = f"{scale * mean:,.{digits}f}"
    return text if half is None else f"{text} ± {scale * half:,.{digits}f}"


def _count(number: int, name: str) -> str:
    """Return a number of things in words."""
    return f"{number} {name}{'s' * (number != 1)}"
