"""What the papers' networks share: readout, reset, initial gain, checks of their arguments."""

from __future__ import annotations

from typing import NamedTuple

import torch
from spikingjelly.activation_based import functional, surrogate
from torch import Tensor, nn

from synaprune.errors import UsageError
from synaprune.models.lif import LIF

__all__ = ["Network", "Readout"]


class Readout(NamedTuple):
    """What the output neurons did, averaged over the T time steps and over the neurons of a class.

    Both are `[N, classes]`: `rate` counts output spikes (0 to 1), `current` is the neurons' input current.
    """

    rate: Tensor
    current: Tensor


class Network(nn.Module):
    """A spiking network whose every forward pass is one presentation of T time steps.

    A subclass defines `present`, which maps images to a `Readout`.
    """

    def __init__(self, T: int, fast: bool) -> None:
        super().__init__()
        require_positive(T=T)
        self.T = T
        self.fast = fast

    def forward(self, x: Tensor) -> Readout:
        """Return the readout for normalised float images `x` `[N, ...]`; the neurons' state starts afresh."""
        functional.reset_net(self)
        readout = self.present(x)
        # A potential that is left over would hold on to its autograd graph, which cannot be copied either.
        functional.reset_net(self)
        return readout

    def present(self, x: Tensor) -> Readout:
        """Show the images `x` for T time steps to neurons at rest."""
        raise NotImplementedError

    def neuron(self) -> LIF:
        """Return the papers' neuron: tau = 2, threshold 1, hard reset to 0, ATan surrogate."""
        return LIF(
            tau=2.0,
            v_threshold=1.0,
            v_reset=0.0,
            surrogate_function=surrogate.ATan(alpha=2.0),
            detach_reset=True,
            step_mode="m",
            fast=self.fast,
        )

    @torch.no_grad()
    def scale_synapses(self, gain: float) -> None:
        """Multiply the weights of all linear and convolutional layers by `gain`."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.weight.mul_(gain)


def require_positive(**numbers: int) -> None:
    """Raise `UsageError` for a number that is not a whole one of at least 1, by its name."""
    for name, number in numbers.items():
        if not isinstance(number, int) or number < 1:
            raise UsageError(f"{name} must be a whole number of at least 1, not {number!r}.")
