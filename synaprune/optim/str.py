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
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from synaprune.budget import Schedule
from synaprune.optim.groups import Params, Sparsity
from synaprune.optim.maps import soft
from synaprune.optim.maps.soft import Soft
from synaprune.optim.rewirer import Rewirer
from synaprune.optim.row import Row, State, in_layout_of, latent_dtype
from synaprune.optim.topology import budget

__all__ = ["STR", "STRRule"]


class STRRule(Soft):
    """A threshold that is a second latent."""

    strength = "threshold_decay"
    latents = ("latent", "scalar")
    fixed = {"gated": True}  # noqa: RUF012 - nobody changes it
    widest = 0.5  # up to which weight decay brings a threshold at most

    def begin(self, t: Row, least: float) -> float:
        """Return σ(s_init), or what is at least needed."""
        return least if self.has_budget(t.group) else self._learn(t, max(float(t.group["s_init"]), logit(least)))

    def adopt(self, t: Row) -> None:
        """Let the scalar follow where a dead zone had to be made wider."""
        super().adopt(t)
        if "scalar" in t.state and t.state["threshold"] > sigmoid(float(t.state["scalar"])):
            t.state["scalar"].fill_(logit(t.state["threshold"]))
            t.state["rest"] = 0.0

    def changed(self, rows: list[Row], layers: budget.Layers) -> None:
        """Follow a group that has changed from a strength to a budget or back."""
        for t in rows:
            if self.has_budget(t.group):
                for key in ("scalar", "scalar_base", "rest"):
                    t.state.pop(key, None)  # type: ignore[misc]
            elif "scalar" not in t.state:
                soft.move(t.state, self._learn(t, logit(min(t.state["threshold"], 0.5))))

    def pull(self, t: Row, gradient: Tensor) -> dict[str, Tensor]:
        """Return ∂L/∂z (1) and ∂L/∂s (2), where σ' = d(1−d)."""
        pulled = super().pull(t, gradient)
        if "scalar" in t.state and not t.rests:
            latent, d, count = t.state["latent"], t.state["threshold"], (gradient.numel(),)
            gated = pulled["latent"]
            if t.group.get("weight_decay"):  # which may be in it, and acts on w alone
                plain = cast(Tensor, t.weight.grad).to(latent.dtype)
                gated = soft.gate(in_layout_of(latent, plain), t.state)
            # In whatever layout, which both share.
            slope = gated.as_strided(count, (1,)).dot(latent.sign().as_strided(count, (1,)))
            pulled["scalar"] = slope.mul_(d * (d - 1.0))
        return pulled

    def next(self, t: Row) -> float:
        """Return σ(s) after the decay of s; under a budget, what was solved for."""
        state = t.state
        if "scalar" not in state:
            return float(state["threshold"])
        if decay := t.rate * float(t.group["threshold_decay"]):
            s = (float(state["scalar"]) + state["rest"]) * max(1.0 - decay, 0.0)
            state["scalar"].fill_(s)
            state["rest"] = s - float(state["scalar"])  # a tiny decay would be lost to rounding, step by step
        return sigmoid(float(state["scalar"]))

    def _learn(self, t: Row, s: float) -> float:
        """Give a tensor a scalar s, and return its threshold."""
        scalar = torch.tensor(s, dtype=latent_dtype(t.weight), device=t.weight.device)
        t.state.update(
            State(scalar=scalar, scalar_base=t.driver.newborn(scalar, t.group).state.get(scalar, {}), rest=0.0)
        )
        return sigmoid(float(scalar))


class STR(Rewirer):
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
        threshold_decay: λ; what counts is λ times the sum of the learning rates. Group option.
        sparsity: a budget in place of `threshold_decay`: share of the synapses that shall be absent in the end, in
            [0, 1), one number or one per name pattern; every `period` steps d is solved for. Group option.

    Raises:
        UsageError: a value out of range, neither or both of `threshold_decay` and `sparsity`, or a base that cannot
            serve.
    """

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
        super().__init__(STRRule(), locals())


def sigmoid(s: float) -> float:
    """Return σ(s), also far away from 0."""
    return math.exp(s) / (1.0 + math.exp(s)) if s < 0.0 else 1.0 / (1.0 + math.exp(-s))


def logit(threshold: float) -> float:
    """Return the s with σ(s) = d; −∞ for 0."""
    return math.log(threshold / (1.0 - threshold)) if threshold > 0.0 else -math.inf
