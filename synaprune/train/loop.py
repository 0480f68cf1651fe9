"""Train a network by settings, into a folder from which it can go on; and evaluate what a folder holds."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from synaprune.data import Dataset
from synaprune.errors import UsageError
from synaprune.files import full_disk_named
from synaprune.measure import OperationCounter, connectivities, energy
from synaprune.optim.rewirer import Rewirer
from synaprune.train import build, checkpoint, parallel, schedule
from synaprune.train.board import Board
from synaprune.train.descent import train_tail
from synaprune.train.epoch import Progress, Report, evaluate_network, topology, train_epoch
from synaprune.train.restoring import restore
from synaprune.train.run import Run
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

    Started by torchrun, the processes train together; see `synaprune.train.parallel`. The first alone touches the
    folder and reports.

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
    with contextlib.ExitStack() as stack:
        device = parallel.place(settings, build.device(settings))
        team = stack.enter_context(parallel.team(settings, device))
        resume = team.from_first(_admit, settings, run, resume)
        stack.enter_context(build.environment(settings, device))
        data, network, optimizer = team.first_before_others(_objects, settings, data_dir, device)
        replica = team.replica(network)
        forward = torch.compile(replica, dynamic=False) if settings.compile else replica
        # From here on the folder is ours; what cannot work was refused before it was made.
        stack.enter_context(full_disk_named(run.folder))
        team.from_first(lambda: stack.enter_context(run.locked()))
        state = team.from_first(_begin, settings, run, resume, command, network)
        if state["epoch"]:
            restore(network, optimizer, state, run.checkpoint_path)
        metrics: dict[str, Any] = state["metrics"]
        optimizer.turnover()  # counts from here
        board = stack.enter_context(Board(run.tensorboard_path, state["epoch"])) if team.first else None
        report = report if team.first else None
        train_tail(settings, state["epoch"], data, network, optimizer, run, team)
        for epoch in range(state["epoch"] + 1, settings.epochs + 1):
            started = time.monotonic()
            metrics = {"epoch": epoch}
            metrics |= train_epoch(settings, data, network, forward, optimizer, epoch, report, team)
            optimizer.settle() if epoch < settings.epochs else optimizer.finish()
            team.check(network, optimizer)
            metrics = team.from_first(_finish, settings, data, network, optimizer, run, board, metrics, started)
            if report is not None:
                means = metrics["loss"], metrics["train_accuracy"], metrics["connectivity"]
                steps = schedule.steps_per_epoch(settings, len(data.train_labels))
                report(Progress(epoch, settings.epochs, steps, steps, *means, metrics))
            train_tail(settings, epoch, data, network, optimizer, run, team)
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


def _admit(settings: Settings, run: Run, resume: bool) -> bool:
    """Return whether to continue the run in the folder; refuse a folder that does not fit what was asked for."""
    if not resume and run.settings_path.exists():
        resume = parallel.restarted(run.header())
    if not resume:
        run.refuse_if_taken()
    elif not run.settings_path.exists():
        raise UsageError(
            f"'{run.folder}' holds no run to resume; leave out --resume to start one, or name its folder with --out"
        )
    else:
        _refuse_other_settings(settings, run.settings(), run.folder)
    return resume


def _objects(
    settings: Settings, data_dir: str | Path | None, device: torch.device
) -> tuple[Dataset, nn.Module, Rewirer]:
    """Return what a run is made of, as new."""
    data = build.dataset(settings, data_dir, device)
    network = build.model(settings, data)
    steps = schedule.steps_per_epoch(settings, len(data.train_labels))
    return data, network, build.optimizer(settings, network, settings.epochs * steps)


def _begin(settings: Settings, run: Run, resume: bool, command: Sequence[str], network: nn.Module) -> dict[str, Any]:
    """Return the state to go on from, and the last metrics; epoch 0 for a new run, or one that ended in its first."""
    state: dict[str, Any] = {"epoch": 0}
    damage = None
    if resume:
        state, damage = _saved(settings, run, network)
    else:
        run.create(settings, command)
    metrics = (run.cut(state["epoch"]) or [{}])[-1]
    if damage is not None:
        kept = f"; the damaged one is kept as '{run.damaged_path.name}'" if run.checkpoint_path.exists() else ""
        run.go_back()
        warnings.warn(f"{damage.fault}: going on from the one before it, of epoch {state['epoch']}{kept}", stacklevel=1)
    return {**state, "metrics": metrics}


def _saved(settings: Settings, run: Run, network: nn.Module) -> tuple[dict[str, Any], checkpoint.DamagedError | None]:
    """Return the newest whole state of a run, epoch 0 if it ended in its first, and what is wrong with a newer one."""
    lines = len(run.epochs())
    if not run.checkpoint_path.exists() and not run.previous_path.exists():
        if lines <= 1:
            return {"epoch": 0}, None
        raise UsageError(
            f"'{run.checkpoint_path}' is missing after {lines} epochs; restore it, or train anew in another folder"
        )
    state, damage = run.newest_whole_state()
    path = run.checkpoint_path if damage is None else run.previous_path
    if not 1 <= state["epoch"] <= settings.epochs:
        raise UsageError(f"'{path}' is of epoch {state['epoch']} of {settings.epochs}; {checkpoint.REMEDY}")
    checkpoint.check_model(network, state["model"], path)
    return state, damage


def _finish(
    settings: Settings,
    data: Dataset,
    network: nn.Module,
    optimizer: Rewirer,
    run: Run,
    board: Board,
    metrics: dict[str, Any],
    started: float,
) -> dict[str, Any]:
    """Measure the network after an epoch, write everything down, and return the metrics."""
    metrics = {**metrics, **evaluate_network(settings, data, network), **topology(network, optimizer)}
    metrics["seconds"] = time.monotonic() - started
    board.write(metrics, network, optimizer)
    # Metrics first: a line too many is cut on resume, a line too few could not be made up.
    run.append(metrics)
    run.save(settings, metrics["epoch"], network, optimizer)
    return metrics


def _refuse_other_settings(settings: Settings, before: Settings, source: Path) -> None:
    """Check that a run is resumed with the settings it began with."""
    name = settings.difference(before)
    if name is not None:
        old, new = getattr(before, name), getattr(settings, name)
        raise UsageError(
            f"'{source}' was trained with {name} = {old!s:.60}, not {new!s:.60}; resume it with the same settings,"
            " or give another folder with --out"
        )
