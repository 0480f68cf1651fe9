"""What the command line shows: a live bar while a run trains, and a table when it is done."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as OneLine
from rich.table import Table
from rich.text import Text

from synaprune.train.epoch import Progress

__all__ = ["Display", "accuracy", "show", "table"]


class _Bar(OneLine):
    """A bar with the figures in a second line, so that both fit into 80 columns."""

    figures = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield Text(self.figures)


class Display:
    """A `report` for `train`: one live bar in a terminal, one line per epoch elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._task: TaskID | None = None
        self._tested = ""
        self._bar = _Bar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=20),
            TextColumn("step {task.fields[step]}"),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=4,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Show where the run is."""
        epoch = f"{progress.epoch}/{progress.epochs}"
        figures = f"loss {progress.loss:.4f}  train {progress.accuracy:.2%}"
        if progress.metrics is not None:
            part, value = accuracy(progress.metrics)
            self._tested = f"  {part} {value:.2%}"
        figures += f"{self._tested}  connectivity {progress.connectivity:.2%}"
        if not self._console.is_terminal:
            if progress.metrics is not None:
                seconds = progress.metrics["seconds"]
                self._console.print(f"epoch {epoch}  {figures}  {seconds:.1f} s", soft_wrap=True, highlight=False)
            return
        done = (progress.epoch - 1) * progress.steps + progress.step
        fields: dict[str, Any] = {"epoch": epoch, "step": f"{progress.step}/{progress.steps}"}
        self._bar.figures = figures
        if self._task is None:  # a resumed run's bar must not take its first epochs for done in no time
            total = progress.epochs * progress.steps
            self._task = self._bar.add_task("", total=total, completed=done, **fields)
        else:
            self._bar.update(self._task, completed=done, **fields)


def accuracy(metrics: dict[str, Any]) -> tuple[str, float]:
    """Return which part of the data the accuracy is of, `test` or `validation`, and its value."""
    part = "validation" if "validation_accuracy" in metrics else "test"
    return part, metrics[f"{part}_accuracy"]


def show(metrics: dict[str, Any], console: Console) -> None:
    """Print the table, without the neurons where all of it would not fit."""
    whole = table(metrics)
    endless = console.options.update(max_width=10_000)
    fits = console.measure(whole, options=endless).maximum <= console.width
    console.print(whole if fits else table(metrics, activity=False))


def table(metrics: dict[str, Any], activity: bool = True) -> Table:
    """Return one row per layer of synapses, with the neurons that it drives and how many are silent, and sums."""
    layers, neurons = metrics["layers"], metrics["neurons"]
    # Both are in the order of the network; in its networks each layer of synapses drives one of neurons.
    driven = list(neurons.values()) if len(neurons) == len(layers) else [None] * len(layers)
    grid = Table(show_footer=True, box=box.SIMPLE)
    total, left = (sum(layer[key] for layer in layers.values()) for key in ("synapses", "left"))
    grid.add_column("layer", "all")
    grid.add_column("synapses", f"{total:,}", justify="right")
    grid.add_column("left", f"{left:,}", justify="right")
    grid.add_column("connectivity", f"{left / total:.2%}", justify="right")
    if activity:
        grid.add_column("firing rate", justify="right")
        grid.add_column("silent", justify="right")
    for (name, layer), driven_neurons in zip(layers.items(), driven):
        row = [
            name.removesuffix(".weight"),
            f"{layer['synapses']:,}",
            f"{layer['left']:,}",
            f"{layer['connectivity']:.2%}",
        ]
        if activity and driven_neurons is not None:
            row.append(f"{driven_neurons['rate']:.4f}")
            row.append(f"{driven_neurons['silent']:,} of {driven_neurons['neurons']:,}")
        grid.add_row(*row)
    return grid
