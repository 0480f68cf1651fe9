"""Batch normalisation, folded into the synapses before it or behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from synaprune.engine.draft import Draft, array
from synaprune.engine.layers import AvgPool, Conv, Flatten, Layer, Linear, MaxPool, Weight
from synaprune.errors import UsageError

__all__ = ["fold_forward", "norm"]


def norm(name: str, module: Any, layers: Draft) -> None:
    """Let the synapses before it take over a normalisation, or leave it for those that follow."""
    if module.running_mean is None:
        raise UsageError(f"the engine cannot run '{name}': it normalises by the batch and has no running statistics")
    mean = array(module.running_mean, np.float64)
    scale = 1 / np.sqrt(array(module.running_var, np.float64) + module.eps)
    shift = np.zeros_like(mean)
    if module.affine:
        scale, shift = scale * array(module.weight, np.float64), array(module.bias, np.float64)
    shift = shift - mean * scale
    before = layers[-1] if layers else None
    if not isinstance(before, Linear | Conv):
        if layers.norm:
            raise UsageError(f"the engine cannot run '{name}': it follows '{layers.norm[0]}', another normalisation")
        layers.norm = name, scale, shift
        return
    if len(scale) != before.weight.shape[0]:
        raise UsageError(f"'{name}' normalises {len(scale)} channels, but {before} has {before.weight.shape[0]}")
    size = int(np.prod(before.weight.shape[1:]))
    values = (before.weight.values * scale[before.weight.positions // size]).astype(np.float32)
    bias = (0 if before.bias is None else before.bias) * scale + shift
    weight = Weight(before.weight.shape, before.weight.positions, values)
    layers[-1] = replace(before, weight=weight, bias=bias.astype(np.float32))


def _passes(layer: Layer, scale: np.ndarray, shift: np.ndarray) -> bool:
    """Whether it is all the same if a pool comes before a normalisation or behind it."""
    if isinstance(layer, AvgPool):
        return not (any(layer.padding) and shift.any())
    return isinstance(layer, MaxPool) and bool((scale >= 0).all())


def fold_forward(waiting: tuple[str, np.ndarray, np.ndarray], layers: Draft) -> None:
    """Let the synapses that have just come take over the normalisation before them, if they can."""
    name, scale, shift = waiting
    layer = layers[-1]
    if isinstance(layer, Flatten) or _passes(layer, scale, shift):
        return
    if not isinstance(layer, Linear | Conv):
        raise UsageError(f"the engine cannot run '{name}': between it and synapses lies {layer}")
    if isinstance(layer, Conv) and any(layer.padding) and shift.any():
        raise UsageError(
            f"the engine cannot run '{name}': it would shift the zeros that {layer} pads with; normalise behind the "
            "convolution, or pad with nothing"
        )
    channels = layer.weight.shape[1] * (layer.groups if isinstance(layer, Conv) else 1)
    if channels % len(scale) or (isinstance(layer, Conv) and channels != len(scale)):
        raise UsageError(f"'{name}' normalises {len(scale)} channels, but {layer} reads {channels}")
    out, *inner = np.unravel_index(layer.weight.positions, layer.weight.shape)
    channel = inner[0] // (channels // len(scale))
    if isinstance(layer, Conv):
        channel = channel + out // (layer.weight.shape[0] // layer.groups) * layer.weight.shape[1]
    values = layer.weight.values.astype(np.float64)
    moved = np.zeros(layer.weight.shape[0]) if layer.bias is None else layer.bias.astype(np.float64)
    moved += np.bincount(out, values * shift[channel], minlength=len(moved))
    values = (values * scale[channel]).astype(np.float32)
    left = values != 0
    weight = Weight(layer.weight.shape, layer.weight.positions[left], values[left])
    layers[-1] = replace(layer, weight=weight, bias=moved.astype(np.float32))
    layers.norm = None
