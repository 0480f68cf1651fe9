"""Rank methods by accuracy, budget by budget, from the records of sweeps.

usage: python benchmarks/ranking.py RESULTS [RESULTS ...]

Prints Markdown: one row per method, in the order of its mean rank over all budgets, one column per connectivity that
all of them were asked for. A cell is the mean accuracy in percent over the seeds ± half of its 95 % interval (Student
t): test accuracy, or validation accuracy where images were held out. Where a method was tried with several learning
rates, the best one counts and stands behind. The best cell of a column is bold, and so are those that are not shown
to be worse: the 95 % interval of their difference from the best (Welch) holds 0. A method that keeps no exact number,
soft Deep R, is left out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any, NamedTuple

from scipy.stats import ttest_ind  # type: ignore[import-untyped]

from synaprune.train import results


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


def cells(records: list[dict[str, Any]]) -> dict[str, dict[float, Cell]]:
    """Return the cells of all methods that were asked for a sparsity, by method and sparsity."""
    found: dict[str, dict[float, dict[float, list[float]]]] = {}
    for record in records:
        settings, metrics = record["settings"], record["metrics"]
        asked = settings["sparsity"]
        if isinstance(asked, float) and abs(metrics["connectivity"] - (1.0 - asked)) < 1e-4:
            rates = found.setdefault(settings["method"], {}).setdefault(asked, {})
            accuracy = metrics["validation_accuracy" if settings["holdout"] else "test_accuracy"]
            rates.setdefault(settings["lr"], []).append(accuracy)
    return {method: {sparsity: best(rates) for sparsity, rates in budgets.items()} for method, budgets in found.items()}


def best(rates: dict[float, list[float]]) -> Cell:
    """Return the cell of the learning rate with the highest mean accuracy."""
    rate = max(rates, key=lambda rate: statistics.fmean(rates[rate]))
    return Cell(rates[rate], rate if len(rates) > 1 else None)


def table(found: dict[str, dict[float, Cell]]) -> str:
    """Return the ranking as Markdown."""
    budgets = sorted(set.intersection(*(set(row) for row in found.values())))
    ranks = {method: [] for method in found}  # type: dict[str, list[int]]
    bold = set()
    for budget in budgets:
        order = sorted(found, key=lambda method: -found[method][budget].mean)
        for method in order:
            ranks[method].append(order.index(method) + 1)
            if not found[method][budget].is_worse_than(found[order[0]][budget]):
                bold.add((method, budget))
    lines = [["method", *(f"{100 * (1 - budget):.4g} %" for budget in budgets), "mean rank"]]
    lines.append(["---", *["---:"] * (len(budgets) + 1)])
    for method in sorted(found, key=lambda method: statistics.fmean(ranks[method])):
        row = [found[method][budget].shown((method, budget) in bold) for budget in budgets]
        lines.append([method, *row, f"{statistics.fmean(ranks[method]):.4g}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", metavar="RESULTS", help="folders of records")
    found = cells([record for folder in parser.parse_args().folders for record in results.read(folder)])
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
