"""The engine's twin in plain NumPy: every addition in the order that engine.c promises, layer by layer.

Both give the same spikes, bit for bit. What differs from PyTorch's spikes is therefore due to the order in which
floats are added, and to nothing else.
"""

from __future__ import annotations

import numpy as np

from synaprune.engine.graph import Network
from synaprune.engine.layers import AvgPool, Conv, Linear, MaxPool, Neuron, Pool

__all__ = ["spike_trains", "windows"]


def spike_trains(network: Network, x: np.ndarray) -> list[np.ndarray]:
    """Return the spikes `[T, N, *shape]` of each layer of neurons, bool, for inputs as the network takes them."""
    analog = network.coding == "static"
    steps = np.asarray(x, np.float32)[None] if analog else np.asarray(x, np.float32)
    steps = steps.reshape(*steps.shape[:2], *network.input_shape)
    planes, scale = [steps], 1.0  # a number on each place, as binary digits, and what 1 stands for
    trains: list[np.ndarray] = []
    for layer in network.spiking:
        if isinstance(layer, Linear | Conv):
            planes = [_currents(layer, planes, scale)]
        elif isinstance(layer, Neuron):
            current = np.broadcast_to(planes[0], (network.T, *planes[0].shape[1:]))
            trains.append(_fire(layer, current))
            planes, scale = [trains[-1].astype(np.float32)], 1.0
        elif isinstance(layer, MaxPool):
            planes = [np.maximum.reduce(windows(layer, planes[0]))]
        elif isinstance(layer, AvgPool):
            count = sum(2**bit * part for bit, plane in enumerate(planes) for part in windows(layer, plane))
            top, scale = round(np.prod(layer.kernel) * (2 ** len(planes) - 1)), scale / np.prod(layer.kernel)
            planes = [(count // 2**bit % 2).astype(np.float32) for bit in range(top.bit_length())]
        else:
            planes = [plane.reshape(*plane.shape[:2], -1) if layer.kind == "flatten" else plane for plane in planes]
    return trains


def _currents(layer: Linear | Conv, planes: list[np.ndarray], scale: float) -> np.ndarray:
    """Start from the bias and add synapse by synapse: input channel, digit, row, column."""
    weight = layer.weight.dense()
    if isinstance(layer, Linear):
        return _sum_linear(weight, layer.bias, planes, scale)
    reach = [d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel)]
    edges = [(0, 0)] * 3 + [(p, p) for p in layer.padding]
    padded = [np.pad(plane, edges) for plane in planes]
    size = [(n - r) // s + 1 for n, r, s in zip(padded[0].shape[3:], reach, layer.stride)]
    total = np.zeros((*planes[0].shape[:2], len(weight), *size), np.float32)
    for o in range(len(weight)):
        total[:, :, o] = 0 if layer.bias is None else layer.bias[o]
        first = o // (len(weight) // layer.groups) * weight.shape[1]
        for c in range(weight.shape[1]):
            for bit, plane in enumerate(padded):
                for tap in np.ndindex(*layer.kernel):
                    begin = [t * d for t, d in zip(tap, layer.dilation)]
                    window = [slice(b, b + (n - 1) * s + 1, s) for b, n, s in zip(begin, size, layer.stride)]
                    part = plane[(slice(None), slice(None), first + c, *window)]
                    total[:, :, o] += weight[(o, c, *tap)] * np.float32(2.0**bit * scale) * part
    return total


def _sum_linear(weight: np.ndarray, bias: np.ndarray | None, planes: list[np.ndarray], scale: float) -> np.ndarray:
    total = np.zeros((*planes[0].shape[:2], len(weight)), np.float32)
    total += 0 if bias is None else bias
    for i in range(weight.shape[1]):
        for bit, plane in enumerate(planes):
            total += weight[:, i] * np.float32(2.0**bit * scale) * plane[:, :, i, None]
    return total


def _fire(neuron: Neuron, current: np.ndarray) -> np.ndarray:
    rest = np.float32(neuron.reset or 0)
    threshold = np.float32(neuron.threshold)
    v = np.full(current.shape[1:], rest, np.float32)
    spikes = np.zeros(current.shape, bool)
    taken = np.float32(neuron.taken)
    for t, x in enumerate(current):
        h = _charge(neuron, v, rest, x)
        if neuron.late:
            h = np.where(v >= threshold, h - taken, h)
        spikes[t] = h >= threshold
        v = h if neuron.late else np.where(spikes[t], h - taken if neuron.reset is None else rest, h)
    return spikes


def _charge(neuron: Neuron, v: np.ndarray, rest: np.float32, x: np.ndarray) -> np.ndarray:
    if neuron.keep is not None:
        return np.float32(neuron.keep) * v + x
    away = x - (v - rest) if neuron.decay_input else v - rest
    if neuron.tau is not None:
        away = away / np.float32(neuron.tau)
    elif neuron.rate is not None:
        away = away * np.float32(neuron.rate)
    else:
        return v + x
    return v + away if neuron.decay_input else v - away + x


def windows(layer: Pool, plane: np.ndarray) -> list[np.ndarray]:
    """Return what each place of the window sees of `[T, N, channels, *size]`, zeros beyond the edges."""
    size = layer.output(plane.shape[2:])[1:]
    edges = zip(layer.padding, layer.overhang(plane.shape[3:]))
    padded = np.pad(plane, [(0, 0)] * 3 + [(p, max(p, over)) for p, over in edges])
    starts = np.ndindex(*layer.kernel)
    places = ([slice(b, b + (n - 1) * s + 1, s) for b, n, s in zip(place, size, layer.stride)] for place in starts)
    return [padded[:, :, :, *place] for place in places]
