"""SET, sparse evolutionary training: the weakest synapses are dropped, as many are grown at random.

The network is sparse from its first forward pass and the number of synapses of each layer never changes. When and how
synapses are exchanged is in `topology.drop_grow`; the densities of the layers are those of `topology.draw`.

Source: Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse connectivity inspired by
network science", Nature Communications 2018, arXiv 1707.04780.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from synaprune.budget import Schedule
from synaprune.errors import UsageError
from synaprune.optim.groups import Group, Params, Sparsity
from synaprune.optim.maps.masked import Masked
from synaprune.optim.rewirer import Rewirer
from synaprune.optim.row import Row
from synaprune.optim.topology import budget, draw, drop_grow

__all__ = ["SET", "Exchanging"]


class Exchanging(Masked):
    """A mask that is drawn, and a part of which is exchanged from time to time."""

    draws = True
    fixed = {"floor": 0.0}  # noqa: RUF012 - nobody changes it

    def __init__(self) -> None:
        # The base moves what is absent too, for nothing but its moving average: a newborn begins anew, and to spare
        # the base these gradients would cost a pass over all synapses.
        super().__init__(straight_through=True)

    def check(self, group: Group, layers: budget.Layers) -> None:
        """Refuse exchanges that make no sense, and an allocation by rank."""
        if group["schedule"] is None:
            raise UsageError(f"{self.method} has to know the number of training steps; give schedule=cosine(steps=…)")
        super().check(group, layers)
        draw.refuse_ranking(self.method, group)
        drop_grow.check(group)

    def draw(self, new: list[Row], rows: list[Row], layers: budget.Layers) -> None:
        """Draw what the allocation gives each layer."""
        draw.masked(new, rows, layers.plan(rows[0].group).layers or [])

    def landed(self, t: Row) -> None:
        """Let a weight that has landed on exactly 0 count; no other is moved."""
        drop_grow.land(t)

    def leave(self, t: Row, count: int, bound: float | None) -> None:
        """Make up for what others have written into the weights."""
        drop_grow.complete(t, count)

    def exchange(self, rows: list[Row]) -> None:
        """Drop the weakest, and grow as many."""
        drop_grow.exchange(rows, rows[0].group["schedule"])


class SET(Rewirer):
    """Drop the smallest weights and grow as many synapses at random.

    >>> from synaprune.budget import cosine
    >>> model = torch.nn.Linear(4, 2)
    >>> optimizer = SET(model, lr=1e-2, sparsity=0.75, schedule=cosine(steps=1000))
    >>> optimizer.connectivity()
    0.25

    Args:
        schedule: how the drop fraction falls over the training, from `synaprune.budget`: `cosine(steps=…)`;
            `constant(steps=…)` for one that does not fall. Group option.
        growth: which synapses are grown: "random"; "gradient", of the largest |∂L/∂w|; "momentum", of the base's
            largest moving average of ∂L/∂w. Group option.

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
        drop: float = 0.3,
        drop_end: float = 0.75,
        period: int = 100,
        growth: str = "random",
        allocation: str = "erk",
        rescale: bool = False,
        base: type[Optimizer] = torch.optim.Adam,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        check_finite: bool = True,
        seed: int = 0,
        **base_options: Any,
    ) -> None:
        super().__init__(Exchanging(), locals())
