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
from synaprune.optim.budgeted import Sparsity, budget_options
from synaprune.optim.groups import Params
from synaprune.optim.masked import Masked

__all__ = ["Magnitude", "MagnitudeSTE"]


class Magnitude(Masked):
    """Prune the smallest weights for good.

    >>> from synaprune.budget import constant
    >>> model = torch.nn.Linear(4, 2)
    >>> optimizer = Magnitude(model, lr=1e-2, sparsity=0.75, schedule=constant(steps=1))
    >>> model(torch.ones(1, 4)).sum().backward()
    >>> optimizer.step()
    >>> optimizer.connectivity()
    0.25

    Args:
        params: a module, or what any torch optimizer takes (see `Rewirer`).
        lr: learning rate of the base optimizer.
        sparsity: share of the synapses that shall be absent in the end, in [0, 1): one number, or one per name
            pattern. Group option.
        schedule: when the budget is reached, from `synaprune.budget`: `cubic(steps=…)`. Group option.
        allocation: where the synapses are: "global" ranks all by |w|, "scaled" by |w| over the root mean square of the
            layer's initial weights, "uniform" and "erk" give each layer a number. Group option.
        period: steps from one pruning to the next; the schedule's last step is always one. Group option.
        floor: share of the common connectivity below which no layer falls when all are ranked. Group option.
        base: torch optimizer class.
        include: name patterns of tensors that are synapses though no rule of `find_synapses` says so.
        exclude: name patterns of synapses that shall be trained but not pruned.
        check_finite: refuse a step with non-finite gradients (on the CPU). Group option.
        base_options: further options of the base.

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
        budget = budget_options(sparsity, schedule, allocation, period, floor)
        defaults = {**budget, "check_finite": check_finite}
        super().__init__(params, defaults, base, {"lr": lr, **base_options}, include, exclude)


class MagnitudeSTE(Magnitude):
    """Prune the smallest weights, which go on learning and may return; options as `Magnitude`."""

    straight_through = True
