"""GraNet: gradual magnitude pruning, after each round of which a part of the synapses is exchanged.

Inside every `period`-th step, after the base has moved the weights:

1. pruning: the number of synapses falls to what the schedule says, and those of the largest |w| stay, ranked over all
   layers or within each;
2. zero-cost neuroregeneration: in each layer the weakest are dropped and as many with the largest |∂L/∂w| are grown,
   those that 1 has just pruned among them (see `topology.drop_grow`).

Source: Liu et al., "Sparse Training via Boosting Pruning Plasticity with Neuroregeneration", NeurIPS 2021,
arXiv 2106.10404.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from synaprune.budget import ALLOCATIONS, Schedule, allocate, erdos_renyi_kernel
from synaprune.errors import UsageError
from synaprune.optim.groups import Group, Params, Sparsity
from synaprune.optim.maps.masked import Masked
from synaprune.optim.rewirer import Rewirer
from synaprune.optim.row import Row
from synaprune.optim.topology import budget, draw, drop_grow

__all__ = ["GraNet", "GraNetRule"]


class GraNetRule(Masked):
    """A mask that is drawn, pruned, and a part of which is exchanged after each pruning."""

    draws = True

    def __init__(self) -> None:
        super().__init__(straight_through=True)  # as in SET

    def check(self, group: Group, layers: budget.Layers) -> None:
        """Refuse a beginning below the end, and exchanges that make no sense."""
        if group["schedule"] is None:
            raise UsageError(f"{self.method} has to know the number of training steps; give schedule=cubic(steps=…)")
        super().check(group, layers)
        drop_grow.check(group)
        initial, sparsity = group["initial"], group["sparsity"]
        if isinstance(sparsity, int | float) and initial < 1.0 - sparsity:
            raise UsageError(
                f"initial={initial} begins below the connectivity of {1.0 - sparsity:.4g} that sparsity={sparsity} "
                "asks for in the end; give initial=1"
            )
        if isinstance(sparsity, Mapping):
            for name, begin, end in zip(layers.names, _drawn(group, layers), layers.plan(group).layers or []):
                if begin < end:
                    raise UsageError(
                        f"{name} would begin with {begin} synapses and end with {end}, but GraNet only prunes: "
                        f"initial={initial} is too low for sparsity={dict(sparsity)}; give initial=1"
                    )

    def draw(self, new: list[Row], rows: list[Row], layers: budget.Layers) -> None:
        """Draw what `initial` gives each layer."""
        draw.masked(new, rows, _drawn(rows[0].group, layers))

    def landed(self, t: Row) -> None:
        """Let a weight that has landed on exactly 0 count; no other is moved."""
        drop_grow.land(t)

    def score(self, t: Row) -> Tensor:
        """Return |w|, that of absent synapses below all others."""
        return drop_grow.first(t.state["latent"].abs(), t.state["mask"])

    def leave(self, t: Row, count: int, bound: float | None) -> None:
        """Prune (1)."""
        drop_grow.complete(t, count)

    def exchange(self, rows: list[Row]) -> None:
        """Regenerate (2)."""
        group = rows[0].group
        steps = group["schedule"]["steps"]
        drop_grow.exchange(rows, {"name": group["annealing"], "steps": steps, "pause": 0.0, "flat": 0.0})


def _drawn(group: Group, layers: budget.Layers) -> list[int]:
    """Return how many synapses each layer begins with."""
    allocation = ALLOCATIONS[group["allocation"]] or erdos_renyi_kernel
    return allocate(layers.sizes, allocation(layers.shapes, group["initial"]), layers.names)


class GraNet(Rewirer):
    """Prune gradually, and let the gradient exchange a part of what is left.

    >>> from synaprune.budget import cubic
    >>> model = torch.nn.Linear(4, 2)
    >>> optimizer = GraNet(model, lr=1e-2, sparsity=0.75, schedule=cubic(steps=2), period=1)
    >>> optimizer.connectivity()
    0.5
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     model(torch.ones(1, 4)).sum().backward()
    ...     optimizer.step()
    >>> optimizer.connectivity()
    0.25

    Args:
        allocation: where the synapses are: "global" ranks all by |w|, "scaled" by |w| over the root mean square of the
            layer's initial weights, "uniform" and "erk" give each layer a number. The first ones are drawn by "uniform"
            if it is that, else by "erk". Group option.

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
        initial: float = 0.5,
        drop: float = 0.5,
        annealing: str = "cosine",
        drop_end: float = 1.0,
        period: int = 100,
        growth: str = "gradient",
        allocation: str = "global",
        floor: float = 0.1,
        rescale: bool = False,
        base: type[Optimizer] = torch.optim.Adam,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        check_finite: bool = True,
        seed: int = 0,
        **base_options: Any,
    ) -> None:
        super().__init__(GraNetRule(), locals())
