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
from synaprune.optim import bases
from synaprune.optim.groups import Group, Params, Sparsity
from synaprune.optim.maps import threshold
from synaprune.optim.maps.signed import Signed
from synaprune.optim.prior import centre, target, warn_if_inert
from synaprune.optim.rewirer import Rewirer
from synaprune.optim.row import Row, State
from synaprune.optim.topology import budget

__all__ = ["GradR", "GradRRule"]

AUTO = "auto"


class GradRRule(Signed):
    """A drift of all θ towards the centre of a prior."""

    def has_budget(self, group: Group) -> bool:
        """Tell whether the strength of the prior is to be solved for."""
        return bool(group["alpha"] == AUTO)

    def check(self, group: Group, layers: budget.Layers) -> None:
        """Refuse a prior whose centre does not exist, and a fixed one with a schedule."""
        super().check(group, layers)
        if not self.has_budget(group):
            centre(group["alpha"], target(group))
            if group["schedule"] is not None:
                raise UsageError(
                    f"a schedule belongs to a budget, but alpha={group['alpha']} fixes the strength of the prior; "
                    "leave out one of the two"
                )

    def start(self, t: Row) -> None:
        """Begin without a pressure."""
        super().start(t)
        t.state.update(budget.PACE)
        t.state.update(State(lowest=threshold.LOWEST, carried=0))

    def before(self, t: Row) -> tuple[float, Tensor | None]:
        """Return this step's η̃·α and, where the centre can act, 1 − sign(θ−μ) with θ as it is now."""
        if self.has_budget(t.group):
            return t.rate * t.state["alpha"], None
        base = t.driver.optimizer
        amount = t.rate / bases.bias_correction(base, t.group, t.state["steps"] + 1) * float(t.group["alpha"])
        beyond = self._beyond(t, centre(t.group["alpha"], target(t.group)))
        if t.rate:
            lowest = t.state["lowest"] - amount - t.rate * bases.longest_move(base, t.group)
            t.state["lowest"] = max(lowest, threshold.LOWEST)
        return amount, beyond

    def after(self, t: Row, note: tuple[float, Tensor | None]) -> None:
        """Let every θ drift down by η̃·α, and bring back up what already lay at or below the centre."""
        amount, beyond = note
        if beyond is not None:
            threshold.lift(t.state, beyond * amount)
        threshold.drift(t.state, amount)
        if self.has_budget(t.group):
            budget.press(t, amount)

    def score(self, t: Row) -> Tensor:
        """Return θ."""
        threshold.fold(t.state)
        return (t.state["latent"] * t.state["sign"]).sub_(t.state["offset"])

    def leave(self, t: Row, count: int, bound: float | None) -> tuple[int, float]:
        """Move the threshold so that as many synapses exist."""
        before = t.state["offset"]
        near = None if bound is None else before + bound
        floated = threshold.leave(t.state, count, near, self.fall(t))
        return floated, t.state["offset"] - before

    def fall(self, t: Row) -> float:
        """Return how far a solve may lower the threshold: as far as it has drifted up since the last one.

        Early in a descent many are missing, and a threshold free to fall would lift living weights threefold at once.
        """
        return max(float(t.state["shift"]), 0.0)

    def _beyond(self, t: Row, mu: float) -> Tensor | None:
        """Return 1 − sign(θ−μ), or None where no θ lies at or below μ.

        `lowest` is a lower bound on θ: measured, then lowered by the longest move of every step, so that a pass over
        all synapses comes again only when the bound no longer rules the centre out.
        """
        state = t.state
        if mu == -math.inf or state["lowest"] > mu or not t.weight.numel():
            return None
        state["lowest"] = min(-float(torch.linalg.vector_norm(state["latent"], math.inf)) - state["offset"], 0.0)
        if state["lowest"] > mu:
            return None
        theta = state["latent"] * state["sign"] - state["offset"]
        state["lowest"] = min(float(theta.min()), 0.0)
        return 1.0 - torch.sign(theta - mu) if state["lowest"] <= mu else None


class GradR(Rewirer):
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
        sparsity: share of the synapses that shall be absent in the end, in [0, 1): one number, or one per name
            pattern (`{"fc1.*": 0.99, "*": 0.9}`). With a number for `alpha` it is the prior's p in [0.5, 1), which
            only sets where its centre lies (0.95 if not given). Group option.
        alpha: rate α of the prior, per unit of θ: a number, the published form (1e-3 if no sparsity is given
            either), or "auto", a budget. Group option.
        schedule: when the budget is reached, from `synaprune.budget`: `cubic(steps=…)`. Group option.

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
        super().__init__(GradRRule(compile_projection), locals())
        if sparsity is not None:
            warn_if_inert(group for group in self._rewiring_groups() if not self.rule.has_budget(group))
