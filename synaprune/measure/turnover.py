"""Turnover: synapses that were lost and synapses that came back between two moments."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from synaprune.errors import UsageError

__all__ = ["Turnover", "turnover"]


class Turnover(NamedTuple):
    """Numbers of synapses; one that came and went in between is in neither."""

    pruned: int
    regrown: int


def turnover(before: Tensor, after: Tensor) -> Turnover:
    """Compare two boolean masks of the same synapses, True where one exists.

    Raises `UsageError` for masks of different shapes or other types.

    >>> turnover(torch.tensor([True, True, False]), torch.tensor([False, True, True]))
    Turnover(pruned=1, regrown=1)
    """
    if before.shape != after.shape or before.dtype != torch.bool or after.dtype != torch.bool:
        raise UsageError(
            "turnover needs two boolean masks of one shape, not "
            f"{before.dtype} {tuple(before.shape)} and {after.dtype} {tuple(after.shape)}"
        )
    return Turnover(int(torch.count_nonzero(before & ~after)), int(torch.count_nonzero(after & ~before)))
