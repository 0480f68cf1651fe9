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
from synaprune.optim.budgeted import Sparsity, budget_options
from synaprune.optim.groups import Group, Params, State
from synaprune.optim.shrinking import Shrinking

__all__ = ["STDS"]


class STDS(Shrinking):
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
        params: a module, or what any torch optimizer takes (see `Rewirer`).
        lr: learning rate of the base optimizer.
        threshold: D, the threshold at the end of the schedule, in the unit of the weights. Group option.
        schedule: from `synaprune.budget`, with the number of training steps: the course of the threshold (published:
            `sine`, `linear`) or, with a budget, of the number of synapses. Group option.
        gated: take the true gradient instead of the straight-through one. Group option.
        sparsity: a budget in place of `threshold`: share of the synapses that shall be absent in the end, in [0, 1),
            one number or one per name pattern; every `period` steps d is solved for. Group option.
        allocation: where a budget's synapses are: "global" ranks all by |z|, "scaled" by |z| over the root mean square
            of the layer's initial weights, "uniform" and "erk" give each layer a number. Group option.
        period: steps from one solution to the next; the schedule's last step is always one. Group option.
        floor: share of the common connectivity below which no layer falls when all are ranked. Group option.
        base: torch optimizer class.
        include: name patterns of tensors that are synapses though no rule of `find_synapses` says so.
        exclude: name patterns of synapses that shall be trained but not rewired.
        margin: the least threshold of a tensor that starts with absent synapses, or gets some from outside; ten
            learning rates if not given. Group option.
        check_finite: refuse a step with non-finite gradients (on the CPU). Group option.
        seed: seed of the coin that gives signs to the weights of a tensor of zeros. Group option.
        base_options: further options of the base; weight decay acts on w, never on a latent.

    Raises:
        UsageError: a value out of range, neither or both of `threshold` and `sparsity`, no schedule, or a base that
            cannot serve.
    """

    _strength = "threshold"

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
        defaults = {
            "threshold": threshold,
            "gated": gated,
            **budget_options(sparsity, schedule, allocation, period, floor),
            "margin": margin,
            "check_finite": check_finite,
            "seed": seed,
        }
        super().__init__(params, defaults, base, {"lr": lr, **base_options}, include, exclude)

    def _check_group(self, group: Group) -> None:
        super()._check_group(group)
        if not self._has_budget(group):
            if group["schedule"] is None:
                raise UsageError(
                    "the threshold of STDS follows the training steps, so it needs their number; give "
                    "schedule=sine(steps=…)"
                )
            schedules.check(group["schedule"])

    def _next(self, state: State, group: Group) -> float:
        d: float = state["threshold"]
        if self._has_budget(group):
            return d
        before, now = (schedules.progress(group["schedule"], group["clock"] + i) for i in (0, 1))
        part = (now - before) / (1.0 - before) if before < 1.0 else 1.0
        return d + max(float(group["threshold"]) - d, 0.0) * part
