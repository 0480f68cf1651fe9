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

from synaprune.terminal import cell
from synaprune.train.epoch import Progress

__all__ = ["Display", "accuracy", "measures", "show", "table"]


# Column of the table, and its key among the operations of a layer.
OPERATIONS = {"ACs": "effective_acs", "MACs": "effective_macs"}


class _Bar(OneLine):
    """A bar with the figures in a second line, so that both fit into 80 columns."""

    figures = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield Text(self.figures)


class Display:
    """A `report` for `train`: one live bar in a terminal that can move its cursor, one line per epoch elsewhere."""

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
            disable=not console.is_interactive,
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
        if not self._console.is_interactive:
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


def measures(metrics: dict[str, Any]) -> list[str]:
    """Return in words what `synaprune.train.loop.evaluate` measures beyond the table."""
    total, energy, three = (metrics[key] for key in ("operations", "energy", "connectivities"))
    count = total["total"]
    lines = [
        f"synaptic operations per image: {count['effective_acs']:,.0f} additions by spikes (SOPs), "
        f"{count['effective_macs']:,.0f} products with analog input; were no weight zero, "
        f"{count['weight_blind_acs']:,.0f} and {count['weight_blind_macs']:,.0f}",
        f"energy per image: {energy['total_pj'] / 1e3:,.2f} nJ by the costs of {energy['table']['name']} arithmetic, "
        "memory not counted",
        f"connectivity: {three['weights']:.4%} of the weights, {three['parameters']:.4%} over all parameters, "
        f"{three['connections']:.4%} of the real connections",
    ]
    return lines + [f"not counted: {name} ({reason})" for name, reason in total["unknown"]]


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
    operations = metrics.get("operations")
    if operations:
        for title, key in OPERATIONS.items():
            grid.add_column(title, f"{operations['total'][key]:,.0f}", justify="right")
    for (name, layer), driven_neurons in zip(layers.items(), driven):
        row: list[RenderableType] = [
            cell(name.removesuffix(".weight")),
            f"{layer['synapses']:,}",
            f"{layer['left']:,}",
            f"{layer['connectivity']:.2%}",
        ]
        if activity:
            row += (
                ["", ""]
                if driven_neurons is None
                else [
                    f"{driven_neurons['rate']:.4f}",
                    f"{driven_neurons['silent']:,} of {driven_neurons['neurons']:,}",
                ]
            )
        if operations and name in operations["layers"]:
            row += [f"{operations['layers'][name][key]:,.0f}" for key in OPERATIONS.values()]
        grid.add_row(*row)
    return grid
