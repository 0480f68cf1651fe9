"""STDS, state transition of dendritic spines: a soft threshold that rises along a schedule.

For a synapse with weight w = sign(z)·[|z| − d]₊ and gradient g = ∂L/∂w:

1. ∂L/∂z := g, whether the synapse exists (a spine, |z| > d) or not (a filopodium, |z| ≤ d); or the true gradient, 0
   for a filopodium;
2. after n of N steps d = D·f(n/N), with f(x) = ½(1 + sin π(x−½)) or f(x) = x, the same d for all layers. A tensor that
   is not there (it began with a dead zone, it has rested, D has changed) takes as large a part of the way to D.

Source: Chen, Yu, Fang, Ma, Huang, Tian, "State Transition of Dendritic Spines Improves Learning of Sparse Spiking
Neural Networks", ICML 2022, PMLR 162, pp. 3701-3715.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from synaprune.budget import Schedule
from synaprune.budget import schedule as schedules
from synaprune.errors import UsageError
from synaprune.optim.groups import Group, Params, Sparsity
from synaprune.optim.maps.soft import Soft
from synaprune.optim.rewirer import Rewirer
from synaprune.optim.row import Row
from synaprune.optim.topology import budget

__all__ = ["STDS", "STDSRule"]


class STDSRule(Soft):
    """A threshold that follows a schedule."""

    strength = "threshold"

    def check(self, group: Group, layers: budget.Layers) -> None:
        """Refuse a threshold without a schedule."""
        super().check(group, layers)
        if not self.has_budget(group):
            if group["schedule"] is None:
                raise UsageError(
                    "the threshold of STDS follows the training steps, so it needs their number; give "
                    "schedule=sine(steps=…)"
                )
            schedules.check(group["schedule"])

    def next(self, t: Row) -> float:
        """Return the threshold (2); that of a budget stays until it is solved for."""
        d, schedule = t.state["threshold"], t.group["schedule"]
        if self.has_budget(t.group):
            return d
        before, now = (schedules.progress(schedule, t.group["clock"] + i) for i in (0, 1))
        part = (now - before) / (1.0 - before) if before < 1.0 else 1.0
        return d + max(float(t.group["threshold"]) - d, 0.0) * part


class STDS(Rewirer):
    """Prune with a soft threshold that rises along a schedule, or to an exact number of synapses.

    >>> from synaprune.budget import sine
    >>> model = torch.nn.Linear(4, 2)
    >>> optimizer = STDS(model, lr=1e-2, threshold=0.3, schedule=sine(steps=100))
    >>> optimizer = STDS(model, lr=1e-2, sparsity=0.75, schedule=sine(steps=1))
    >>> model(torch.ones(1, 4)).sum().backward()
    >>> optimizer.step()
    >>> optimizer.connectivity()
    0.25

    Args:
        schedule: from `synaprune.budget`, with the number of training steps: the course of the threshold (published:
            `sine`, `linear`) or, with a budget, of the number of synapses. Group option.
        sparsity: a budget in place of `threshold`: share of the synapses that shall be absent in the end, in [0, 1),
            one number or one per name pattern; every `period` steps d is solved for. Group option.

    Raises:
        UsageError: a value out of range, neither or both of `threshold` and `sparsity`, no schedule, or a base that
            cannot serve.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        threshold: float | None = None,
        schedule: Schedule | None = None,
        gated: bool = False,
        sparsity: Sparsity | None = None,
        allocation: str = "global",
        period: int = 16,
        floor: float = 0.1,
        base: type[Optimizer] = torch.optim.Adam,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        margin: float | None = None,
        check_finite: bool = True,
        seed: int = 0,
        **base_options: Any,
    ) -> None:
        super().__init__(STDSRule(), locals())
