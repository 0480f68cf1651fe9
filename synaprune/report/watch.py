"""A running training in the terminal: sparklines of its figures, and the table of its layers."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from synaprune.report.course import Course
from synaprune.report.figure import percent
from synaprune.report.names import method_name, part_of
from synaprune.terminal import cell
from synaprune.train.display import table
from synaprune.train.run import Run

__all__ = ["snapshot", "sparkline", "stamp", "watch"]

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 40  # of a sparkline: the rest of 80 columns is for names and figures
POLL_SECONDS = 0.5


def watch(run: Run, console: Console) -> None:
    """Show a run until its last epoch is finished; where no terminal can be written anew, show once where it stands.

    Raises:
        UsageError: the folder holds no run, or a damaged one.

    """
    settings = run.settings().to_mapping()
    course = Course(run)
    course.follow()
    if not console.is_interactive:
        console.print(snapshot(course, settings, console.width))
        return
    with Live(snapshot(course, settings, console.width), console=console, auto_refresh=False) as live:
        while course.finished < settings["epochs"]:
            time.sleep(POLL_SECONDS)
            course.follow()
            live.update(snapshot(course, settings, console.width), refresh=True)


def snapshot(course: Course, settings: dict[str, Any], width: int) -> RenderableType:
    """Return where a run stands."""
    epochs = course.epochs
    head = f"{settings['task']}, {method_name(settings)}, seed {settings['seed']}: "
    head += f"epoch {course.finished} of {settings['epochs']}"
    if not epochs:
        return cell(f"{head}; no epoch is finished yet")
    if course.finished < settings["epochs"]:
        left = course.seconds / course.finished * (settings["epochs"] - course.finished)
        head += f", {_duration(_age(course.run))} after the last one, about {_duration(left)} to go"
    part = part_of(epochs[-1])
    series = {
        "loss": [epoch.get("loss") for epoch in epochs],
        "training accuracy": [epoch.get("train_accuracy") for epoch in epochs],
        f"{part} accuracy": [epoch.get(f"{part}_accuracy") for epoch in epochs],
        "connectivity": [epoch["connectivity"] for epoch in epochs],
        "pruned": [epoch.get("pruned") for epoch in epochs],
        "regrown": [epoch.get("regrown") for epoch in epochs],
    }
    lines = Table.grid(padding=(0, 2))
    for name, values in series.items():
        known = [value for value in values if value is not None and math.isfinite(value)]
        if known:
            lines.add_row(name, sparkline(known, min(WIDTH, max(8, width - 40))), _shown(name, known[-1]))
    return Group(cell(head), "", lines, table({"neurons": {}, **epochs[-1]}, activity=width >= 80))


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """Return values as blocks from the lowest to the highest, of more values than `width` the means of neighbours.

    >>> sparkline([1, 2, 3, 8]), sparkline([5, 5]), sparkline([0, 0, 7, 7], width=2)
    ('▁▂▃█', '▁▁', '▁█')
    """
    if len(values) > width:
        edges = [round(index * len(values) / width) for index in range(width + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(values), max(values)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] for value in values)


def stamp(run: Run) -> str:
    """Return a word that changes when there is something new to show."""
    found = []
    for path in (run.metrics_path, run.evaluation_path):
        try:
            found.append(f"{path.stat().st_mtime_ns:x}-{path.stat().st_size:x}")
        except OSError:
            found.append("")
    return "-".join(found)


def _age(run: Run) -> float:
    try:
        return max(0.0, time.time() - run.metrics_path.stat().st_mtime)
    except OSError:
        return 0.0


def _duration(seconds: float) -> str:
    """Return a duration with the digits that count.

    >>> _duration(7.4), _duration(150), _duration(9000)
    ('7 s', '2 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _shown(name: str, value: float) -> str:
    if name == "loss":
        return f"{value:.4f}"
    return f"{value:,.0f}" if name in ("pruned", "regrown") else percent(value)
