"""The figure of one run: how accuracy, connectivity and turnover went over the epochs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from synaprune.errors import MachineError, UsageError
from synaprune.files import replacing
from synaprune.report.names import method_name, part_of
from synaprune.terminal import safe
from synaprune.train.run import Run

__all__ = ["training_figure"]

INK, MUTED, GRID = "#1d2733", "#7b8794", "#e6e9ed"
BLUE, ORANGE, GREEN, RED = "#2166ac", "#e08214", "#1b9e77", "#c0392b"
LAYERS = ("#92c5de", "#b8a9d9", "#a6d8b9", "#f4c58f", "#e6a9b8", "#c9c9a1", "#9fb8c8", "#d3b8a0")
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 2,
    "legend.frameon": False,
    "text.parse_math": False,  # names of layers may hold dollars
}


def training_figure(folder: str | os.PathLike[str]) -> Path:
    """Draw accuracy, connectivity and turnover over the epochs into `training.png` in the run's folder.

    Raises:
        UsageError: the folder holds no run, or no epoch of it is finished.
        MachineError: the figure cannot be written; a previous one stays.

    """
    run = Run(folder)
    settings, epochs = run.settings(), run.epochs()
    if not epochs:
        raise UsageError(f"'{run.folder}' has no finished epoch to draw")
    last = epochs[-1]
    part = part_of(last)
    path = run.folder / "training.png"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 8.5), dpi=144, layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1))
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
        figure.suptitle(
            f"{settings.task}, {method_name(settings.to_mapping())}: {last[f'{part}_accuracy']:.2%} {part} accuracy"
            f" at {last['connectivity']:.2%} connectivity",
            fontsize=13,
            fontweight="bold",
        )
        _accuracy(top, epochs, part)
        _connectivity(middle, epochs)
        _turnover(bottom, epochs)
        bottom.set_xlabel("epoch")
        bottom.set_xlim(1 - 0.02 * len(epochs), len(epochs) * 1.02)
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        try:
            with replacing(path, remedy="the run itself is saved") as file:
                figure.savefig(file, format="png", facecolor="white")
        except MachineError:
            raise
        except OSError as error:
            raise MachineError(
                f"the figure '{path}' cannot be written ({error.strerror}); the run itself is saved"
            ) from error
    return path


def _accuracy(axes: Axes, epochs: list[dict[str, Any]], part: str) -> None:
    """Draw training and test accuracy; early epochs that would flatten the rest may leave the picture."""
    x = [line["epoch"] for line in epochs]
    train, test = ([line.get(f"{name}_accuracy", float("nan")) for line in epochs] for name in ("train", part))
    axes.plot(x, train, color=ORANGE, label="training", linewidth=1.5)
    axes.plot(x, test, color=BLUE, label=part)
    axes.plot(x[-1:], test[-1:], "o", color=BLUE, clip_on=False)
    settled = sorted(train + test)[len(train) // 5]
    axes.set_ylim(settled - 0.15 * (1.0 - settled) - 1e-3, 1.0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_ylabel("accuracy")
    axes.legend(loc="lower right")


def _connectivity(axes: Axes, epochs: list[dict[str, Any]]) -> None:
    """Draw the share of synapses that exist, in all and per layer, on a logarithmic axis."""
    x = [line["epoch"] for line in epochs]
    for index, name in enumerate(epochs[-1]["layers"]):
        y = [line["layers"].get(name, {}).get("connectivity") or float("nan") for line in epochs]
        axes.plot(x, y, color=LAYERS[index % len(LAYERS)], linewidth=1.5, label=safe(name))
    total = [line["connectivity"] or float("nan") for line in epochs]
    axes.plot(x, total, color=BLUE, label="all")
    axes.plot(x[-1:], total[-1:], "o", color=BLUE, clip_on=False)
    if any(line["connectivity"] > 0 for line in epochs):  # Matplotlib has no logarithmic axis for nothing
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(top=1.1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_ylabel("connectivity")
    axes.legend(loc="upper right", ncols=2 if len(epochs[-1]["layers"]) > 3 else 1)


def _turnover(axes: Axes, epochs: list[dict[str, Any]]) -> None:
    """Draw the synapses that came and went in each epoch."""
    x = [line["epoch"] for line in epochs]
    for key, colour in (("pruned", RED), ("regrown", GREEN)):
        y = [line[key] for line in epochs]
        axes.plot(x, y, color=colour, label=key)
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylabel("synapses per epoch")
    axes.legend(loc="upper right")
