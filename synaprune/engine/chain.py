"""A network of the engine as a PyTorch model: to be trained further."""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn

from synaprune.engine import layers as plain
from synaprune.engine.graph import Network
from synaprune.errors import UsageError
from synaprune.models.lif import LIF
from synaprune.models.network import Network as Model
from synaprune.models.network import Readout

__all__ = ["Chain", "to_torch"]


class Chain(Model):
    """The layers of a network, one after another; every forward pass is one presentation of T time steps.

    Args:
        network: whose weights are copied; a synapse that is absent is a weight of 0.

    Attributes:
        reads_out: whether something else than votes reads the last neurons out, so that it is what `current` holds too.

    """

    def __init__(self, network: Network) -> None:
        super().__init__(network.T, fast=True)
        self.input_shape, self.coding, self.readout = network.input_shape, network.coding, network.readout
        last = max(index for index, each in enumerate(network.layers) if isinstance(each, plain.Neuron))
        self.reads_out = not all(isinstance(each, plain.Flatten | plain.Vote) for each in network.layers[last + 1 :])
        names = [name.replace(".", "_") for name in (each.name for each in network.layers)]
        if len(set(names)) < len(names) or not all(names):
            names = [str(index) for index in range(len(names))]
        self.layers = nn.Sequential()
        for name, each in zip(names, network.layers):
            self.layers.add_module(name, _module(each))

    def present(self, x: Tensor) -> Readout:
        """Show `x`, `[N, *input_shape]` or trains `[T, N, *input_shape]`, to neurons at rest."""
        current = spikes = x[None] if self.coding == "static" else x
        for module in self.layers:
            if isinstance(module, neuron.BaseNode):
                current = spikes.expand(self.T, *spikes.shape[1:])
                if len(spikes) == 1 and isinstance(module, LIF):
                    spikes = module(spikes[0], steps=self.T)
                else:
                    spikes = module(current)
            elif isinstance(module, layer.VotingLayer):
                current, spikes = module(current.flatten(2)), module(spikes)
            else:
                spikes = module(spikes)
        if self.reads_out:
            current = spikes
        current, spikes = current.flatten(2), spikes.flatten(2)
        return Readout(spikes.mean(0) if self.readout == "rate" else spikes.sum(0), current.mean(0))


def to_torch(network: Network) -> Chain:
    """Return the model that computes what a network does; `from_torch` gives the network back.

    >>> import numpy as np
    >>> weight = plain.Weight.from_dense(np.array([[0.0, 1.5]]))
    >>> model = to_torch(Network((plain.Linear("fc", weight=weight), plain.Neuron("lif")), (2,), T=4))
    >>> model(torch.tensor([[0.0, 2.0]])).rate.item()
    1.0
    """
    return Chain(network)


def _module(each: plain.Layer) -> nn.Module:
    if isinstance(each, plain.Linear | plain.Conv):
        return _synapses(each)
    if isinstance(each, plain.Neuron):
        own = [what for what in ("drop", "rate", "keep", "late") if getattr(each, what) not in (None, False)]
        if own:
            raise UsageError(
                f"{each} has {own[0]}={getattr(each, own[0]):g}, which SpikingJelly's neurons have not; train it where "
                "it comes from"
            )
        settings: dict[str, Any] = {"v_threshold": float(each.threshold), "v_reset": each.reset, "step_mode": "m"}
        settings |= {"surrogate_function": surrogate.ATan(alpha=2.0), "detach_reset": True}
        if each.tau is None:
            return neuron.IFNode(**settings)
        return LIF(tau=float(each.tau), decay_input=each.decay_input, **settings)
    if isinstance(each, plain.Pool):
        pools = {
            "max_pool": (layer.MaxPool1d, layer.MaxPool2d),
            "avg_pool": (layer.AvgPool1d, layer.AvgPool2d),
        }
        ceil = {"ceil_mode": isinstance(each, plain.MaxPool) and each.ceil, "step_mode": "m"}
        return pools[each.kind][len(each.kernel) - 1](each.kernel, each.stride, each.padding, **ceil)
    if isinstance(each, plain.Vote):
        return layer.VotingLayer(each.group, step_mode="m")
    return layer.Flatten(step_mode="m")


@torch.no_grad()
def _synapses(each: plain.Linear | plain.Conv) -> nn.Module:
    shape, bias = each.weight.shape, each.bias is not None
    module: Any
    if isinstance(each, plain.Linear):
        module = layer.Linear(shape[1], shape[0], bias=bias, step_mode="m")
    else:
        kinds = (layer.Conv1d, layer.Conv2d)
        sizes = (each.kernel, each.stride, each.padding, each.dilation)
        module = kinds[len(each.kernel) - 1](shape[1] * each.groups, shape[0], *sizes, each.groups, bias, step_mode="m")
    module.weight.copy_(torch.from_numpy(each.weight.dense()))
    if each.bias is not None:
        module.bias.copy_(torch.from_numpy(each.bias.copy()))
    return module
