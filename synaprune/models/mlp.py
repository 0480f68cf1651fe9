"""The MNIST network of the Grad R paper: two fully connected layers of spiking neurons."""

from __future__ import annotations

from spikingjelly.activation_based import layer
from torch import Tensor

from synaprune.models.network import Network, Readout, require_positive

__all__ = ["SpikingMLP"]


class SpikingMLP(Network):
    """inputs -> hidden LIF -> classes LIF, without biases.

    The current into the hidden neurons is computed once and injected at each time step. 784-800-10 has
    635,200 synapses.

    Args:
        inputs, hidden, classes: numbers of pixels, hidden neurons and output neurons.
        T: time steps of one presentation.
        gain: factor on torch's default initial weights.
        fast: False runs SpikingJelly's own loop over time.

    Raises:
        UsageError: for a size below 1.

    Source: Chen et al., "Pruning of Deep Spiking Neural Networks through Gradient Rewiring", IJCAI 2021.
    """

    def __init__(
        self,
        inputs: int = 784,
        hidden: int = 800,
        classes: int = 10,
        T: int = 8,
        gain: float = 1.0,
        fast: bool = True,
    ) -> None:
        super().__init__(T, fast)
        require_positive(inputs=inputs, hidden=hidden, classes=classes)
        self.fc1 = layer.Linear(inputs, hidden, bias=False, step_mode="m")
        self.lif1 = self.neuron()
        self.fc2 = layer.Linear(hidden, classes, bias=False, step_mode="m")
        self.lif2 = self.neuron()
        self.scale_synapses(gain)

    def present(self, x: Tensor) -> Readout:
        """Show the images `x` `[N, ...]`, flattened, for T time steps to neurons at rest."""
        spikes = self.lif1(self.fc1(x.flatten(1)), steps=self.T)
        current = self.fc2(spikes)
        return Readout(self.lif2(current).mean(0), current.mean(0))
