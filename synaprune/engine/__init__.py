"""Fast inference of pruned spiking networks on an ordinary processor.

>>> import numpy as np
>>> from synaprune.engine import Linear, Network, Neuron, Weight
>>> weight = Weight.from_dense(np.array([[0.0, 1.5]]))
>>> engine = compile(Network((Linear(weight=weight), Neuron()), input_shape=(2,), T=4))
>>> engine(np.array([[0.0, 1.0], [0.0, 2.0]]))  # two samples, one output neuron: spikes per time step
array([[0.5],
       [1. ]], dtype=float32)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synaprune.engine.engine import Engine
from synaprune.engine.graph import Network
from synaprune.engine.layers import AvgPool, Conv, Flatten, Linear, MaxPool, Neuron, Vote, Weight

if TYPE_CHECKING:
    from torch import nn

    from synaprune.engine.chain import to_torch
    from synaprune.engine.convert import from_torch

__all__ = [
    "AvgPool",
    "Conv",
    "Engine",
    "Flatten",
    "Linear",
    "MaxPool",
    "Network",
    "Neuron",
    "Vote",
    "Weight",
    "compile",
    "from_torch",
    "to_torch",
]


def compile(
    source: Network | nn.Module | str | os.PathLike[str],
    *,
    threads: int = 1,
    backend: str | None = None,
    T: int | None = None,
    input_shape: Sequence[int] | None = None,
    coding: str | None = None,
    readout: str | None = None,
) -> Engine:
    """Return an engine for a network, a PyTorch model or the path of a sparse file.

    Args:
        source: what to run; for a model see `from_torch`.
        threads: how many work on one call.
        backend: "c" or "torch", see `Engine`.
        T: time steps of a model; this and the following as `from_torch` takes them.
        input_shape: of one sample.
        coding: "static" or "spikes".
        readout: "rate" or "count".

    Raises:
        UsageError: for a model or a file that cannot be run; the sentence names what stands in the way.
        MachineError: there is nothing to run it with, neither a C compiler nor torch.

    """
    settings = {"T": T, "input_shape": input_shape, "coding": coding, "readout": readout}
    if isinstance(source, str | os.PathLike):
        from synaprune.export import read

        source = read(Path(source))
    elif not isinstance(source, Network):
        from synaprune.engine.convert import from_torch

        return Engine(from_torch(source, **settings), threads, backend)  # type: ignore[arg-type]
    if given := [name for name, value in settings.items() if value is not None]:
        from synaprune.errors import UsageError

        raise UsageError(f"{given[0]} is part of the network already; leave it out")
    return Engine(source, threads, backend)


def __getattr__(name: str) -> Any:
    # Found on first use: the engine needs no torch.
    if name == "from_torch":
        from synaprune.engine.convert import from_torch

        return from_torch
    if name == "to_torch":
        from synaprune.engine.chain import to_torch

        return to_torch
    raise AttributeError(f"module 'synaprune.engine' has no attribute {name!r}")
