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

from synaprune.errors import UsageError
from synaprune.optim.groups import Group, Params, Sparsity
from synaprune.optim.maps import signed
from synaprune.optim.rewirer import Rewirer
from synaprune.optim.row import Row
from synaprune.optim.rule import Rule
from synaprune.optim.surroundings import CPU
from synaprune.optim.topology import budget, draw
from synaprune.optim.topology.noise import DEPTHS, MOVES, NOISES, generator, rand, scale

__all__ = ["SoftDeepR", "SoftDeepRRule"]

# S(z) = sign(z)·relu(|z| − d), and what it lets through of a gradient: that where |z| > d.
shrink, through = torch.ops.aten.softshrink, torch.ops.aten.softshrink_backward
# The first of two tensors where the second is positive, 0 elsewhere.
where_positive = torch.ops.aten.threshold_backward


class SoftDeepRRule(Rule):
    """Latents above a floor; `depth` is −θ_min, the offset of the state."""

    draws = True
    fixed = draw.AT_ONCE
    ignores = ("schedule",)  # as sparse as it stays from the first step on

    def __init__(self, compiled: bool = False) -> None:
        self.compiled = compiled
        self.sign_dtype = torch.int8 if compiled else None

    def check(self, group: Group, layers: budget.Layers) -> None:
        """Refuse a motion that makes no sense, and an allocation that no draw knows."""
        draw.check_diffusion(self.method, group)
        super().check(group, layers)
        draw.refuse_ranking(self.method, group)
        for option, why in (("temperature", "nothing would ever regrow"), ("alpha", "nothing would ever be pruned")):
            if not group[option]:
                raise UsageError(f"with {option}=0 {why} in soft Deep R; give {option} a positive value, or take DeepR")

    # -- latents -----------------------------------------------------------------------------------------------

    def start(self, t: Row) -> None:
        """Note a sign for every synapse; the draw gives them their θ."""
        t.state.update(signed.start(t.weight, t.margin, t.seed, self.sign_dtype))
        t.state["seed"] = t.seed

    def draw(self, new: list[Row], rows: list[Row], layers: budget.Layers) -> None:
        """Draw which synapses exist at first, and how far below 0 the others are."""
        depths = _depths(rows, layers)

        def begin(t: Row, exists: Tensor, size: Tensor) -> None:
            t.state["offset"] = depth = depths[t.weight]
            below = rand(t.weight, generator(CPU, t.state["seed"], DEPTHS)).to(size) * depth
            t.state["latent"].copy_(t.state["sign"] * torch.where(exists, size + depth, below))

        draw.diffusing(new, rows, layers.plan(rows[0].group), begin)

    def changed(self, rows: list[Row], layers: budget.Layers) -> None:
        """Move the floor."""
        for t, depth in zip(rows, _depths(rows, layers).values()):
            if depth != t.state["offset"]:
                t.state["latent"].add_(t.state["sign"], alpha=depth - t.state["offset"])
                t.state["offset"] = depth

    def write(self, rows: Sequence[Row]) -> None:
        """Write w = s·relu(θ), which is z behind a soft threshold at −θ_min."""
        for t in rows:
            latent, out = t.state["latent"], t.weight.detach()
            if "absent" in t.state:
                stay_above_floor(latent, t.state["sign"])
            if t.weight.dtype == latent.dtype:
                shrink.out(latent, t.state["offset"], out=out)
            else:
                out.copy_(shrink(latent, t.state["offset"]))
            if "absent" in t.state:
                out.masked_fill_(t.state["absent"], 0.0)

    def adopt(self, t: Row) -> None:
        """Put what was set to 0 half-way between 0 and the floor."""
        signed.adopt(t.weight, t.state, t.state["offset"] / 2.0)

    def thaw(self, t: Row, absent: Tensor) -> None:
        """Put θ at 0 where it has risen above it."""
        signed.bury(t.state, absent)

    def theta(self, t: Row) -> Tensor:
        """Return θ."""
        return signed.theta(t.state)

    # -- the step ----------------------------------------------------------------------------------------------

    def before(self, t: Row) -> Tensor:
        """Return the latents as they are before the base step."""
        return t.state["latent"].clone()

    def pull(self, t: Row, gradient: Tensor) -> dict[str, Tensor]:
        """Return ∂L/∂w where the synapse exists, 0 elsewhere."""
        return {"latent": through(gradient, t.state["latent"], t.state["offset"])}

    def after(self, t: Row, note: Tensor) -> None:
        """Take back what a base with momentum has moved of absent synapses; then drift and noise (1, 2)."""
        latent, sign, noise = t.state["latent"], t.state["sign"], NOISES[t.group["noise"]]
        values, deviation = noise(t.weight.numel(), t.weight.device, t.state["seed"], t.state["steps"], MOVES)
        values = values.as_strided(latent.shape, latent.stride())
        drift, spread = t.rate * t.group["alpha"], scale(t.group) / deviation
        if self.compiled:
            _compiled_motion()(latent, note, t.weight.detach(), sign, values, *latent.new_tensor([drift, spread]))
        else:
            exists = torch.sign(t.weight).to(latent.dtype)  # s·H
            latent.sub_(exists, alpha=drift)
            torch.lerp(note, latent, exists.abs_(), out=latent).add_(values, alpha=spread)
            stay_above_floor(latent, sign)

    def due(self, group: Group, always: bool) -> bool:
        """The number is met on average only."""
        return False


class SoftDeepR(Rewirer):
    """Train a network whose synapses come and go by chance; its connectivity is met on average only.

    >>> model = torch.nn.Linear(64, 32)
    >>> optimizer = SoftDeepR(model, lr=1e-2, sparsity=0.75, alpha=0.1, temperature=1e-4)
    >>> 0.2 < optimizer.connectivity() < 0.3
    True

    Args:
        sparsity: share 1 − p of the synapses that would be absent if none learned, in [0, 1): one number, or one per
            name pattern. Group option.
        alpha: rate α of the L1 penalty on θ. Group option.
        temperature: T of the noise √(2ηT). T/α is the mean weight of a synapse without gradient. Group option.

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
        super().__init__(SoftDeepRRule(compile_motion), locals())


def _depths(rows: list[Row], layers: budget.Layers) -> dict[Tensor, float]:
    """Return −θ_min (2) of each layer, from the share p of its synapses that exist without gradient."""
    group = rows[0].group
    counts = layers.plan(group).layers or []
    shares = [count / max(t.weight.numel(), 1) or 1.0 for t, count in zip(rows, counts)]
    return {t.weight: float(group["temperature"] * (1.0 - p) / (group["alpha"] * p)) for t, p in zip(rows, shares)}


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
