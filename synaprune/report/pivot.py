"""Which series is best at which budget, and which cannot be told from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from synaprune.report.names import has_budget, part_of
from synaprune.report.records import Record
from synaprune.train.results import Estimate, estimate

__all__ = ["Cell", "Pivot", "differs", "pivot"]

MANY = 8  # budgets, of which a table can be read at a glance
NEAR = 0.05  # by which a connectivity may be above a budget that it is said to keep, as a share of it


@dataclass(frozen=True)
class Cell:
    """A series at a budget.

    Attributes:
        records: the runs of its point; of several points, of the best.
        accuracy: their mean and interval.
        connectivity: their mean.
        keeps: it keeps to the budget.
        best: no other series that keeps to it has a higher mean.
        near: it is not the best, but no significant difference from the best is seen.
    """

    records: Sequence[Record]
    accuracy: Estimate
    connectivity: float
    keeps: bool
    best: bool = False
    near: bool = False


@dataclass(frozen=True)
class Pivot:
    """The series by budget.

    Attributes:
        budgets: shares of the synapses, the least first.
        rows: for each series its cell at each budget, None where it has none; the best on the whole first, and those
            last that are only at the largest budget, as dense networks are.
        outside: names of points that are at no budget.
    """

    budgets: Sequence[float]
    rows: dict[str, list[Cell | None]]
    outside: Sequence[str]

    def best(self, column: int) -> tuple[str, Cell] | None:
        """Return the best series at a budget, None where no series keeps to it."""
        found = ((series, cells[column]) for series, cells in self.rows.items())
        return next(((series, cell) for series, cell in found if cell is not None and cell.best), None)

    def near(self, column: int) -> list[str]:
        """Return the series that cannot be told from the best at a budget."""
        return [series for series, cells in self.rows.items() if (cell := cells[column]) is not None and cell.near]


def pivot(records: Sequence[Record]) -> Pivot:
    """Return the records by series and budget.

    The budgets are those that some were asked for, and what dense networks have: all. A point that was asked for a
    budget stands there, whatever it kept; one that was not, where its connectivity is. Where no point was asked for
    one, the connectivities that were reached are the budgets, if they are few.
    """
    points: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        points.setdefault((record.series, record.point), []).append(record)
    asked = {key: _asked(members[0]) for key, members in points.items()}
    budgets = _apart([budget for budget in asked.values() if budget is not None])
    if budgets in ([], [1.0]):
        reached = _apart([*budgets, *(statistics.fmean(_connectivities(members)) for members in points.values())])
        budgets = reached if 1 < len(reached) <= MANY else []
    rows: dict[str, list[Cell | None]] = {record.series: [None] * len(budgets) for record in records}
    outside = []
    for (series, point), members in points.items():
        connectivity = statistics.fmean(_connectivities(members))
        wanted = asked[series, point]
        column = _column(budgets, connectivity if wanted is None else wanted)
        if column is None:
            outside.append(point)
            continue
        keeps = connectivity <= budgets[column] * (1 + NEAR)
        cell = Cell(members, estimate(_accuracies(members)), connectivity, keeps)
        other = rows[series][column]
        if other is None or (cell.keeps, cell.accuracy.mean) > (other.keeps, other.accuracy.mean):
            rows[series][column] = cell
    rows = {series: cells for series, cells in rows.items() if any(cells)}
    for column in range(len(budgets)):
        _judge(rows, column)
    order = sorted(rows.items(), key=lambda row: (not any(row[1][:-1]), _rank(row[1], rows)))
    return Pivot(budgets, dict(order), outside)


def differs(one: Sequence[float], two: Sequence[float]) -> bool | None:
    """Tell whether two samples have different means, by Welch's t-test at 5 %; None where a sample is a single value.

    Source: B. L. Welch, The generalization of "Student's" problem when several different population variances are
    involved, Biometrika 34, 1947.

    >>> differs([0.98, 0.981, 0.982], [0.9, 0.91, 0.92]), differs([0.98, 0.97], [0.96, 0.99]), differs([0.9], [0.8])
    (True, False, None)
    """
    if min(len(one), len(two)) < 2:
        return None
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    parts = [statistics.variance(sample) / len(sample) for sample in (one, two)]
    distance, spread = abs(statistics.fmean(one) - statistics.fmean(two)), sum(parts)
    if spread == 0:
        return distance > 0
    freedom = 1 / sum((part / spread) ** 2 / (len(sample) - 1) for part, sample in zip(parts, (one, two)))
    return bool(distance / math.sqrt(spread) > stdtrit(freedom, 0.975))


def _asked(record: Record) -> float | None:
    """Return the share of the synapses that a run was to keep, None where it had a strength instead."""
    if record.settings.get("method") == "dense":
        return 1.0
    if not has_budget(record.settings):
        return None
    sparsity = record.settings.get("sparsity")
    return 1 - sparsity if isinstance(sparsity, int | float) else record.metrics["connectivity"]


def _apart(values: Sequence[float]) -> list[float]:
    """Return values of which none is another within what counts as the same budget."""
    found: list[float] = []
    for value in sorted(values):
        if not found or value > found[-1] * (1 + NEAR):
            found.append(value)
    return found


def _column(budgets: Sequence[float], value: float) -> int | None:
    """Return the budget that a value is nearest to, if it is near one."""
    close = [(abs(value - budget), index) for index, budget in enumerate(budgets)]
    return next((index for distance, index in sorted(close) if distance <= NEAR * budgets[index]), None)


def _judge(rows: dict[str, list[Cell | None]], column: int) -> None:
    """Mark the best of a column, and those that cannot be told from it."""
    kept = {series: cell for series, cells in rows.items() if (cell := cells[column]) is not None and cell.keeps}
    if not kept:
        return
    top = max(kept.values(), key=lambda cell: cell.accuracy.mean)
    for series, cell in kept.items():
        best = cell.accuracy.mean == top.accuracy.mean
        near = not best and differs(_accuracies(cell.records), _accuracies(top.records)) is False
        rows[series][column] = Cell(cell.records, cell.accuracy, cell.connectivity, True, best, near)


def _rank(cells: Sequence[Cell | None], rows: dict[str, list[Cell | None]]) -> float:
    """Return the mean place of a series among all that are at its budgets, as a share: 0 is the first."""
    shares = []
    for column, cell in enumerate(cells):
        if cell is None:
            continue
        others = [other for other in (its[column] for its in rows.values()) if other is not None]
        better = sum((o.keeps, o.accuracy.mean) > (cell.keeps, cell.accuracy.mean) for o in others)
        shares.append(better / len(others))
    return statistics.fmean(shares)


def _connectivities(records: Sequence[Record]) -> list[float]:
    return [record.metrics["connectivity"] for record in records]


def _accuracies(records: Sequence[Record]) -> list[float]:
    return [record.metrics[f"{part_of(record.metrics)}_accuracy"] for record in records]
