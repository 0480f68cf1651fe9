"""Allocations: how a number of synapses is spread over the layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from synaprune.errors import UsageError

__all__ = ["ALLOCATIONS", "allocate", "erdos_renyi_kernel", "uniform"]


def uniform(shapes: Sequence[torch.Size], connectivity: float) -> list[float]:
    """Return the same connectivity for each layer."""
    return [connectivity] * len(shapes)


def erdos_renyi_kernel(shapes: Sequence[torch.Size], connectivity: float) -> list[float]:
    """Return Erdős–Rényi-kernel connectivities: of layer l, ε·Σ dims / Π dims.

    Small layers are denser than large ones. A layer that would exceed 1 is dense, and ε is solved again for
    the others, so that all layers together have the connectivity asked for.

    >>> erdos_renyi_kernel([torch.Size([800, 784]), torch.Size([10, 800])], 0.0225)  # doctest: +ELLIPSIS
    [0.0150..., 0.6044...]

    Source: Mocanu et al. 2018, arXiv 1707.04780 (ε(n+m)/(n·m)); Evci et al. 2020, arXiv 1911.11134 (kernels).
    """
    sizes = [math.prod(shape) for shape in shapes]
    raw = [(sum(shape) or 1) / size if size else 0.0 for shape, size in zip(shapes, sizes)]
    dense: set[int] = set()
    while True:
        left = connectivity * sum(sizes) - sum(sizes[i] for i in dense)
        weight = sum(raw[i] * sizes[i] for i in range(len(sizes)) if i not in dense)
        epsilon = left / weight if weight else 0.0
        full = {i for i in range(len(sizes)) if i not in dense and epsilon * raw[i] > 1.0}
        if not full:
            return [1.0 if i in dense else epsilon * raw[i] for i in range(len(sizes))]
        dense |= full


ALLOCATIONS: dict[str, Callable[[Sequence[torch.Size], float], list[float]] | None] = {
    "global": None,
    "scaled": None,
    "uniform": uniform,
    "erk": erdos_renyi_kernel,
}
"""By name; the two without a function rank the synapses of all layers together, as they are (`global`) or
measured by the root mean square of their layer's initial weights (`scaled`)."""


def allocate(sizes: Sequence[int], connectivities: Sequence[float], names: Sequence[str]) -> list[int]:
    """Return whole numbers of synapses per layer, which sum to the rounded total.

    What rounding down leaves over goes to the layers with the largest remainders.

    >>> allocate([100, 10], [0.024, 0.16], ["fc1", "fc2"])  # 2.4 and 1.6: four synapses in all
    [2, 2]

    Raises:
        UsageError: a layer would keep less than one synapse.
    """
    exact = [size * share for size, share in zip(sizes, connectivities)]
    counts = [math.floor(value + 1e-9) for value in exact]
    over = round(sum(exact)) - sum(counts)
    order = sorted(range(len(sizes)), key=lambda i: counts[i] - exact[i])
    for i in order[: max(over, 0)]:
        counts[i] += 1
    for name, size, count, share in zip(names, sizes, counts, connectivities):
        if size and count < 1:
            raise UsageError(
                f"a connectivity of {share:.4%} leaves {name} less than one of its {size:,} synapses; ask for more, "
                "or exclude the layer"
            )
    return [min(count, size) for count, size in zip(counts, sizes)]
