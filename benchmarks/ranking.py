"""Rank methods by accuracy, budget by budget, from the records of sweeps.

    python benchmarks/ranking.py RESULTS [RESULTS ...] [--figure ranking.svg]
    python benchmarks/ranking.py RESULTS [RESULTS ...] --rates

Prints Markdown: one row per method, in the order of its mean rank over all budgets, one column per connectivity that
all of them were asked for. A cell is the mean accuracy in percent over the seeds ± half of its 95 % interval (Student
t): test accuracy, or validation accuracy where images were held out. Where a method was tried with several learning
rates, the best one counts and stands behind. The best cell of a column is bold, and so are those that are not shown
to be worse: the 95 % interval of their difference from the best (Welch) holds 0. A method that keeps no exact number,
soft Deep R, is left out.

The figure has a panel for every method, all with the curves of the others behind: errors over connectivity, by budget
(filled marks, with intervals) and by strength or on average (hollow marks).

With `--rates` it prints what every method and budget gave at each learning rate instead.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.stats import ttest_ind  # type: ignore[import-untyped]

from synaprune.catalogue import named
from synaprune.errors import MachineError, UsageError
from synaprune.files import replacing
from synaprune.report.figures import BLUE, MUTED, ORANGE, STYLE
from synaprune.report.names import along
from synaprune.schema import TEXT, Maybe, Number
from synaprune.schema import Record as Form
from synaprune.train import results

Record = dict[str, Any]
SETTINGS = {"method": TEXT, "lr": Number(), "holdout": Number(0), "sparsity": Maybe(Number(0, 1))}
FORM = Form({"settings": Form(SETTINGS), "metrics": Form({"connectivity": Number(0, 1)})})
OTHERS = "#cfd5dc"


class Cell(NamedTuple):
    """What one method gives at one budget: accuracies over the seeds, and the learning rate if it was chosen."""

    accuracies: list[float]
    rate: float | None

    @property
    def mean(self) -> float:
        """The mean accuracy over the seeds."""
        return statistics.fmean(self.accuracies)

    def is_worse_than(self, best: Cell) -> bool:
        """Tell whether the difference is proved, at a level of 95 %."""
        if min(len(self.accuracies), len(best.accuracies)) < 2:
            return self.mean < best.mean
        return bool(ttest_ind(best.accuracies, self.accuracies, equal_var=False).confidence_interval().low > 0.0)

    def shown(self, bold: bool) -> str:
        """Return the cell as the table shows it."""
        half = results.estimate(self.accuracies).half
        text = f"{100 * self.mean:.2f}" + ("" if half is None else f" ± {100 * half:.2f}")
        return (f"**{text}**" if bold else text) + ("" if self.rate is None else f" ({self.rate:g})")


def cells(records: list[Record]) -> dict[str, dict[float, Cell]]:
    """Return the cells of all methods that met the sparsity they were asked for, by method and sparsity."""
    found: dict[str, dict[float, dict[float, list[float]]]] = {}
    for record in records:
        settings = record["settings"]
        asked = settings["sparsity"]
        if isinstance(asked, float) and abs(record["metrics"]["connectivity"] - (1.0 - asked)) < 1e-4:
            rates = found.setdefault(settings["method"], {}).setdefault(asked, {})
            rates.setdefault(settings["lr"], []).append(accuracy(record))
    if not found:
        raise UsageError("no result there was asked for a sparsity and met it; name a folder of a sweep over budgets")
    return {method: {sparsity: best(rates) for sparsity, rates in budgets.items()} for method, budgets in found.items()}


def accuracy(record: Record) -> float:
    """Return the accuracy of a record: on held-out images where there are some."""
    part = "validation_accuracy" if record["settings"]["holdout"] else "test_accuracy"
    if part not in record["metrics"]:
        raise UsageError(f"the result of '{record['point']}' holds no {part}; {results.REMEDY}")
    return float(record["metrics"][part])


def best(rates: dict[float, list[float]]) -> Cell:
    """Return the cell of the learning rate with the highest mean accuracy."""
    rate = max(rates, key=lambda rate: statistics.fmean(rates[rate]))
    return Cell(rates[rate], rate if len(rates) > 1 else None)


def ranking(found: dict[str, dict[float, Cell]]) -> str:
    """Return the ranking as Markdown."""
    budgets = sorted(set.intersection(*(set(row) for row in found.values())))
    ranks = defaultdict[str, list[int]](list)
    bold = set()
    for budget in budgets:
        order = sorted(found, key=lambda method: -found[method][budget].mean)
        for rank, method in enumerate(order, start=1):
            ranks[method].append(rank)
            if not found[method][budget].is_worse_than(found[order[0]][budget]):
                bold.add((method, budget))
    body = [
        [
            named(method),
            *(found[method][budget].shown((method, budget) in bold) for budget in budgets),
            f"{statistics.fmean(ranks[method]):.4g}",
        ]
        for method in sorted(found, key=lambda method: statistics.fmean(ranks[method]))
    ]
    return results.table(["method", *(f"{100 * (1 - budget):.4g} %" for budget in budgets), "mean rank"], body)


def rates(records: list[Record]) -> str:
    """Return accuracies by method, connectivity and learning rate as Markdown, the best rate of each row bold."""
    rows: dict[tuple[str, str], dict[float, list[float]]] = {}
    for record in records:
        settings, connectivity = record["settings"], f"{100 * record['metrics']['connectivity']:.2f} %"
        row = rows.setdefault((named(settings["method"]), connectivity), defaultdict(list))
        row[settings["lr"]].append(accuracy(record))
    columns = sorted({rate for row in rows.values() for rate in row})
    body = []
    for names, row in rows.items():
        means = {rate: statistics.fmean(accuracies) for rate, accuracies in row.items()}
        shown = {rate: f"{100 * mean:.2f}" for rate, mean in means.items()}
        top = max(means, key=lambda rate: means[rate])
        body.append([*names, *(f"**{shown[rate]}**" if rate == top else shown.get(rate, "") for rate in columns)])
    return results.table(["method", "connectivity", *(f"{rate:g}" for rate in columns)], body)


def draw(records: list[Record], path: Path) -> None:
    """Draw a panel for every method but the dense network, whose mean is a line in all of them."""
    dense = [accuracy(record) for record in records if record["settings"]["method"] == "dense"]
    methods = sorted({record["settings"]["method"] for record in records} - {"dense"}, key=named)
    lines = {(method, exact): line(records, method, exact) for method in methods for exact in (True, False)}
    with mpl.rc_context({**STYLE, "svg.hashsalt": "synaprune"}):  # the same file again from the same results
        rows = -(-len(methods) // 4)
        figure = Figure(figsize=(11, 2.7 * rows), dpi=144, layout="constrained")
        panels = list(figure.subplots(rows, 4, sharex=True, sharey=True, squeeze=False).flat)
        for axes, method in zip(panels, methods):
            axes.set_title(named(method), fontsize=11)
            if dense:
                axes.axhline(1 - statistics.fmean(dense), color=MUTED, linewidth=1, linestyle="--")
            for (other, exact), (x, y, half) in lines.items():
                if other != method and exact:
                    axes.plot(x, y, color=OTHERS, linewidth=1, zorder=1)
                elif other == method and x:
                    colour, face = (BLUE, BLUE) if exact else (ORANGE, "white")
                    marks = {"color": colour, "markerfacecolor": face, "marker": "o", "markersize": 5}
                    axes.errorbar(x, y, yerr=half, capsize=2, linewidth=1.5, **marks)
            scale(axes)
        for axes in panels[len(methods) :]:
            axes.remove()
        figure.supxlabel("connectivity", fontsize=10)
        figure.supylabel("errors", fontsize=10)
        with replacing(path) as file:
            metadata = {"Date": None} if path.suffix == ".svg" else {}
            figure.savefig(file, format=path.suffix[1:], facecolor="white", metadata=metadata)


def line(records: list[Record], method: str, exact: bool) -> tuple[list[float], list[float], list[float]]:
    """Return mean connectivities, mean errors and half their intervals over the seeds, by budget or by strength."""
    points = defaultdict[Any, list[Record]](list)
    for record in records:
        settings = record["settings"]
        strength = settings.get(along(settings)[0])
        if settings["method"] == method and exact == (strength in (None, "auto") and method != "soft_deep_r"):
            points[strength, settings["sparsity"]].append(record)
    found = []
    for members in points.values():
        estimate = results.estimate([1 - accuracy(record) for record in members])
        x = statistics.fmean(record["metrics"]["connectivity"] for record in members)
        found.append((x, estimate.mean, estimate.half or 0.0))
    x, y, half = map(list, zip(*sorted(found))) if found else ([], [], [])
    return x, y, half


def scale(axes: Axes) -> None:
    """Give both axes logarithms and percents."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, subs in ((axes.xaxis, (1, 3)), (axes.yaxis, (1, 2, 5))):
        axis.set_major_locator(LogLocator(subs=subs))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        axis.set_minor_formatter(NullFormatter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", metavar="RESULTS", help="folders of records")
    parser.add_argument("--figure", type=Path, help="draw the curves of all methods here too")
    parser.add_argument("--rates", action="store_true", help="print accuracies by learning rate instead of the ranking")
    args = parser.parse_args()
    if args.figure and args.figure.suffix not in (".png", ".svg"):
        parser.error(f"--figure must end in .png or .svg, not '{args.figure}'")
    try:
        records = [record for folder in args.folders for record in results.read(folder, FORM)]
        print(rates(records) if args.rates else ranking(cells(records)))
        if args.figure:
            draw(records, args.figure)
    except (UsageError, MachineError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
