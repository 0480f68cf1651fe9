"""STR, soft threshold weight reparameterisation: every layer learns its own threshold.

For a synapse with weight w = sign(z)·[|z| − d]₊, its layer's threshold d = σ(s) with a learned scalar s, and
g = ∂L/∂w, both gradients are the true ones:

1. ∂L/∂z = g·1[|z| > d];
2. ∂L/∂s = −Σ g·sign(z)·1[|z| > d]·σ'(s), the sum over all synapses of the layer.

Weight decay pulls s to 0, and the threshold up to ½ with it: its rate λ sets how many synapses are left.

Source: Kusupati et al., "Soft Threshold Weight Reparameterization for Learnable Sparsity", ICML 2020,
arXiv 2002.03231.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from synaprune.budget import Schedule
from synaprune.errors import UsageError
from synaprune.optim import latents, soft_threshold
from synaprune.optim.budgeted import Sparsity, budget_options
from synaprune.optim.groups import Group, Params, State
from synaprune.optim.shrinking import Shrinking, number

__all__ = ["STR"]


class STR(Shrinking):
    """Prune with soft thresholds that are learned, or to an exact number of synapses.

    >>> model = torch.nn.Linear(4, 2)
    >>> optimizer = STR(model, lr=1e-2, threshold_decay=2.0)
    >>> model(torch.ones(1, 4)).sum().backward()
    >>> optimizer.step()
    >>> 0.0 <= optimizer.connectivity() <= 1.0
    True

    The scalars are trained by the base optimizer, as the latents are; their weight decay is apart from its moments,
    s ← (1 − ηλ)s, so that λ says the same under every base. Asked for a budget, the thresholds are solved for and no
    scalar is learned: what is left of the method is its gradient.

    Args:
        params: a module, or what any torch optimizer takes (see `Rewirer`).
        lr: learning rate η of the base optimizer.
        threshold_decay: λ; what counts is λ times the sum of the learning rates. Group option.
        s_init: where scalars start; weights start as they are, whatever the threshold. Group option.
        sparsity: a budget in place of `threshold_decay`: share of the synapses that shall be absent in the end, in
            [0, 1), one number or one per name pattern; every `period` steps d is solved for. Group option.
        schedule: when the budget is reached, from `synaprune.budget`: `cubic(steps=…)`. Group option.
        allocation: where a budget's synapses are: "global" ranks all by |z|, "scaled" by |z| over the root mean square
            of the layer's initial weights, "uniform" and "erk" give each layer a number. Group option.
        period: steps from one solution to the next; the schedule's last step is always one. Group option.
        floor: share of the common connectivity below which no layer falls when all are ranked. Group option.
        base: torch optimizer class.
        include: name patterns of tensors that are synapses though no rule of `find_synapses` says so.
        exclude: name patterns of synapses that shall be trained but not rewired.
        margin: the least threshold, at most ½, of a tensor that starts with absent synapses, or gets some from
            outside; ten learning rates if not given. Group option.
        check_finite: refuse a step with non-finite gradients (on the CPU). Group option.
        seed: seed of the coin that gives signs to the weights of a tensor of zeros. Group option.
        base_options: further options of the base; weight decay acts on w, never on a latent.

    Raises:
        UsageError: a value out of range, neither or both of `threshold_decay` and `sparsity`, or a base that cannot
            serve.
    """

    _strength = "threshold_decay"

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        threshold_decay: float | None = None,
        s_init: float = -5.0,
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
            "threshold_decay": threshold_decay,
            "s_init": s_init,
            "gated": True,
            **budget_options(sparsity, schedule, allocation, period, floor),
            "margin": margin,
            "check_finite": check_finite,
            "seed": seed,
        }
        super().__init__(params, defaults, base, {"lr": lr, **base_options}, include, exclude)

    def _check_group(self, group: Group) -> None:
        super()._check_group(group)
        if not math.isfinite(number(group["s_init"])):
            raise UsageError(f"s_init={group['s_init']!r} is not a finite number; thresholds start at σ(s_init)")

    def _margin(self, group: Group) -> float:
        return min(super()._margin(group), 0.5)  # up to which weight decay brings a threshold at most

    def _begin(self, weight: Tensor, group: Group, least: float) -> State:
        if self._has_budget(group):
            return super()._begin(weight, group, least)
        return self._learner(weight, group, max(float(group["s_init"]), logit(least)))

    def _learner(self, weight: Tensor, group: Group, s: float) -> State:
        """Return a scalar s with its threshold; `rest` is what rounding has taken from it."""
        scalar = torch.tensor(s, dtype=latents.latent_dtype(weight), device=weight.device)
        base = self._born(scalar, group)
        return {"scalar": scalar, "scalar_base": base, "rest": 0.0, "threshold": sigmoid(float(scalar))}

    def _adopt(self, weight: Tensor, state: State, group: Group) -> None:
        super()._adopt(weight, state, group)
        if "scalar" in state and state["threshold"] > sigmoid(float(state["scalar"])):
            state["scalar"].fill_(logit(state["threshold"]))
            state["rest"] = 0.0

    def _before(self, weight: Tensor, state: State, group: Group) -> None:
        """Follow a group that has changed from a strength to a budget or back."""
        if self._has_budget(group):
            for key in ("scalar", "scalar_base", "rest"):
                state.pop(key, None)
        elif "scalar" not in state:
            learner = self._learner(weight, group, logit(min(state["threshold"], 0.5)))
            soft_threshold.move(state, learner["threshold"])
            state.update(learner)

    def _pull(self, weight: Tensor, state: State, group: Group) -> Tensor:
        """Return ∂L/∂z, and leave ∂L/∂s with the scalar; σ' = d(1−d)."""
        pull = super()._pull(weight, state, group)
        if "scalar" in state and "absent" not in state:
            latent, d, count = state["latent"], state["threshold"], (pull.numel(),)
            gated = pull
            if group.get("weight_decay"):  # which may be in it, and acts on w alone
                gradient = cast(Tensor, weight.grad).to(latent.dtype)
                gated = self._gate(latents.in_layout_of(latent, gradient), state)
            # In whatever layout, which both share.
            slope = gated.as_strided(count, (1,)).dot(latent.sign().as_strided(count, (1,)))
            state["scalar"].grad = slope.mul_(d * (d - 1.0))
        return pull

    @contextmanager
    def _base_sees_latents(self) -> Iterator[None]:
        """Let the base move one more tensor per weight: its scalar."""
        rows = [(group, self.state[weight]) for group, weight in self._rewired() if weight.grad is not None]
        learning = [(group, state) for group, state in rows if "scalar" in state and "absent" not in state]
        try:
            with super()._base_sees_latents():
                for group, state in learning:
                    group["params"] = [*group["params"], state["scalar"]]
                    self._base.state[state["scalar"]] = state["scalar_base"]
                yield
                for _, state in learning:
                    state["scalar_base"] = self._base.state.pop(state["scalar"])
        finally:
            for _, state in learning:
                state["scalar"].grad = None

    def _next(self, state: State, group: Group) -> float:
        if "scalar" not in state:
            return float(state["threshold"])  # it is solved for
        if decay := float(group["lr"]) * float(group["threshold_decay"]):
            s = (float(state["scalar"]) + state["rest"]) * max(1.0 - decay, 0.0)
            state["scalar"].fill_(s)
            state["rest"] = s - float(state["scalar"])  # a tiny decay would be lost to rounding, step by step
        return sigmoid(float(state["scalar"]))


def sigmoid(s: float) -> float:
    """Return σ(s), also far away from 0."""
    return math.exp(s) / (1.0 + math.exp(s)) if s < 0.0 else 1.0 / (1.0 + math.exp(-s))


def logit(threshold: float) -> float:
    """Return the s with σ(s) = d; −∞ for 0."""
    return math.log(threshold / (1.0 - threshold)) if threshold > 0.0 else -math.inf
