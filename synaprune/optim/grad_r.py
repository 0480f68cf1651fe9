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
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from synaprune.errors import UsageError
from synaprune.optim import bases, latents
from synaprune.optim.groups import Group, Params
from synaprune.optim.latent_optimizer import State
from synaprune.optim.rewirer import Rewirer

__all__ = ["GradR"]


class GradR(Rewirer):
    """Train while synapses compete: replace the optimizer line by this one.

    >>> import torch
    >>> model = torch.nn.Linear(4, 2)
    >>> optimizer = GradR(model, lr=1e-2, alpha=0.1)
    >>> model(torch.ones(1, 4)).sum().backward()
    >>> optimizer.step()
    >>> 0.0 <= optimizer.connectivity() <= 1.0
    True

    Args:
        params: a module, or what any torch optimizer takes (see `Rewirer`).
        lr: learning rate η of the base optimizer.
        alpha: rate α of the prior, per unit of θ; the strength of the pressure towards sparsity. Group option.
        sparsity: with a number for `alpha`, the prior's target p in [0.5, 1), which only sets where its centre
            lies (0.95 if not given). Group option.
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
        sparsity: float | None = None,
        alpha: float | str | None = None,
        schedule: Any = None,
        base: type[Optimizer] = torch.optim.Adam,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        margin: float | None = None,
        check_finite: bool = True,
        seed: int = 0,
        compile_projection: bool = False,
        **base_options: Any,
    ) -> None:
        if alpha == "auto" or schedule is not None or (alpha is None and sparsity is not None):
            raise UsageError(
                "asking GradR for a connectivity (alpha='auto', a schedule, or sparsity without alpha) is not built "
                "yet; give alpha a number, for instance alpha=1e-3"
            )
        defaults = {
            "alpha": 1e-3 if alpha is None else alpha,
            "sparsity": 0.95 if sparsity is None else sparsity,
            "margin": margin,
            "check_finite": check_finite,
            "seed": seed,
        }
        super().__init__(params, defaults, base, {"lr": lr, **base_options}, include, exclude, compile_projection)
        if sparsity is not None:
            self._warn_of_inert_centre()

    def _check_group(self, group: Group) -> None:
        centre(group["alpha"], group["sparsity"])

    def _before(self, weight: Tensor, state: State, group: Group) -> tuple[float, Tensor | None]:
        """Return this step's η̃·α and, where the centre can act, 1 − sign(θ−μ) with θ as it is now."""
        rate = float(group["lr"])
        amount = rate / bases.bias_correction(self._base, group, state["steps"] + 1) * float(group["alpha"])
        mu = centre(group["alpha"], group["sparsity"])
        beyond = None
        # `lowest` is a lower bound on θ: measured, then lowered by the longest move of every step, so that a
        # pass over all synapses comes again only when the bound no longer rules the centre out.
        if mu > -math.inf and not state.get("lowest", -math.inf) > mu and weight.numel():
            state["lowest"] = min(-float(torch.linalg.vector_norm(state["latent"], math.inf)) - state["offset"], 0.0)
            if state["lowest"] <= mu:
                theta = state["latent"] * state["sign"] - state["offset"]
                state["lowest"] = min(float(theta.min()), 0.0)
                if state["lowest"] <= mu:
                    beyond = 1.0 - torch.sign(theta - mu)
        if rate and "lowest" in state:
            state["lowest"] -= amount + rate * bases.longest_move(self._base, group)
        return amount, beyond

    def _after(self, weight: Tensor, state: State, group: Group, note: tuple[float, Tensor | None]) -> None:
        """Let every θ drift down by η̃·α, and bring back up what already lay at or below the centre."""
        amount, beyond = note
        if beyond is not None:
            latents.lift(state, beyond * amount)
        latents.drift(state, amount)

    def _warn_of_inert_centre(self) -> None:
        for group in self._rewiring_groups():
            mu = centre(group["alpha"], group["sparsity"])
            per_step = float(group["lr"]) * group["alpha"]
            if math.isfinite(mu) and per_step and -mu / per_step > 1e6:
                warnings.warn(
                    f"sparsity={group['sparsity']} will hardly act: the prior's centre μ = {mu:.4g} lies "
                    f"{-mu / per_step:.1e} steps of drift away; alpha and the number of steps set the connectivity",
                    stacklevel=3,
                )
                return


def centre(alpha: float, sparsity: float) -> float:
    """Return the prior's centre μ = ln(2(1−p))/α, at which P(θ ≤ 0) = p (Grad R, section 3); −∞ for α = 0.

    >>> round(centre(0.1, 0.95), 4)
    -23.0259

    Raises:
        UsageError: α is negative or no number, or p lies outside [0.5, 1).
    """
    try:
        alpha, sparsity = float(alpha), float(sparsity)
    except (TypeError, ValueError) as error:
        raise UsageError(f"alpha={alpha!r} and sparsity={sparsity!r} must be numbers in a rewired group") from error
    if not 0.0 <= alpha < math.inf:
        raise UsageError(f"alpha={alpha!r} is not a finite number of at least 0; the published default is 1e-3")
    if not 0.5 <= sparsity < 1.0:
        raise UsageError(
            f"sparsity={sparsity!r} lies outside [0.5, 1), where the prior's centre exists; the default is 0.95"
        )
    return math.log(2.0 * (1.0 - sparsity)) / alpha if alpha > 0 else -math.inf
