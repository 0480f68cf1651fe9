"""Static random sparsity: synapses are drawn at random before training, and none comes or goes.

The baseline that every method of pruning has to beat. How they are drawn, and their weights scaled, is in
`topology.draw`; sources are named there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from synaprune.optim.groups import Group, Params, Sparsity
from synaprune.optim.maps.masked import Masked
from synaprune.optim.rewirer import Rewirer
from synaprune.optim.row import Row
from synaprune.optim.topology import budget, draw

__all__ = ["Static", "StaticRule"]


class StaticRule(Masked):
    """A mask that is drawn once."""

    draws = True
    fixed = draw.AT_ONCE
    ignores = ("schedule",)  # as sparse as it stays from the first step on

    def check(self, group: Group, layers: budget.Layers) -> None:
        """Refuse an allocation by rank."""
        super().check(group, layers)
        draw.refuse_ranking(self.method, group)

    def draw(self, new: list[Row], rows: list[Row], layers: budget.Layers) -> None:
        """Draw what the allocation gives each layer."""
        draw.masked(new, rows, layers.plan(rows[0].group).layers or [])

    def due(self, group: Group, always: bool) -> bool:
        """None comes or goes."""
        return False


class Static(Rewirer):
    """Train a random subset of the synapses, drawn when the optimizer is made.

    >>> model = torch.nn.Linear(4, 2)
    >>> optimizer = Static(model, lr=1e-2, sparsity=0.75)
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
        allocation: str = "erk",
        rescale: bool = True,
        base: type[Optimizer] = torch.optim.Adam,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        check_finite: bool = True,
        seed: int = 0,
        **base_options: Any,
    ) -> None:
        super().__init__(StaticRule(), locals())
