"""The weights of the synapses as 32-bit or 16-bit floats, or as 8-bit integers with one factor per output channel."""

from __future__ import annotations

from math import prod

import numpy as np

from synaprune.engine.layers import Conv, Linear, Shape
from synaprune.errors import UsageError, nearest, short

__all__ = ["VALUES", "check", "from_stored", "to_stored"]

VALUES = ("fp32", "fp16", "int8")
"""How weights can be stored."""


def check(values: str) -> None:
    """Raise `UsageError` unless weights can be stored as `values`."""
    if values not in VALUES:
        raise UsageError(
            f"values must be {', '.join(VALUES[:-1])} or {VALUES[-1]}, not {short(values)}{nearest(values, VALUES)}"
        )


def to_stored(layer: Linear | Conv, values: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a layer's weights as they are stored, and with "int8" the factors of its output channels.

    A factor is the channel's largest weight divided by 127, rounded up to the upper half of a float32, of which the
    16 bits are returned: a factor need not be exact, as the weights are divided by what it has been rounded to.

    Raises:
        UsageError: a weight is too large for float16.

    """
    weight, weights = layer.weight, layer.weight.values
    if values == "int8":
        channels = _channels(weight.positions, weight.shape)
        largest = np.zeros(weight.shape[0], np.float32)
        np.maximum.at(largest, channels, np.abs(weights))
        upper = ((largest / 127).view(np.uint32) + np.uint32(0xFFFF)) >> 16
        scale = np.maximum(upper, largest > 0).astype(np.uint16)  # the smallest floats divided by 127 are 0
        return np.rint(weights / _factors(scale)[channels]).astype(np.int8), scale
    if values == "fp16":
        with np.errstate(over="ignore"):
            weights = weights.astype(np.float16)
        if not np.isfinite(weights).all():
            largest = np.abs(weight.values).max()
            raise UsageError(f"{layer} has a weight of {largest:g}, too large for fp16; give fp32 or int8")
    return weights, None


def from_stored(weights: np.ndarray, scale: np.ndarray | None, positions: np.ndarray, shape: Shape) -> np.ndarray:
    """Return the float32 weights at `positions` of what `to_stored` has returned.

    Raises:
        UsageError: there are not as many factors as output channels.

    """
    if scale is None:
        return weights.astype(np.float32, copy=False)
    if scale.shape != (shape[0],):
        raise UsageError(f"{scale.size} factors are not those of {shape[0]} output channels")
    with np.errstate(over="ignore", invalid="ignore"):  # of a damaged file; the network refuses what comes out
        return weights * _factors(scale)[_channels(positions, shape)]


def _channels(positions: np.ndarray, shape: Shape) -> np.ndarray:
    """Return the output channel of each position."""
    return positions // prod(shape[1:])


def _factors(upper: np.ndarray) -> np.ndarray:
    """Return the float32 numbers with these upper halves."""
    return (upper.astype(np.uint32) << 16).view(np.float32)
