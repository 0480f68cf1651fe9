"""LATS: a soft threshold that rises with the learning rate, so that it presses equally hard all along.

For a synapse with weight w = sign(z)·[|z| − d]₊ and gradient g = ∂L/∂w:

1. ∂L/∂z := g, whether the synapse exists or not;
2. such a step is one of iterative shrinkage (ISTA) for L + λ‖w‖₁ with λ = Δd/η. The same λ in all steps gives
   d ← d + λη: the threshold is the normalised sum of the learning rates, d = D·Σ_{k≤n} η_k / Σ_{k≤N} η_k. Published
   closed forms are for a cosine rate: LATS where it falls once per epoch, S-LATS, d = D(x + sin(πx)/π) at x = n/N,
   where it falls in every step;
3. PGH: λ·βˣ in place of λ, strong at first for β < 1, strong at last for β > 1.

Source: Chen, Ma, Fang, Zheng, Yu, Tian, "A Unified Framework for Soft Threshold Pruning", ICLR 2023, arXiv 2302.13019.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from synaprune.budget import Schedule
from synaprune.budget import schedule as schedules
from synaprune.errors import UsageError
from synaprune.optim.budgeted import Sparsity, budget_options
from synaprune.optim.groups import Group, Params, State
from synaprune.optim.shrinking import Shrinking, number

__all__ = ["LATS", "strength"]


class LATS(Shrinking):
    """Prune with a soft threshold that rises with the learning rate, or to an exact number of synapses.

    `alpha` is the λ of the paper and the same strength as that of Grad R: whatever the learning rate does, warm-up
    included, every step takes η·alpha from every synapse. Where the threshold ends is alpha times the sum of the
    learning rates; `strength` turns an end D and the rates of all steps into alpha.

    >>> model = torch.nn.Linear(4, 2)
    >>> optimizer = LATS(model, lr=1e-2, alpha=strength(0.3, [1e-2] * 100))
    >>> optimizer.param_groups[0]["alpha"]
    0.3

    Asked for a budget, it solves for the threshold instead: every `period` steps that becomes the order statistic of
    |z| that leaves exactly the planned number of synapses, and in between it rises with the learning rate, as
    strongly as over the last intervals.

    >>> from synaprune.budget import cubic
    >>> optimizer = LATS(model, lr=1e-2, sparsity=0.75, schedule=cubic(steps=1))
    >>> model(torch.ones(1, 4)).sum().backward()
    >>> optimizer.step()
    >>> optimizer.connectivity()
    0.25

    Args:
        params: a module, or what any torch optimizer takes (see `Rewirer`).
        lr: learning rate η of the base optimizer.
        alpha: λ, by how much the threshold rises per unit of learning rate. Group option.
        beta: with a `schedule` of progress x, the strength is alpha·βˣ (PGH). Group option.
        gated: take the true gradient instead of the straight-through one. Group option.
        sparsity: a budget in place of `alpha`: share of the synapses that shall be absent in the end, in [0, 1), one
            number or one per name pattern. Group option.
        schedule: from `synaprune.budget`, with the number of training steps: the course of a budget's number of
            synapses, or of x. Group option.
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
        UsageError: a value out of range, neither or both of `alpha` and `sparsity`, a `beta` without a schedule, or a
            base that cannot serve.
    """

    _strength = "alpha"

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        alpha: float | None = None,
        beta: float = 1.0,
        gated: bool = False,
        sparsity: Sparsity | None = None,
        schedule: Schedule | None = None,
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
            "alpha": alpha,
            "beta": beta,
            "gated": gated,
            **budget_options(sparsity, schedule, allocation, period, floor),
            "margin": margin,
            "check_finite": check_finite,
            "seed": seed,
        }
        super().__init__(params, defaults, base, {"lr": lr, **base_options}, include, exclude)

    def _check_group(self, group: Group) -> None:
        super()._check_group(group)
        beta, schedule = group["beta"], group["schedule"]
        if not 0.0 < number(beta) < math.inf:
            raise UsageError(f"beta={beta!r} is not a finite number above 0; 1 weights all learning rates alike")
        if self._has_budget(group):
            if beta != 1.0:
                raise UsageError(f"beta={beta} weights a given strength, but a budget solves for it; leave out one")
        elif beta != 1.0 and schedule is None:
            raise UsageError(f"beta={beta} follows the progress of training; give schedule=linear(steps=…)")
        elif beta == 1.0 and schedule is not None:
            raise UsageError(
                f"a schedule belongs to a budget or to a beta, but alpha={group['alpha']} is the same in all steps; "
                "leave out one of the two"
            )
        elif schedule is not None:
            schedules.check(schedule)

    def _next(self, state: State, group: Group) -> float:
        rate, d = float(group["lr"]), float(state["threshold"])
        if self._has_budget(group):
            rise = max(rate * state["alpha"], -d)
            self._press(state, group, rise)
            return d + rise
        beta = float(group["beta"])
        x = schedules.progress(group["schedule"], group["clock"]) if beta != 1.0 else 0.0
        return d + rate * float(group["alpha"]) * beta**x


def strength(threshold: float, rates: Sequence[float], beta: float = 1.0) -> float:
    """Return the alpha with which the threshold ends at D, if training takes these learning rates.

    alpha = D / Σ η_n·βˣ with x = n/N, over the steps n = 0 … N−1.

    >>> strength(1.0, [0.1] * 50)
    0.2

    Args:
        threshold: D.
        rates: the learning rate of every step.
        beta: that of the homotopy.

    Raises:
        UsageError: the learning rates are all 0.
    """
    total = math.fsum(rate * beta ** (n / len(rates)) for n, rate in enumerate(rates))
    if not total > 0.0:
        raise UsageError("the learning rates sum up to nothing, so that no strength could move a threshold")
    return threshold / total
