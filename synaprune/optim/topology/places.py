"""Places: which values of a tensor are not 0, as an ascending list of where they lie in memory.

Where few are, work on them is a fraction of work on all. On the CPU numpy edits such lists, for it can go on from
what is sorted already.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["flat", "occupied", "union", "vacant", "without"]


def flat(values: Tensor) -> Tensor:
    """Return all values of a tensor without gaps in the order in which they lie in memory."""
    return values.as_strided((values.numel(),), (1,))


def occupied(values: Tensor) -> Tensor:
    """Return the places that are not 0.

    >>> occupied(torch.tensor([[0.0, 3.0], [2.0, 0.0]]))
    tensor([1, 2])
    """
    return flat(values).nonzero().squeeze(1)


def vacant(places: Tensor, ranks: Tensor) -> Tensor:
    """Return which places have these ranks, 0 first, among those that are not in the list.

    >>> vacant(torch.tensor([1, 2]), torch.tensor([0, 1, 2]))
    tensor([0, 3, 4])
    """
    # Before the j-th place of the list, at a, lie a − j others.
    others = places - torch.arange(len(places), device=places.device)
    return ranks + torch.searchsorted(others, ranks, right=True)


def without(places: Tensor, members: Tensor) -> Tensor:
    """Return the list without its members of these numbers.

    >>> without(torch.tensor([1, 2, 5]), torch.tensor([1]))
    tensor([1, 5])
    """
    if places.device.type == "cpu":
        return torch.from_numpy(np.delete(places.numpy(), members.numpy()))
    return places[torch.ones_like(places, dtype=torch.bool).index_fill_(0, members, False)]


def union(places: Tensor, others: Tensor) -> Tensor:
    """Return both lists as one.

    >>> union(torch.tensor([1, 5]), torch.tensor([0, 2]))
    tensor([0, 1, 2, 5])
    """
    both = torch.cat((places, others))
    if both.device.type == "cpu":
        both.numpy().sort(kind="stable")  # the kind that merges
        return both
    return both.sort().values
