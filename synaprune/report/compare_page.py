"""The page of a comparison."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from synaprune.report import html
from synaprune.report.compare_figures import compare_figures, means, with_few_series
from synaprune.report.figure import Column, Figure, Table, percent
from synaprune.report.names import part_of
from synaprune.report.records import Record, gather
from synaprune.train.results import NOTE, Estimate

__all__ = ["comparison", "comparison_page"]

# Title of the column, the figure of the row, and its form.
MEANS = [("connectivity", "connectivity", "share"), ("SOPs", "SOPs", "count"), ("energy, nJ", "energy", "nJ")]
MEANS += [("SOPs / dense", "SOPs / dense", "share"), ("seconds", "seconds", "count")]


def comparison(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Record], list[Figure], list[str]]:
    """Return the records at some places, their figures, and what is missing; raises as `gather`."""
    records, missing = gather(paths)
    records = with_few_series(records)
    figures, unseen = compare_figures(records)
    return records, figures, [*missing, *unseen]


def comparison_page(paths: Iterable[str | os.PathLike[str]]) -> str:
    """Return the page that compares runs, results and folders of them; raises as `gather`."""
    records, figures, missing = comparison(paths)
    points = len({record.point for record in records})
    title = f"{records[0].settings['task']}: {_count(points, 'point')}, {_count(len(records), 'run')}"
    table, series = _means(records)
    body = [
        f"<header><h1>{html.text(title)}</h1>",
        f'<p class="note">Figures of the last epoch, judged on the {part_of(records[0].metrics)} images.</p></header>',
        html.missing(missing),
        "<main>",
        html.legend(figures[0], shared=True),
        '<div class="grid">',
        *(html.figure(figure, with_legend=False) for figure in figures),
        "</div>",
        f"<section><h2>Points</h2><p class=note>{html.text(NOTE)} Choose a head to sort.</p>",
        html.table(table, "Points", sortable=True, series=series),
        "</section></main>",
        "<footer>Written by synaprune. Connectivity is non-zero weights over all weights of the layers; energy is that"
        " of the operations alone, memory not counted.</footer>",
    ]
    return html.document(title, body, figures)


def _means(records: Sequence[Record]) -> tuple[Table, list[str]]:
    """Return the table of points, and the series of each row."""
    accuracy = f"{part_of(records[0].metrics)} accuracy"
    rows = means(records)
    chosen = [(accuracy, accuracy, "share"), *MEANS]
    chosen = [column for column in chosen if any(column[1] in row.figures for row in rows)]
    columns = [Column("point"), *(Column(title, "share") for title, _, _ in chosen), Column("seeds", "count")]
    cells = [
        [row.point, *(_shown(row.figures.get(figure), form) for _, figure, form in chosen), len(row.seeds)]
        for row in rows
    ]
    series = {record.point: record.series for record in records}
    return Table(columns, cells), [series[row.point] for row in rows]


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
