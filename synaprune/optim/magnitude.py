"""Gradual magnitude pruning: what is small goes, a little at every period.

The mask keeps the n synapses of the largest |w|, n falling along the schedule:

1. masked: a synapse that is lost learns nothing any more and never comes back;
2. straight-through: its hidden weight z goes on learning from ∂L/∂w as if it were there, and it returns when |z| is
   among the largest again.

Source: Zhu and Gupta, "To prune, or not to prune", 2017, arXiv 1710.01878; straight-through: Bengio, Léonard and
Courville 2013, arXiv 1308.3432, for masks as in Lin et al., "Dynamic Model Pruning with Feedback", ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from synaprune.budget import Schedule
from synaprune.optim.groups import Params, Sparsity
from synaprune.optim.maps.masked import Masked
from synaprune.optim.rewirer import Rewirer

__all__ = ["Magnitude", "MagnitudeSTE"]


class Magnitude(Rewirer):
    """Prune the smallest weights for good.

    >>> from synaprune.budget import constant
    >>> model = torch.nn.Linear(4, 2)
    >>> optimizer = Magnitude(model, lr=1e-2, sparsity=0.75, schedule=constant(steps=1))
    >>> model(torch.ones(1, 4)).sum().backward()
    >>> optimizer.step()
    >>> optimizer.connectivity()
    0.25

    Raises:
        UsageError: a value out of range, or a base that cannot serve.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        sparsity: Sparsity | None = None,
        schedule: Schedule | None = None,
        allocation: str = "global",
        period: int = 16,
        floor: float = 0.1,
        base: type[Optimizer] = torch.optim.Adam,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        check_finite: bool = True,
        **base_options: Any,
    ) -> None:
        super().__init__(Masked(), locals())


class MagnitudeSTE(Rewirer):
    """Prune the smallest weights, which go on learning and may return; options as `Magnitude`."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        sparsity: Sparsity | None = None,
        schedule: Schedule | None = None,
        allocation: str = "global",
        period: int = 16,
        floor: float = 0.1,
        base: type[Optimizer] = torch.optim.Adam,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        check_finite: bool = True,
        **base_options: Any,
    ) -> None:
        super().__init__(Masked(straight_through=True), locals())
