"""Train spiking neural networks that keep only the synapses they need.

>>> import torch
>>> from synaprune import GradR
>>> model = torch.nn.Linear(784, 10)
>>> optimizer = GradR(model, lr=1e-3, alpha=1e-2)  # in place of torch.optim.Adam(model.parameters(), lr=1e-3)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from synaprune.errors import MachineError, NonFiniteGradientError, UsageError

if TYPE_CHECKING:
    from synaprune.measure import connectivities, connectivity, energy, layer_connectivity, operations
    from synaprune.optim import (
        LATS,
        SET,
        STDS,
        STR,
        DeepR,
        Dense,
        GradR,
        GraNet,
        Magnitude,
        MagnitudeSTE,
        Rewirer,
        RigL,
        SoftDeepR,
        Static,
    )
    from synaprune.synapses import adopt_pruned, find_synapses

__all__ = [
    "DeepR",
    "Dense",
    "GraNet",
    "GradR",
    "LATS",
    "MachineError",
    "Magnitude",
    "MagnitudeSTE",
    "NonFiniteGradientError",
    "Rewirer",
    "RigL",
    "SET",
    "STDS",
    "STR",
    "SoftDeepR",
    "Static",
    "UsageError",
    "adopt_pruned",
    "connectivities",
    "connectivity",
    "energy",
    "find_synapses",
    "layer_connectivity",
    "operations",
]
__version__ = "0.1.0"

# Found on first use, so that `synaprune --help` need not wait for torch.
_HOMES = {
    "DeepR": "optim",
    "Dense": "optim",
    "GraNet": "optim",
    "GradR": "optim",
    "LATS": "optim",
    "Magnitude": "optim",
    "MagnitudeSTE": "optim",
    "Rewirer": "optim",
    "RigL": "optim",
    "SET": "optim",
    "STDS": "optim",
    "STR": "optim",
    "SoftDeepR": "optim",
    "Static": "optim",
    "adopt_pruned": "synapses",
    "connectivities": "measure",
    "connectivity": "measure",
    "energy": "measure",
    "find_synapses": "synapses",
    "layer_connectivity": "measure",
    "operations": "measure",
}
_MODULES = ("budget", "engine", "measure", "optim", "synapses")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"synaprune.{_HOMES[name]}"), name)
    if name in _MODULES:
        return import_module(f"synaprune.{name}")
    raise AttributeError(f"module 'synaprune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_MODULES])
