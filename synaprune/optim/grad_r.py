"""Grad R: pruning and rewiring by one signed latent per synapse.

For a synapse with weight w = s·relu(θ), frozen sign s and gradient g = ∂L/∂w:

1. the redefined gradient ∂L/∂θ := s·g reaches θ whether the synapse exists (θ > 0) or not;
2. a Laplace prior on θ with rate α and centre μ = ln(2(1−p))/α, for which P(θ ≤ 0) = p, adds the decoupled
   drift −η̃·α·sign(θ−μ), with θ as it was before the base step and η̃ = η/(1−β₁ⁿ), or η̃ = η for bases that do
   not correct a first moment.

Source: Chen, Yu, Fang, Huang, Tian, "Pruning of Deep Spiking Neural Networks through Gradient Rewiring",
IJCAI 2021, arXiv 2105.04916; the bias correction of the drift follows the code released with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from synaprune.budget import FORMS, Schedule
from synaprune.errors import UsageError
from synaprune.optim import bases, threshold
from synaprune.optim.budgeted import Budgeted, Sparsity, budget_options
from synaprune.optim.groups import Group, Params, State
from synaprune.optim.prior import centre, target, warn_if_inert

__all__ = ["GradR"]


AUTO = "auto"


class GradR(Budgeted):
    """Train while synapses compete: replace the optimizer line by this one.

    >>> import torch
    >>> model = torch.nn.Linear(4, 2)
    >>> optimizer = GradR(model, lr=1e-2, alpha=0.1)
    >>> model(torch.ones(1, 4)).sum().backward()
    >>> optimizer.step()
    >>> 0.0 <= optimizer.connectivity() <= 1.0
    True

    Asked for a budget (`sparsity` with a `schedule`), it solves for the strength of the prior instead of being
    told: every `period` steps the threshold becomes the order statistic of θ that leaves exactly the planned
    number of synapses, and in between it moves on at the rate of the last intervals.

    >>> from synaprune.budget import cubic
    >>> optimizer = GradR(model, lr=1e-2, sparsity=0.75, schedule=cubic(steps=1))
    >>> model(torch.ones(1, 4)).sum().backward()
    >>> optimizer.step()
    >>> optimizer.connectivity()
    0.25

    Args:
        params: a module, or what any torch optimizer takes (see `Rewirer`).
        lr: learning rate η of the base optimizer.
        sparsity: share of the synapses that shall be absent in the end, in [0, 1): one number, or one per name
            pattern (`{"fc1.*": 0.99, "*": 0.9}`). With a number for `alpha` it is the prior's p in [0.5, 1), which
            only sets where its centre lies (0.95 if not given). Group option.
        alpha: rate α of the prior, per unit of θ: a number, the published form (1e-3 if no sparsity is given
            either), or "auto", a budget. Group option.
        schedule: when the budget is reached, from `synaprune.budget`: `cubic(steps=…)`. Group option.
        allocation: where a budget's synapses are: "global" ranks all by θ, "scaled" by θ over the root mean square
            of the layer's initial weights, "uniform" and "erk" give each layer a number. Group option.
        period: steps from one solution to the next; the schedule's last step is always one. Group option.
        floor: share of the common connectivity below which no layer falls when all are ranked. Group option.
        base: torch optimizer class; all but LBFGS, Muon and SparseAdam serve.
        include: name patterns of tensors that are synapses though no rule of `find_synapses` says so.
        exclude: name patterns of synapses that shall be trained but not rewired.
        margin: how far below the threshold an absent synapse of a pruned network starts; ten learning rates
            if not given. Group option.
        check_finite: refuse a step with non-finite gradients (on the CPU). Group option.
        seed: seed of the coin that gives signs to weights that start at 0. Group option.
        compile_projection: write the weights by one compiled kernel, and keep signs in one byte.
        base_options: further options of the base, for instance `betas` or `weight_decay`; weight decay acts on
            w, never on a latent.

    Raises:
        UsageError: a value out of range, or a base that cannot serve.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        sparsity: Sparsity | None = None,
        alpha: float | str | None = None,
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
        compile_projection: bool = False,
        **base_options: Any,
    ) -> None:
        if alpha is None:
            asked = sparsity is not None or schedule is not None or any(form in base_options for form in FORMS)
            alpha = AUTO if asked else 1e-3
        defaults = {
            "alpha": alpha,
            **budget_options(sparsity, schedule, allocation, period, floor),
            "margin": margin,
            "check_finite": check_finite,
            "seed": seed,
        }
        super().__init__(params, defaults, base, {"lr": lr, **base_options}, include, exclude, compile_projection)
        if sparsity is not None:
            warn_if_inert(group for group in self._rewiring_groups() if not self._has_budget(group))

    def _has_budget(self, group: Group) -> bool:
        return bool(group["alpha"] == AUTO)

    def _check_group(self, group: Group) -> None:
        super()._check_group(group)
        if not self._has_budget(group):
            centre(group["alpha"], target(group))
            if group["schedule"] is not None:
                raise UsageError(
                    f"a schedule belongs to a budget, but alpha={group['alpha']} fixes the strength of the prior; "
                    "leave out one of the two"
                )

    def _start(self, weight: Tensor, group: Group, seed: int) -> State:
        moved = {"lowest": threshold.LOWEST, "carried": 0}
        return {**super()._start(weight, group, seed), **threshold.PACE, **moved}

    def _before(self, weight: Tensor, state: State, group: Group) -> tuple[float, Tensor | None]:
        """Return this step's η̃·α and, where the centre can act, 1 − sign(θ−μ) with θ as it is now."""
        rate = float(group["lr"])
        if self._has_budget(group):
            return rate * state["alpha"], None
        amount = rate / bases.bias_correction(self._base, group, state["steps"] + 1) * float(group["alpha"])
        mu = centre(group["alpha"], target(group))
        beyond = None
        # `lowest` is a lower bound on θ: measured, then lowered by the longest move of every step, so that a
        # pass over all synapses comes again only when the bound no longer rules the centre out.
        if mu > -math.inf and not state["lowest"] > mu and weight.numel():
            state["lowest"] = min(-float(torch.linalg.vector_norm(state["latent"], math.inf)) - state["offset"], 0.0)
            if state["lowest"] <= mu:
                theta = state["latent"] * state["sign"] - state["offset"]
                state["lowest"] = min(float(theta.min()), 0.0)
                if state["lowest"] <= mu:
                    beyond = 1.0 - torch.sign(theta - mu)
        if rate:
            lowest = state["lowest"] - amount - rate * bases.longest_move(self._base, group)
            state["lowest"] = max(lowest, threshold.LOWEST)
        return amount, beyond

    def _after(self, weight: Tensor, state: State, group: Group, note: tuple[float, Tensor | None]) -> None:
        """Let every θ drift down by η̃·α, and bring back up what already lay at or below the centre."""
        amount, beyond = note
        if beyond is not None:
            threshold.lift(state, beyond * amount)
        threshold.drift(state, amount)
        if self._has_budget(group):
            self._press(state, group, amount)

    def _score(self, weight: Tensor, state: State) -> Tensor:
        threshold.fold(state)
        return (state["latent"] * state["sign"]).sub_(state["offset"])

    def _fall(self, state: State) -> float:
        """Return how far a solve may lower the threshold: as far as it has drifted up since the last one.

        Early in a descent many are missing, and a threshold free to fall would lift living weights threefold at once.
        """
        return max(float(state["shift"]), 0.0)

    def _leave(self, weight: Tensor, state: State, group: Group, count: int, bound: float | None) -> tuple[int, float]:
        before = state["offset"]
        floated = threshold.leave(state, count, None if bound is None else before + bound, self._fall(state))
        return floated, state["offset"] - before
