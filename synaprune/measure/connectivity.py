"""Connectivity: surviving synapses over all synapses, in the three definitions that papers use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from synaprune.computed import plain_weights
from synaprune.errors import UsageError
from synaprune.measure.connections import connections
from synaprune.synapses import find_synapses

__all__ = ["Connectivities", "connectivities", "connectivity", "layer_connectivity"]


def connectivity(module_or_tensors: nn.Module | Iterable[Tensor]) -> float:
    """Return the fraction of synapses that exist: non-zero weights over all weights.

    Of a module, all tensors that `find_synapses` names count, rewired or not; biases and normalisation never. Weights
    that it computes from others (pruned by torch, parametrised) count as they are used. Tensors that are given
    directly all count. Raises `UsageError` where there is no synapse at all.

    >>> connectivity([torch.tensor([[0.0, 1.5], [0.0, -2.0]])])
    0.5
    """
    if isinstance(module_or_tensors, nn.Module):
        with plain_weights(module_or_tensors):
            tensors: Iterable[Tensor] = find_synapses(module_or_tensors).parameters
    else:
        tensors = module_or_tensors
    left, synapses = _total(tensors, module_or_tensors)
    return left / synapses


class Connectivities(NamedTuple):
    """One network's connectivity in three definitions, which are not comparable with one another.

    Attributes:
        weights: non-zero weights over all weights, of the tensors that `find_synapses` names.
        parameters: 1 − zeros / all parameters, the zeros counted among those tensors, the parameters over the whole
            network with biases and normalisation.
        connections: real connections over those of the same network without any zero; see `connections`.
        layers: for each tensor of synapses its connections, left and all.
    """

    weights: float
    parameters: float
    connections: float
    layers: dict[str, tuple[int, int]]


def connectivities(
    model: nn.Module,
    x: Tensor,
    *,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    neurons: Iterable[str] = (),
) -> Connectivities:
    """Return the connectivity of a network in all three definitions.

    `x` is a batch as the model takes it, of which only the shape matters; the arguments and the `UsageError`s are
    those of `connections`, `include` and `exclude` hold for all three.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    >>> with torch.no_grad():  # the second hidden neuron loses its inputs, so that its outputs are none
    ...     _ = net[0].weight[1].zero_()
    >>> connectivities(net, torch.zeros(1, 2))[:3]  # 6 of 8 weights, 2 zeros for 10 parameters, 4 of 8 connections
    (0.75, 0.8, 0.5)

    Source: `weights` and `parameters` are "without BN" and "with BN" in the code released with Chen et al.,
    "Pruning of Deep Spiking Neural Networks through Gradient Rewiring", IJCAI 2021; `connections` is that of Shi et
    al., "Towards Energy Efficient Spiking Neural Networks: An Unstructured Pruning Framework", ICLR 2024.
    """
    with plain_weights(model):
        left, synapses = _total(find_synapses(model, include=include, exclude=exclude).parameters, model)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        layers = connections(model, x, include=include, exclude=exclude, neurons=neurons)
    made, possible = (sum(column) for column in zip(*layers.values()))
    return Connectivities(left / synapses, 1 - (synapses - left) / parameters, made / possible, layers)


def layer_connectivity(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Return for each tensor of synapses, by its dotted name, how many are left and how many there are."""
    with plain_weights(module):
        return {synapse.name: _count(synapse.parameter) for synapse in find_synapses(module)}


def _total(tensors: Iterable[Tensor], owner: object) -> tuple[int, int]:
    counts = [_count(tensor) for tensor in tensors]
    left, synapses = sum(left for left, _ in counts), sum(size for _, size in counts)
    if synapses == 0:
        raise UsageError(
            f"no synapses in {type(owner).__name__}, so that it has no connectivity; "
            "print find_synapses(module) to see what was found, and name tensors with include="
        )
    return left, synapses


def _count(weights: Tensor) -> tuple[int, int]:
    return int(torch.count_nonzero(weights)), weights.numel()
