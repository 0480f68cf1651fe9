"""What reads the last spikes out without neurons: averages, currents.

All of it is linear, so that it is done once, on the spikes counted over all time steps. Sums are of 64-bit floats and
in the order of the synapses, the same in every batch; memory and time go with the synapses that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from synaprune.engine.layers import AvgPool, Conv, Layer, Linear, Shape
from synaprune.engine.reference import windows

__all__ = ["cost", "read_out"]


def read_out(tail: Sequence[Layer], counts: np.ndarray, T: int) -> np.ndarray:
    """Return the sum over all time steps of what leaves a tail, float64 `[N, *shape]`, for counts `[N, *shape]`."""
    values = counts.astype(np.float64)
    for layer in tail:
        if isinstance(layer, Linear):
            values = _linear(layer, values) + _bias(layer, T)
        elif isinstance(layer, Conv):
            values = _conv(layer, values) + _bias(layer, T).reshape(-1, *[1] * len(layer.kernel))
        elif isinstance(layer, AvgPool):
            values = sum(windows(layer, values[None]), np.zeros(()))[0] / prod(layer.kernel)
        else:
            values = values.reshape(len(values), prod(values.shape[1:]))
    return values


def cost(layer: Layer, shape: Shape, out: Shape) -> tuple[int, int]:
    """Return additions and bytes that one layer of a tail takes for one sample, by the shapes that come and leave."""
    additions = prod(out) * prod(layer.kernel) if isinstance(layer, AvgPool) else prod(out)
    if isinstance(layer, Linear | Conv):
        additions += len(layer.weight) * prod(out[1:])
    padding = layer.padding if isinstance(layer, Conv | AvgPool) else ()
    padded = shape[0] * prod(n + 2 * p for n, p in zip(shape[1:], padding))
    return additions, 8 * (padded + prod(out))


def _bias(layer: Linear | Conv, T: int) -> np.ndarray:
    return T * np.zeros(1) if layer.bias is None else T * layer.bias.astype(np.float64)


def _linear(layer: Linear, values: np.ndarray) -> np.ndarray:
    out, inputs = layer.weight.shape
    receiver, sender = np.divmod(layer.weight.positions, inputs)
    weights = layer.weight.values.astype(np.float64)
    return np.array([np.bincount(receiver, weights * each[sender], out) for each in values]).reshape(-1, out)


def _conv(layer: Conv, values: np.ndarray) -> np.ndarray:
    padded = np.pad(values, [(0, 0)] * 2 + [(p, p) for p in layer.padding])
    size = layer.output(values.shape[1:])[1:]
    total = np.zeros((len(values), layer.weight.shape[0], *size))
    group = layer.weight.shape[0] // layer.groups
    places = np.unravel_index(layer.weight.positions, layer.weight.shape)
    for weight, o, c, *tap in zip(layer.weight.values.astype(np.float64), *places):
        begin = [int(t) * d for t, d in zip(tap, layer.dilation)]
        window = [slice(b, b + (n - 1) * s + 1, s) for b, n, s in zip(begin, size, layer.stride)]
        total[:, o] += weight * padded[(slice(None), o // group * layer.weight.shape[1] + c, *window)]
    return total
