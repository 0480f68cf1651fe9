"""What the command line shows of a sweep: a live table of its points, and their means when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from synaprune.terminal import cell
from synaprune.train import results
from synaprune.train.display import accuracy
from synaprune.train.sweep_run import State

__all__ = ["SweepDisplay", "listing", "means", "where"]

# Which points stay in sight where the terminal is too low for all.
RANK = {"running": 0, "failed": 1, "done": 2, "waiting": 3}
FRAME = 6  # lines of the live table around its rows
COLOURS = {"running": "cyan", "failed": "red", "done": "green"}


class SweepDisplay:
    """A `report` for `sweep_run.run`: a live table in a terminal, one line per finished point elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: set[str] = set()
        self._states: Sequence[State] = ()
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> SweepDisplay:
        if self._console.is_interactive:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, states: Sequence[State]) -> None:
        """Show where the points stand."""
        if self._console.is_interactive:
            self._live.update(listing(states, self._console.height - FRAME), refresh=True)
            return
        finished = [state for state in states if state.state in ("done", "failed")]
        if not self._states and finished:
            self._print(f"{len(finished)} of {len(states)} points were done before")
            self._shown = {state.point.name for state in finished}
        for state in finished:
            if state.point.name not in self._shown:
                self._print(_line(state))
                self._shown.add(state.point.name)
        self._states = states

    def _print(self, text: str) -> None:
        self._console.print(cell(text), soft_wrap=True)


def listing(states: Sequence[State], height: int | None = None) -> Table:
    """Return one row per point; in a lower `height` those that run, failed, are done last and wait next."""
    chosen = list(range(len(states)))
    if height is not None and len(states) > max(height, 1):
        # Of the points done the last ones tell most, of those that wait the first.
        order = sorted(chosen, key=lambda i: (RANK[states[i].state], -i if states[i].state == "done" else i))
        chosen = sorted(order[: max(height, 1)])
    counts = {name: sum(state.state == name for state in states) for name in ("done", "running", "failed")}
    sums = ", ".join(f"{count} {name}" for name, count in counts.items() if count or name == "done")
    grid = Table(box=box.SIMPLE, caption=f"{sums} of {len(states)} points", caption_justify="left")
    for title in ("point", "state", "accuracy", "connectivity", "seconds"):
        # In a narrow terminal names are cut, figures never.
        name = title == "point"
        justify: Any = "left" if title in ("point", "state") else "right"
        grid.add_column(title, justify=justify, no_wrap=not name, overflow="ellipsis")
    for state in (states[i] for i in chosen):
        grid.add_row(cell(state.point.name), *_cells(state), style=COLOURS.get(state.state))
    return grid


def means(rows: Sequence[results.Row], title: str) -> Table:
    """Return the table of means over the seeds."""
    head, body = results.cells(rows)
    several = any(len(row.seeds) > 1 for row in rows)
    grid = Table(box=box.SIMPLE, title=cell(title), title_justify="left", caption=results.NOTE if several else None)
    grid.caption_justify = "left"
    for name in head:
        grid.add_column(name, justify="left" if name == "point" else "right")
    for row in body:
        grid.add_row(*map(cell, row))
    return grid


def where(state: State) -> str:
    """Say where a point stands."""
    epoch = state.metrics["epoch"] if state.metrics else 0
    at = f"epoch {epoch}/{state.point.settings.epochs}"
    if state.state == "running":
        return at
    return f"waiting at {at}" if state.state == "waiting" and epoch else state.state


def _line(state: State) -> str:
    """Return what is said of a finished point; why one failed is said at the very end."""
    if state.state == "failed" or state.metrics is None:
        return f"{state.point.name}  {state.state}"
    part, value = accuracy(state.metrics)
    figures = f"{part} {value:.2%}  connectivity {state.metrics['connectivity']:.2%}  {state.seconds:.1f} s"
    return f"{state.point.name}  {figures}"


def _cells(state: State) -> list[str]:
    """Return state, accuracy, connectivity and seconds of a point."""
    if state.metrics is None:
        return [where(state), "", "", ""]
    connectivity = state.metrics["connectivity"]
    return [where(state), f"{accuracy(state.metrics)[1]:.2%}", f"{connectivity:.2%}", f"{state.seconds:.1f}"]
