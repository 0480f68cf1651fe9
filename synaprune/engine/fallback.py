"""The same networks in plain PyTorch, for machines without a C compiler."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from synaprune.engine.graph import Network
from synaprune.engine.layers import AvgPool, Conv, Flatten, Linear, MaxPool, Neuron

__all__ = ["run"]


@torch.inference_mode()
def run(network: Network, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the spikes of each layer of neurons, and the spikes `[N, outputs]` of each output neuron."""
    T = 1 if network.coding == "static" else network.T
    samples = x.shape[network.coding == "spikes"]
    values = torch.tensor(x).float().reshape(T * samples, *network.input_shape)
    spikes = []
    for layer in network.spiking:
        if isinstance(layer, Neuron):
            current = values.reshape(T, samples, *values.shape[1:]).expand(network.T, samples, *values.shape[1:])
            trains = _fire(layer, current)
            spikes.append(int(trains.sum(dtype=torch.int64)))
            T, values = network.T, trains.flatten(0, 1)
        elif isinstance(layer, Linear | Conv):
            weight = torch.from_numpy(layer.weight.dense())
            bias = None if layer.bias is None else torch.from_numpy(layer.bias.copy())
            if isinstance(layer, Linear):
                values = F.linear(values, weight, bias)
            else:
                convolve = F.conv1d if len(layer.kernel) == 1 else F.conv2d
                values = convolve(values, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
        elif isinstance(layer, MaxPool):
            pool = F.max_pool1d if len(layer.kernel) == 1 else F.max_pool2d
            values = pool(values, layer.kernel, layer.stride, layer.padding, ceil_mode=layer.ceil)
        elif isinstance(layer, AvgPool):
            mean = F.avg_pool1d if len(layer.kernel) == 1 else F.avg_pool2d
            values = mean(values, layer.kernel, layer.stride, layer.padding)
        elif isinstance(layer, Flatten):
            values = values.flatten(1)
    counts = values.unflatten(0, (network.T, samples)).flatten(2).sum(0).to(torch.int32)
    return np.array(spikes, np.uint64), counts.numpy()


def _fire(neuron: Neuron, currents: Tensor) -> Tensor:
    rest = neuron.reset or 0.0
    v = torch.full_like(currents[0], rest)
    spikes = []
    for x in currents:
        h = _charge(neuron, v, rest, x)
        if neuron.late:
            h = h - (v >= neuron.threshold) * neuron.taken
        fired = h >= neuron.threshold
        after = torch.full_like(h, rest) if neuron.reset is not None else h if neuron.late else h - neuron.taken
        v = torch.where(fired, after, h)
        spikes.append(fired.to(h.dtype))
    return torch.stack(spikes)


def _charge(neuron: Neuron, v: Tensor, rest: float, x: Tensor) -> Tensor:
    if neuron.keep is not None:
        return neuron.keep * v + x
    away = x - (v - rest) if neuron.decay_input else v - rest
    if neuron.tau is not None:
        away = away / neuron.tau
    elif neuron.rate is not None:
        away = away * neuron.rate
    else:
        return v + x
    return v + away if neuron.decay_input else v - away + x
