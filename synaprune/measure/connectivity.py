"""Connectivity: surviving synapses over all synapses."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from synaprune.errors import UsageError
from synaprune.synapses import find_synapses

__all__ = ["connectivity", "layer_connectivity"]


def connectivity(module_or_tensors: nn.Module | Iterable[Tensor]) -> float:
    """Return the fraction of synapses that exist: non-zero weights over all weights.

    Of a module, all tensors that `find_synapses` names count, rewired or not; biases and normalisation never.
    Tensors that are given directly all count. Raises `UsageError` where there is no synapse at all.

    >>> connectivity([torch.tensor([[0.0, 1.5], [0.0, -2.0]])])
    0.5
    """
    if isinstance(module_or_tensors, nn.Module):
        tensors: Iterable[Tensor] = find_synapses(module_or_tensors).parameters
    else:
        tensors = module_or_tensors
    counts = [_count(tensor) for tensor in tensors]
    synapses = sum(size for _, size in counts)
    if synapses == 0:
        raise UsageError(
            f"no synapses in {type(module_or_tensors).__name__}, so that it has no connectivity; "
            "print find_synapses(module) to see what was found, and name tensors with include="
        )
    return sum(left for left, _ in counts) / synapses


def layer_connectivity(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Return for each tensor of synapses, by its dotted name, how many are left and how many there are."""
    return {synapse.name: _count(synapse.parameter) for synapse in find_synapses(module)}


def _count(weights: Tensor) -> tuple[int, int]:
    return int(torch.count_nonzero(weights)), weights.numel()
