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
from synaprune.optim.groups import Group, Params, Sparsity
from synaprune.optim.maps.soft import Soft
from synaprune.optim.rewirer import Rewirer
from synaprune.optim.row import Row
from synaprune.optim.topology import budget

__all__ = ["LATS", "LATSRule", "strength"]


class LATSRule(Soft):
    """A threshold that rises with the learning rate."""

    strength = "alpha"

    def check(self, group: Group, layers: budget.Layers) -> None:
        """Refuse a homotopy without a course, and a course of nothing."""
        super().check(group, layers)
        beta, schedule = group["beta"], group["schedule"]
        if self.has_budget(group):
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

    def next(self, t: Row) -> float:
        """Return d + ηλ·βˣ (2, 3); under a budget, λ is that of the last intervals."""
        d, group = float(t.state["threshold"]), t.group
        if self.has_budget(group):
            rise = max(t.rate * t.state["alpha"], -d)
            budget.press(t, rise)
            return d + rise
        beta = float(group["beta"])
        x = schedules.progress(group["schedule"], group["clock"]) if beta != 1.0 else 0.0
        return d + t.rate * float(group["alpha"]) * beta**x


class LATS(Rewirer):
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
        alpha: λ, by how much the threshold rises per unit of learning rate. Group option.
        sparsity: a budget in place of `alpha`: share of the synapses that shall be absent in the end, in [0, 1), one
            number or one per name pattern. Group option.
        schedule: from `synaprune.budget`, with the number of training steps: the course of a budget's number of
            synapses, or of x. Group option.

    Raises:
        UsageError: a value out of range, neither or both of `alpha` and `sparsity`, a `beta` without a schedule, or a
            base that cannot serve.
    """

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
        super().__init__(LATSRule(), locals())


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
