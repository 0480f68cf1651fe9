"""The solver: exactly n synapses, whatever the values and however many are equal.

Ties are common (a fresh uniform layer has about four weights per float32 value, and Adam's first step keeps
them tied); they are broken by position, in the order of the tensors and within each by index.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["cutoff", "largest", "split"]


def cutoff(values: Tensor, count: int) -> float:
    """Return the largest value that is not among the `count` largest; −∞ when all of them are.

    So many values and no more lie above it, but for ties with it.

    >>> cutoff(torch.tensor([0.4, 0.1, 0.3, 0.3]), 1), cutoff(torch.tensor([0.5]), 1)
    (0.30000001192092896, -inf)
    """
    return _cutoff([values], count)


def largest(values: Tensor, count: int, near: float | None = None) -> Tensor:
    """Return which values are the `count` largest: bool, in the values' shape; of equal ones, the first.

    Where just as many lie above `near`, the cutoff need not be looked for.

    >>> largest(torch.tensor([0.1, 0.3, 0.3, 0.3]), 2)
    tensor([False,  True,  True, False])
    """
    if near is not None:
        mask = values > near
        if torch.count_nonzero(mask) == count:
            return mask
    bound = cutoff(values, count)
    mask = values > bound
    missing = count - int(torch.count_nonzero(mask))
    if missing > 0:
        tied = (values == bound).nonzero(as_tuple=True)
        mask[tuple(index[:missing] for index in tied)] = True
    return mask


def split(values: Sequence[Tensor], count: int, floors: Sequence[int]) -> tuple[list[int], float]:
    """Return how many of the `count` largest values lie in each tensor, and the cutoff below which none is taken.

    No tensor gets less than its floor; what a floor takes is taken from the others.
    """
    counts = list(floors)
    free = list(range(len(values)))
    bound = -float("inf")
    while free:
        wanted = count - sum(counts[i] for i in range(len(values)) if i not in free)
        bound = _cutoff([values[i] for i in free], wanted)
        above = {i: int(torch.count_nonzero(values[i] > bound)) for i in free}
        missing = wanted - sum(above.values())
        for i in free:
            tied = min(missing, int(torch.count_nonzero(values[i] == bound))) if missing else 0
            above[i] += tied
            missing -= tied
        short = [i for i in free if above[i] < floors[i]]
        if not short:
            for i in free:
                counts[i] = above[i]
            break
        free = [i for i in free if i not in short]
    return counts, bound


def _cutoff(values: Sequence[Tensor], count: int) -> float:
    flat = [tensor.reshape(-1) for tensor in values]
    rank = sum(tensor.numel() for tensor in flat) - count  # counted from the smallest, 1 first
    if rank <= 0:
        return -float("inf")
    if all(tensor.device.type == "cpu" for tensor in flat):
        # A tenth of the time of torch.kthvalue at tens of millions of values.
        pool = np.concatenate([tensor.numpy() for tensor in flat])
        pool.partition(rank - 1)
        return float(pool[rank - 1])
    return float(torch.cat(flat).kthvalue(rank).values)
