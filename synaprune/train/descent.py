"""One run that gives a whole curve: it comes down in levels, and at the end of each a copy of it is trained to the end.

The trunk goes on at full learning rate, which no result is taken at. The copy, its tail, keeps the number of synapses
of the level, while its learning rate falls along half a cosine and its augmentation fades; it becomes a run of its own
in the folder `tails`, which every command takes like any other.
"""

from __future__ import annotations

import copy
import dataclasses
import time

from torch import nn

from synaprune.budget import constant
from synaprune.data import Dataset
from synaprune.optim.rewirer import Rewirer
from synaprune.train import schedule
from synaprune.train.epoch import evaluate_network, topology, train_epoch
from synaprune.train.parallel import Team
from synaprune.train.run import Run
from synaprune.train.settings import Settings

__all__ = ["train_tail"]


def train_tail(
    settings: Settings, epoch: int, data: Dataset, network: nn.Module, optimizer: Rewirer, run: Run, team: Team
) -> None:
    """Train the tail that branches off after an epoch, if one does and it is not there already.

    It depends on the trunk's state and the seed alone, so that one that was interrupted is made anew. The trunk is left
    as it is.
    """
    sparsity = schedule.stops(settings).get(epoch)
    if sparsity is None:
        return
    own = _settings(settings, sparsity, epoch, data)
    tail = Run(run.folder / "tails" / f"{sparsity:g}")
    if team.from_first(lambda: tail.checkpoint_path.exists()):
        return
    network, optimizer = copy.deepcopy((network, optimizer))
    for group in optimizer.param_groups:
        if group.get("sparsity") is not None:
            group["sparsity"], group["schedule"] = sparsity, constant(steps=1)
    replica = team.replica(network)
    lines = []
    for number in range(1, own.epochs + 1):
        started = time.monotonic()
        metrics = {"epoch": number, **train_epoch(own, data, network, replica, optimizer, number, team=team)}
        optimizer.settle()
        metrics |= {**evaluate_network(own, data, network), **topology(network, optimizer)}
        lines.append({**metrics, "seconds": time.monotonic() - started})
    team.from_first(_write, own, tail, lines, network, optimizer)


def _settings(settings: Settings, sparsity: float, epoch: int, data: Dataset) -> Settings:
    """Return the settings of a tail: the trunk's, from where it stands to the end of everything that falls."""
    steps = schedule.steps_per_epoch(settings, len(data.train_labels))
    return dataclasses.replace(
        settings,
        sparsity=sparsity,
        levels=None,
        tail=None,
        schedule="constant",
        schedule_flat=None,
        epochs=settings.tail or 1,
        lr=schedule.learning_rate(settings, epoch * steps - 1, steps),
        lr_schedule="cosine",
        warmup=0.0,
        augment=schedule.augmentation(settings, epoch * steps - 1, steps),
        fade_start=0.0,
        fade_end=1.0,
    )


def _write(
    settings: Settings, tail: Run, lines: list[dict[str, object]], network: nn.Module, optimizer: Rewirer
) -> None:
    """Write the tail down as a run; its checkpoint, which says that it is whole, comes last."""
    tail.metrics_path.unlink(missing_ok=True)
    tail.create(settings)
    for line in lines:
        tail.append(line)
    tail.save(settings, settings.epochs, network, optimizer)
