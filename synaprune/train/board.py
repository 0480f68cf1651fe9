"""TensorBoard: scalars and histograms of a run.

The events are written here and now, where torch's `SummaryWriter` leaves it to a thread: a full disk is then an
error of the run like any other, and no event is still in a queue when a run is killed.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor, nn
from torch.utils.tensorboard import summary

from synaprune.optim.rewirer import Rewirer
from synaprune.synapses import find_synapses

__all__ = ["Board"]

BINS = 64


class Board:
    """An event file in a folder for the epochs after `start`.

    A resumed run repeats epochs of earlier files; they are declared void. One that resumes at the same epoch as
    an earlier try replaces its file.
    """

    def __init__(self, folder: Path, start: int) -> None:
        folder.mkdir(exist_ok=True)
        path = folder / f"events.out.tfevents.{start:06d}"
        path.unlink(missing_ok=True)
        self._file = path.open("xb")  # in its place from the first, for TensorBoard reads it while it grows
        self._records = RecordWriter(self._file)
        self._add(file_version="brain.Event:2")
        self._add(step=start + 1, session_log=SessionLog(status=SessionLog.START))

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, metrics: dict[str, Any], network: nn.Module, optimizer: Rewirer) -> None:
        """Write one epoch: all figures of `metrics`, w of the synapses that exist, and θ of all rewired ones."""
        epoch = metrics["epoch"]
        for tag, value in _flat(metrics):
            self._add(step=epoch, summary=summary.scalar(tag, value))
        rewired = {p for group in optimizer.param_groups if group["rewire"] for p in group["params"]}
        for synapse in find_synapses(network):
            weight = synapse.parameter.detach()
            self._histogram(f"w/{synapse.name}", weight[weight != 0], epoch)
            if synapse.parameter in rewired:
                self._histogram(f"theta/{synapse.name}", optimizer.theta(synapse.parameter), epoch)
        self._file.flush()

    def _add(self, **content: Any) -> None:
        self._records.write(Event(wall_time=time.time(), **content).SerializeToString())

    def _histogram(self, tag: str, values: Tensor, epoch: int) -> None:
        """Write a histogram counted on the values' device: tens of millions of them need not come to the CPU."""
        if not values.numel():
            return
        values = values.float().flatten()
        low, high = (bound.item() for bound in torch.aminmax(values))
        histogram = summary.histogram_raw(
            tag,
            min=low,
            max=high,
            num=values.numel(),
            sum=values.sum().item(),
            sum_squares=values.square().sum().item(),
            bucket_limits=torch.linspace(low, high, BINS + 1, dtype=torch.float32, device="cpu")[1:].tolist(),
            bucket_counts=torch.histc(values, BINS, low, high).tolist(),
        )
        self._add(step=epoch, summary=histogram)


def _flat(metrics: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Return nested figures as (tag, value): `layers/fc1.weight/left`."""
    pairs: list[tuple[str, float]] = []
    for name, value in metrics.items():
        pairs += _flat(value, f"{prefix}{name}/") if isinstance(value, dict) else [(prefix + name, value)]
    return pairs
