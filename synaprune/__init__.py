"""Train spiking neural networks that keep only the synapses they need.

>>> import torch
>>> from synaprune import GradR
>>> model = torch.nn.Linear(784, 10)
>>> optimizer = GradR(model, lr=1e-3, alpha=1e-2)  # in place of torch.optim.Adam(model.parameters(), lr=1e-3)
"""

from synaprune.errors import MachineError, NonFiniteGradientError, UsageError
from synaprune.measure import connectivity, layer_connectivity
from synaprune.optim import Dense, GradR, Rewirer
from synaprune.synapses import find_synapses

__all__ = [
    "Dense",
    "GradR",
    "MachineError",
    "NonFiniteGradientError",
    "Rewirer",
    "UsageError",
    "connectivity",
    "find_synapses",
    "layer_connectivity",
]
__version__ = "0.1.0"
