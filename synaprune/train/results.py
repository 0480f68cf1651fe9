"""Result files, one per trained point, and their summary over seeds."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from synaprune.errors import MachineError, UsageError
from synaprune.reading import content, from_json, named
from synaprune.schema import Form
from synaprune.terminal import safe
from synaprune.train.forms import RESULT

__all__ = ["FIGURES", "NOTE", "Estimate", "Row", "cells", "estimate", "load", "markdown", "read", "summary", "table"]

NOTE = "± is half of the 95 % interval of the mean over the seeds (Student t)."

# Column of the table, and where the figure lies in the metrics.
FIGURES = {
    "test accuracy": ("test_accuracy",),
    "validation accuracy": ("validation_accuracy",),
    "connectivity": ("connectivity",),
    "SOPs": ("operations", "total", "effective_acs"),
}
OF_DENSE = "SOPs / dense"
REMEDY = "delete it, and the sweep makes it anew"


class Estimate(NamedTuple):
    """A mean over seeds, and half the width of its 95 % interval; None for a single seed, which has none."""

    mean: float
    half: float | None


class Row(NamedTuple):
    """One point of a table: its figures at the final epoch, over these seeds."""

    point: str
    seeds: tuple[int, ...]
    figures: dict[str, Estimate]


def load(path: str | os.PathLike[str], form: Form = RESULT) -> dict[str, Any]:
    """Return what a result file holds: point, settings, metrics and more, if a reader's own form asks for that.

    Raises:
        UsageError: there is none, or it is damaged, or no result.

    """
    path = Path(path)
    with named(f"result '{path}' is damaged: it", REMEDY):
        found = _content(path)
        if not isinstance(found, dict) or not RESULT.required.keys() <= found.keys():
            raise UsageError(f"'{path}' is no result of a sweep; move it to another folder")
        RESULT.check(found)
        form.check(found)
    return found


def _content(path: Path) -> Any:
    try:
        return from_json(content(path), finite=False)
    except FileNotFoundError as error:
        raise UsageError(f"there is no result '{path}'") from error


def read(folder: str | os.PathLike[str], form: Form = RESULT) -> list[dict[str, Any]]:
    """Return all results in a folder as `load` does, in the order of their points' names and seeds.

    Raises:
        UsageError: there is no such folder, or a file in it is damaged or no result.

    """
    if not Path(folder).is_dir():
        raise UsageError(f"there is no folder of results '{folder}'")
    found = [load(path, form) for path in sorted(Path(folder).glob("*.json"))]
    return sorted(found, key=lambda result: (result["point"], result["settings"]["seed"]))


def summary(results: Iterable[dict[str, Any]], figures: Mapping[str, Sequence[str]] = FIGURES) -> list[Row]:
    """Return one row per point, in the order in which the points come first.

    The interval of the mean over n seeds is mean ± t·s/√n, with the sample's standard deviation s and the 97.5 %
    quantile t of Student's distribution with n − 1 degrees of freedom; it takes the seeds for independent draws
    from a normal distribution. A figure that not all results of a point have is left out. Where a point is a dense
    network, SOPs are also given as a share of its own. `figures` says where in the metrics each figure lies.

    Raises:
        MachineError: scikit-learn, which brings SciPy, is not installed.

    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(result["point"], []).append(result)
    rows = []
    for point, members in groups.items():
        values = {title: [_figure(member["metrics"], path) for member in members] for title, path in figures.items()}
        known = {title: estimate(sample) for title, sample in values.items() if None not in sample}
        rows.append(Row(point, tuple(sorted(member["settings"]["seed"] for member in members)), known))
    dense = next((row for row in rows if groups[row.point][0]["settings"].get("method") == "dense"), None)
    if dense is not None and "SOPs" in dense.figures and dense.figures["SOPs"].mean > 0:
        for row in rows:
            if "SOPs" in row.figures:
                row.figures[OF_DENSE] = Estimate(row.figures["SOPs"].mean / dense.figures["SOPs"].mean, None)
    return rows


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the heads of a table and the texts of its rows: point, the figures that any row has, seeds."""
    titles = [title for title in (*FIGURES, OF_DENSE) if any(title in row.figures for row in rows)]
    body = [
        [row.point, *(_shown(title, row.figures.get(title)) for title in titles), str(len(row.seeds))] for row in rows
    ]
    return ["point", *titles, "seeds"], body


def markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, with a note on what its intervals are.

    >>> print(markdown([Row("dense", (0,), {"test accuracy": Estimate(0.975, None)})]))
    | point | test accuracy | seeds |
    | --- | ---: | ---: |
    | dense | 97.50 % | 1 |
    """
    text = table(*cells(rows))
    return f"{text}\n\n{NOTE}" if any(len(row.seeds) > 1 for row in rows) else text


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, its first column to the left and all others to the right."""
    rows = ([safe(text).replace("|", "\\|") for text in line] for line in (head, *body))
    lines = [next(rows), ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figure(metrics: Any, path: Sequence[str]) -> Any:
    """Return the figure at a path into nested metrics, None where there is none."""
    for key in path:
        metrics = metrics.get(key) if isinstance(metrics, dict) else None
    return metrics


def estimate(values: Sequence[Any]) -> Estimate:
    """Return mean and half interval of a sample."""
    count = len(values)
    if count == 1:
        return Estimate(values[0], None)
    try:
        from scipy.special import stdtrit  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise MachineError(
            "intervals need scikit-learn, which brings SciPy; run pip install 'synaprune[train]'"
        ) from error
    quantile = float(stdtrit(count - 1, 0.975))
    return Estimate(statistics.fmean(values), quantile * statistics.stdev(values) / math.sqrt(count))


def _shown(title: str, estimate: Estimate | None) -> str:
    """Return an estimate as a table shows it: shares in percent, counts as whole numbers."""
    if estimate is None:
        return ""
    share = title != "SOPs"
    mean, half = estimate.mean, estimate.half
    text = f"{100 * mean:.2f} %" if share else f"{mean:,.0f}"
    return text if half is None else f"{text} ± " + (f"{100 * half:.2f}" if share else f"{half:,.0f}")
