"""Train a network by settings, into a folder from which it can go on; and evaluate what a folder holds."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from synaprune.errors import UsageError
from synaprune.files import full_disk_named
from synaprune.measure import OperationCounter, connectivities, energy
from synaprune.optim.rewirer import Rewirer
from synaprune.train import build, checkpoint, schedule
from synaprune.train.board import Board
from synaprune.train.epoch import Progress, Report, evaluate_network, topology, train_epoch
from synaprune.train.run import Run, versions
from synaprune.train.settings import Settings

__all__ = ["evaluate", "train"]


def train(
    settings: Settings,
    folder: str | os.PathLike[str],
    *,
    data_dir: str | Path | None = None,
    resume: bool = False,
    command: Sequence[str] = (),
    report: Report | None = None,
) -> dict[str, Any]:
    """Train for `settings.epochs` epochs and return the metrics of the last one.

    What the folder gets is listed in `synaprune.train.run`. A run that ended early, by whatever cause, is
    continued with `resume`: on the CPU, with the same number of threads, its weights end bit for bit as if it had
    never been interrupted.

    Args:
        settings: what to train, and how.
        folder: where the run lives; made if absent.
        data_dir: where the data files lie; see `synaprune.data.load`.
        resume: continue the run in `folder` after its last finished epoch.
        command: the command line, for the record in `settings.json`.
        report: called with a `Progress` a few times per second and after each epoch.

    Raises:
        UsageError: the settings cannot be served; the folder holds a run already, or none to resume, or one with
            other settings or damaged files; another process trains into it.
        NonFiniteGradientError: a gradient is NaN or infinite; the previous checkpoint stays.
        MachineError: the disk or the memory is full, or the data cannot be had; the previous checkpoint stays.

    """
    run = Run(folder)
    if not resume:
        run.refuse_if_taken()
    elif not run.settings_path.exists():
        raise UsageError(
            f"'{run.folder}' holds no run to resume; leave out --resume to start one, or name its folder with --out"
        )
    else:
        _refuse_other_settings(settings, run.settings(), run.folder)
    device = build.device(settings)
    with contextlib.ExitStack() as stack:
        stack.enter_context(build.environment(settings, device))
        data = build.dataset(settings, data_dir, device)
        network = build.model(settings, data)
        steps = schedule.steps_per_epoch(settings, len(data.train_labels))
        optimizer = build.optimizer(settings, network, settings.epochs * steps)
        forward = torch.compile(network, dynamic=False) if settings.compile else network
        # From here on the folder is ours; what cannot work was refused before it was made.
        stack.enter_context(run.locked())
        if resume:
            finished = _restore(settings, run, network, optimizer)
        else:
            run.create(settings, command)
            finished = 0
        metrics = (run.cut(finished) or [{}])[-1]
        optimizer.turnover()  # counts from here
        with full_disk_named(run.folder), Board(run.tensorboard_path, finished) as board:
            for epoch in range(finished + 1, settings.epochs + 1):
                started = time.monotonic()
                metrics = {"epoch": epoch}
                metrics |= train_epoch(settings, data, network, forward, optimizer, epoch, report)
                optimizer.settle()
                metrics |= evaluate_network(settings, data, network)
                metrics |= topology(network, optimizer)
                metrics["seconds"] = time.monotonic() - started
                board.write(metrics, network, optimizer)
                # Metrics first: a line too many is cut on resume, a line too few could not be made up.
                run.append(metrics)
                state = {"epoch": epoch, "settings": settings.to_mapping(), "versions": versions()}
                state |= {"model": network.state_dict(), "optimizer": optimizer.state_dict()}
                checkpoint.save(state, run.checkpoint_path)
                if report is not None:
                    means = metrics["loss"], metrics["train_accuracy"], metrics["connectivity"]
                    report(Progress(epoch, settings.epochs, steps, steps, *means, metrics))
    return metrics


def evaluate(
    folder: str | os.PathLike[str],
    *,
    data_dir: str | Path | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Return the figures of a run's checkpoint, measured anew: accuracy, layers, neurons, epoch.

    Beyond those of a training epoch: `operations` and `energy` per image, and `connectivities`, connectivity in all
    three definitions.

    Raises:
        UsageError: the folder holds no run, no checkpoint, or a damaged one.
        MachineError: the memory is full, or the data cannot be had.

    """
    run = Run(folder)
    path, state = run.checkpoint_path, run.state()
    settings = Settings.from_mapping(state["settings"], source=f"'{path}'")
    if device is not None:
        settings = dataclasses.replace(settings, device=device)
    where = build.device(settings)
    with build.environment(settings, where):
        data = build.dataset(settings, data_dir, where)
        network = build.model(settings, data)
        checkpoint.check_model(network, state["model"], path)
        network.load_state_dict(state["model"])
        with OperationCounter(network) as counter:
            figures = {"epoch": state["epoch"], **evaluate_network(settings, data, network), **topology(network)}
        counted = counter.result(len(data.test_labels))
        figures["operations"], figures["energy"] = counted.to_mapping(), energy(counted).to_mapping()
        figures["connectivities"] = connectivities(network, data.test_images[:1].float())._asdict()
        return figures


def _restore(settings: Settings, run: Run, network: nn.Module, optimizer: Rewirer) -> int:
    """Load the checkpoint of a run and return its epoch, 0 for a run that ended before its first checkpoint."""
    path, lines = run.checkpoint_path, len(run.metrics())
    if not path.exists() and lines <= 1:
        return 0
    if not path.exists():
        raise UsageError(f"'{path}' is missing after {lines} epochs; restore it, or train anew in another folder")
    state = run.state()
    _refuse_other_settings(settings, Settings.from_mapping(state["settings"], source=f"'{path}'"), path)
    if not 1 <= state["epoch"] <= settings.epochs:
        raise UsageError(f"'{path}' is of epoch {state['epoch']} of {settings.epochs}; {checkpoint.REMEDY}")
    checkpoint.check_model(network, state["model"], path)
    network.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["epoch"]


def _refuse_other_settings(settings: Settings, before: Settings, source: Path) -> None:
    """Check that a run is resumed with the settings it began with."""
    name = settings.difference(before)
    if name is not None:
        old, new = getattr(before, name), getattr(settings, name)
        raise UsageError(
            f"'{source}' was trained with {name} = {old}, not {new}; resume it with the same settings,"
            " or give another folder with --out"
        )
