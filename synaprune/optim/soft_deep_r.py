"""Soft Deep R: every synapse diffuses, and those whose parameter is positive exist.

For a synapse with weight w = s·relu(θ), frozen sign s and gradient g = ∂L/∂w, base optimizer A(·), rate α of an L1
penalty, temperature T and connectivity p:

1. all synapses diffuse, and those that exist (H = 1 for θ > 0, else 0) learn and are penalised as well:
   θ ← θ − H·η·(s·A(H·g) + α) + √(2ηT)·ν with ν of mean 0 and variance 1;
2. none falls below a floor: θ ← max(θ, θ_min), θ_min = −T(1−p)/(αp).

Without a gradient the stationary density of θ is constant between θ_min and 0 and falls as e^{−αθ/T} above, so that
a share (T/α) / (T/α − θ_min) = p of the synapses exists; with a gradient, more or less of them.

The latent is z = s·(θ − θ_min), which never crosses 0: the weight is its soft threshold at −θ_min.

Source: Bellec, Kappel, Maass, Legenstein, "Deep Rewiring", ICLR 2018, arXiv 1711.05136, algorithm 2.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from synaprune.errors import UsageError, nearest
from synaprune.optim import latents
from synaprune.optim.budgeted import Sparsity
from synaprune.optim.groups import Group, Params, State
from synaprune.optim.noise import DEPTHS, MOVES, NOISES, PER_LAYER, Noisy, generator, rand, scale
from synaprune.optim.rewirer import Row
from synaprune.optim.surroundings import CPU

__all__ = ["SoftDeepR"]

# S(z) = sign(z)·relu(|z| − d), and what it lets through of a gradient: that where |z| > d.
shrink, through = torch.ops.aten.softshrink, torch.ops.aten.softshrink_backward
# The first of two tensors where the second is positive, 0 elsewhere.
where_positive = torch.ops.aten.threshold_backward


class SoftDeepR(Noisy):
    """Train a network whose synapses come and go by chance; its connectivity is met on average only.

    >>> model = torch.nn.Linear(64, 32)
    >>> optimizer = SoftDeepR(model, lr=1e-2, sparsity=0.75, alpha=0.1, temperature=1e-4)
    >>> 0.2 < optimizer.connectivity() < 0.3
    True

    Args:
        params: a module, or what any torch optimizer takes (see `Rewirer`).
        lr: learning rate η of the base optimizer.
        sparsity: share 1 − p of the synapses that would be absent if none learned, in [0, 1): one number, or one per
            name pattern. Group option.
        allocation: "erk" (small layers denser) or "uniform". Group option.
        alpha: rate α of the L1 penalty on θ. Group option.
        temperature: T of the noise √(2ηT). T/α is the mean weight of a synapse without gradient. Group option.
        noise: "gaussian", or "uniform" of equal variance, which costs a fraction. Group option.
        rescale: scale the initial weights of a layer by 1/√p, which keeps the first currents. Group option.
        base: torch optimizer class.
        include: name patterns of tensors that are synapses though no rule of `find_synapses` says so.
        exclude: name patterns of synapses that shall be trained and all exist.
        check_finite: refuse a step with non-finite gradients (on the CPU). Group option.
        seed: seed of lots, signs and noise. Group option.
        compile_motion: let one compiled kernel do what comes after the base step, and keep signs in one byte.
        base_options: further options of the base; weight decay acts on w.

    Raises:
        UsageError: a value out of range, or a base that cannot serve.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        sparsity: Sparsity | None = None,
        allocation: str = "erk",
        alpha: float = 0.1,
        temperature: float = 1e-3,
        noise: str = "gaussian",
        rescale: bool = False,
        base: type[Optimizer] = torch.optim.Adam,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        check_finite: bool = True,
        seed: int = 0,
        compile_motion: bool = False,
        **base_options: Any,
    ) -> None:
        own = {"alpha": alpha, "temperature": temperature, "noise": noise, "rescale": rescale}
        common = {"check_finite": check_finite, "seed": seed}
        rest = (base, base_options, include, exclude, compile_motion)
        super().__init__(params, lr, sparsity, allocation, own | common, *rest)

    def _check_group(self, group: Group) -> None:
        super()._check_group(group)
        self._refuse_ranking(group, PER_LAYER)
        for option, why in (("temperature", "nothing would ever regrow"), ("alpha", "nothing would ever be pruned")):
            if not group[option]:
                raise UsageError(f"with {option}=0 {why} in soft Deep R; give {option} a positive value, or take DeepR")
        if group["noise"] not in NOISES:
            hint = nearest(str(group["noise"]), NOISES) or f"; there are {', '.join(NOISES)}"
            raise UsageError(f"there is no noise {group['noise']!r}{hint}")

    def _connectivity(self, weight: Tensor, group: Group) -> float:
        """Return p, the share of a tensor's synapses that exist without gradient."""
        counts = self._plan(group, []).layers or []
        return next(n / max(p.numel(), 1) for p, n in zip(self._learning(group), counts) if p is weight)

    def _depth(self, weight: Tensor, group: Group) -> float:
        """Return −θ_min (2)."""
        p = self._connectivity(weight, group) or 1.0
        return float(group["temperature"] * (1.0 - p) / (group["alpha"] * p))

    def _begin(self, weight: Tensor, state: State, group: Group, exists: Tensor, size: Tensor) -> None:
        state["offset"] = depth = self._depth(weight, group)
        source = generator(CPU, state["seed"], DEPTHS)
        below = rand(weight, source).to(size) * depth
        state["latent"].copy_(state["sign"] * torch.where(exists, size + depth, below))

    # -- the step ------------------------------------------------------------------------------------------

    def _before(self, weight: Tensor, state: State, group: Group) -> Tensor:
        """Move the floor where options have changed, and return the latents as they are before the base step."""
        latent, depth = state["latent"], self._depth(weight, group)
        if depth != state["offset"]:
            latent.add_(state["sign"], alpha=depth - state["offset"])
            state["offset"] = depth
        return latent.clone()

    def _pull(self, weight: Tensor, state: State, group: Group) -> Tensor:
        """Return ∂L/∂w where the synapse exists, 0 elsewhere."""
        pull: Tensor = through(super()._pull(weight, state, group), state["latent"], state["offset"])
        return pull

    def _after(self, weight: Tensor, state: State, group: Group, note: Tensor) -> None:
        """Take back what a base with momentum has moved of absent synapses; then drift and noise (1)."""
        latent, sign, draw = state["latent"], state["sign"], NOISES[group["noise"]]
        values, deviation = draw(weight.numel(), weight.device, state["seed"], state["steps"], MOVES)
        values = values.as_strided(latent.shape, latent.stride())
        drift, spread = float(group["lr"]) * group["alpha"], scale(group) / deviation
        if self._compile_projection:
            _compiled_motion()(latent, note, weight.detach(), sign, values, *latent.new_tensor([drift, spread]))
        else:
            exists = torch.sign(weight).to(latent.dtype)  # s·H
            latent.sub_(exists, alpha=drift)
            torch.lerp(note, latent, exists.abs_(), out=latent).add_(values, alpha=spread)
            stay_above_floor(latent, sign)

    def _write(self, rows: Sequence[Row]) -> None:
        for _, weight, state in rows:
            latent, out = state["latent"], weight.detach()
            if "absent" in state:
                stay_above_floor(latent, state["sign"])
            if weight.dtype == latent.dtype:
                shrink.out(latent, state["offset"], out=out)
            else:
                out.copy_(shrink(latent, state["offset"]))
            if "absent" in state:
                out.masked_fill_(state["absent"], 0.0)

    def _adopt(self, weight: Tensor, state: State, group: Group) -> None:
        latents.adopt(weight, state, state["offset"] / 2.0)


def stay_above_floor(latent: Tensor, sign: Tensor) -> None:
    """Let θ ≥ θ_min, that is s·z ≥ 0."""
    where_positive.grad_input(latent, latent * sign, 0.0, grad_input=latent)


@functools.cache
def _compiled_motion() -> Any:
    def move(
        latent: Tensor, before: Tensor, weight: Tensor, sign: Tensor, values: Tensor, drift: Tensor, spread: Tensor
    ) -> None:
        moved = torch.where(weight != 0, latent - drift * sign, before) + spread * values
        latent.copy_((moved * sign).relu() * sign)

    return torch.compile(move)
