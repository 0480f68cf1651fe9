"""TensorBoard: scalars and histograms of a run."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from synaprune.optim.rewirer import Rewirer
from synaprune.synapses import find_synapses

__all__ = ["Board"]

BINS = 64


class Board:
    """Event files in a folder; those of epochs after `start` are declared void, as a resumed run repeats them."""

    def __init__(self, folder: Path, start: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=start + 1)

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, metrics: dict[str, Any], network: nn.Module, optimizer: Rewirer) -> None:
        """Write one epoch: all figures of `metrics`, w of the synapses that exist, and θ of all rewired ones."""
        epoch = metrics["epoch"]
        for tag, value in _flat(metrics):
            self._writer.add_scalar(tag, value, epoch)
        rewired = {p for group in optimizer.param_groups if group["rewire"] for p in group["params"]}
        for synapse in find_synapses(network):
            weight = synapse.parameter.detach()
            self._histogram(f"w/{synapse.name}", weight[weight != 0], epoch)
            if synapse.parameter in rewired:
                self._histogram(f"theta/{synapse.name}", optimizer.theta(synapse.parameter), epoch)
        self._writer.flush()

    def _histogram(self, tag: str, values: Tensor, epoch: int) -> None:
        """Write a histogram counted on the values' device: tens of millions of them need not come to the CPU."""
        if not values.numel():
            return
        values = values.float().flatten()
        low, high = (bound.item() for bound in torch.aminmax(values))
        counts = torch.histc(values, BINS, low, high)
        limits = torch.linspace(low, high, BINS + 1)[1:]
        self._writer.add_histogram_raw(
            tag,
            min=low,
            max=high,
            num=values.numel(),
            sum=values.sum().item(),
            sum_squares=values.square().sum().item(),
            bucket_limits=limits.tolist(),
            bucket_counts=counts.tolist(),
            global_step=epoch,
        )


def _flat(metrics: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Return nested figures as (tag, value): `layers/fc1.weight/left`."""
    pairs: list[tuple[str, float]] = []
    for name, value in metrics.items():
        pairs += _flat(value, f"{prefix}{name}/") if isinstance(value, dict) else [(prefix + name, value)]
    return pairs
