"""Deep R: exactly K synapses, which drift, diffuse, and are replaced at random where they vanish.

For a synapse with weight w = s·relu(θ), frozen sign s and gradient g = ∂L/∂w, base optimizer A(·), rate α of an L1
penalty and temperature T:

1. each active synapse (θ > 0) moves: θ ← θ − η·s·A(g) − η·α + √(2ηT)·ν with ν ~ N(0, 1);
2. one whose θ falls below 0 becomes dormant, and learns and moves no more;
3. for as many as are missing to K, dormant synapses, drawn uniformly, become active with a tiny θ > 0. They have the
   sign that they got at the start, and the base begins with them anew.

A dormant synapse is θ = 0, so that the latent z = s·θ is the weight itself.

Source: Bellec, Kappel, Maass, Legenstein, "Deep Rewiring", ICLR 2018, arXiv 1711.05136, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from synaprune.budget import Plan, largest
from synaprune.optim import bases
from synaprune.optim.groups import Group, Params, Sparsity
from synaprune.optim.maps import signed
from synaprune.optim.maps.threshold import TINY
from synaprune.optim.rewirer import Rewirer
from synaprune.optim.row import Row
from synaprune.optim.rule import Rule
from synaprune.optim.topology import budget, draw
from synaprune.optim.topology.noise import BIRTHS, MOVES, gaussian, numpy_generator, scale
from synaprune.optim.topology.places import flat, occupied, union, vacant, without

__all__ = ["DeepR", "DeepRRule"]


class DeepRRule(Rule):
    """Latents that are the weights; the places of the active ones are kept, for work on few is little work."""

    draws = True
    fixed = draw.AT_ONCE
    ignores = ("schedule",)  # as sparse as it stays from the first step on

    def __init__(self) -> None:
        self._active: dict[Tensor, Tensor] = {}  # places of the active synapses in memory, in ascending order

    def check(self, group: Group, layers: budget.Layers) -> None:
        """Refuse a motion that makes no sense, and an allocation that no draw knows."""
        draw.check_diffusion(self.method, group)
        super().check(group, layers)
        draw.refuse_ranking(self.method, group, (*draw.PER_LAYER, "global"))

    # -- latents -----------------------------------------------------------------------------------------------

    def start(self, t: Row) -> None:
        """Let z = w, and note a sign for every synapse."""
        t.state.update(signed.start(t.weight, t.margin, t.seed))
        t.state["seed"] = t.seed

    def draw(self, new: list[Row], rows: list[Row], layers: budget.Layers) -> None:
        """Draw K synapses, of each layer or of all of them together."""
        draw.diffusing(new, rows, layers.plan(rows[0].group), _begin)

    def write(self, rows: Sequence[Row]) -> None:
        """Write w = z."""
        for t in rows:
            t.weight.copy_(t.state["latent"])
            if "absent" in t.state:
                t.weight.masked_fill_(t.state["absent"], 0.0)

    def adopt(self, t: Row) -> None:
        """Let what was written be active, with its sign, and what was set to 0 be dormant."""
        latent, sign = t.state["latent"], t.state["sign"]
        changed = t.weight != latent.to(t.weight.dtype)
        latent.copy_(torch.where(changed, t.weight, latent))
        sign.copy_(torch.where(changed & (latent != 0), torch.sign(latent), sign))
        self._active.pop(t.weight, None)

    def thaw(self, t: Row, absent: Tensor) -> None:
        """Take the signs of weights that have crossed 0 while the topology was frozen and they were free to."""
        latent, sign = t.state["latent"].masked_fill_(absent, 0.0), t.state["sign"]
        sign.copy_(torch.where(latent != 0, torch.sign(latent), sign))

    def theta(self, t: Row) -> Tensor:
        """Return θ = s·z; its threshold stays at 0."""
        return signed.theta(t.state)

    def places(self, t: Row) -> Tensor:
        """Return the places in memory of the active synapses, in ascending order."""
        if t.weight not in self._active:
            self._active[t.weight] = occupied(t.state["latent"])
        return self._active[t.weight]

    def forget(self) -> None:
        """Drop the places."""
        self._active.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_active": {}}

    # -- the step ----------------------------------------------------------------------------------------------

    def before(self, t: Row) -> Tensor | None:
        """Return the places of the active synapses."""
        if t.rests:  # the base moves what is frozen as well; only the weights are spared
            self._active.pop(t.weight, None)
            return None
        return self.places(t)

    def after(self, t: Row, note: Tensor) -> None:
        """Let active synapses drift and diffuse (1, 2), and put back what the base has moved of the others."""
        active, z = note, flat(t.state["latent"])
        sign = flat(t.state["sign"]).index_select(0, active)
        theta = z.index_select(0, active).mul_(sign).sub_(t.rate * t.group["alpha"])
        if deviation := scale(t.group):
            values, _ = gaussian(len(active), t.weight.device, t.state["seed"], t.state["steps"], MOVES)
            theta.add_(values, alpha=deviation)
        # Not "below 0": so no θ decays into the denormal numbers, which are slow.
        lost = (theta < TINY).nonzero().squeeze(1)
        z.zero_().index_copy_(0, active, theta.mul_(sign).index_fill_(0, lost, 0.0))
        self._active[t.weight] = without(active, lost)

    def due(self, group: Group, always: bool) -> bool:
        """Every step replaces what it has lost."""
        return True

    def meet(self, rows: list[Row], plan: Plan, report: budget.Report) -> list[Row]:
        """Replace what is missing (3), in each layer or in all of them together."""
        layers = zip([[t] for t in rows], plan.layers) if plan.layers else [(rows, plan.total)]
        return [t for some, count in layers for t in self._replace(some, count)]

    def _replace(self, rows: list[Row], count: int) -> list[Row]:
        """Bring the active synapses of these tensors to `count`, and return the tensors if any had to change."""
        active = [self.places(t) for t in rows]
        missing = count - sum(map(len, active))
        if missing < 0:
            self._cull(rows, active, count)
        elif missing:
            dormant = [t.weight.numel() - len(own) for t, own in zip(rows, active)]
            source = numpy_generator(rows[0].state["seed"], rows[0].group["clock"], BIRTHS)
            ranks = np.sort(source.choice(sum(dormant), missing, replace=False))
            ends = np.cumsum(dormant)
            shares = np.split(ranks, np.searchsorted(ranks, ends[:-1]))
            for t, own, begin, share in zip(rows, active, ends - dormant, shares):
                born = vacant(own, torch.from_numpy(share - begin).to(own.device))
                flat(t.state["latent"])[born] = flat(t.state["sign"])[born] * TINY
                bases.reset(t.state["base"], born, t.state["latent"], t.group)
                self._active[t.weight] = union(own, born)
        return rows if missing else []

    def _cull(self, rows: list[Row], active: list[Tensor], count: int) -> None:
        """Leave the `count` largest: others may have written more weights than there are to be."""
        sizes = [flat(t.state["latent"])[own].abs() for t, own in zip(rows, active)]
        kept = largest(torch.cat(sizes), count).split([len(own) for own in active])
        for t, own, keep in zip(rows, active, kept):
            flat(t.state["latent"])[own[~keep]] = 0.0
            self._active[t.weight] = own[keep]


def _begin(t: Row, exists: Tensor, size: Tensor) -> None:
    t.state["latent"].copy_(torch.where(exists, t.state["sign"] * size.clamp_(min=TINY), 0.0))


class DeepR(Rewirer):
    """Train a network that is sparse from the first step to the last.

    >>> model = torch.nn.Linear(4, 2)
    >>> optimizer = DeepR(model, lr=1e-2, sparsity=0.75)
    >>> model(torch.ones(1, 4)).sum().backward()
    >>> optimizer.step()
    >>> optimizer.connectivity()
    0.25

    Args:
        allocation: "erk" (small layers denser) or "uniform" give each layer its number of synapses; "global" lets
            them wander between layers. Group option.
        alpha: rate α of the L1 penalty on θ. Group option.

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
        temperature: float = 1e-5,
        rescale: bool = False,
        base: type[Optimizer] = torch.optim.Adam,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        check_finite: bool = True,
        seed: int = 0,
        **base_options: Any,
    ) -> None:
        super().__init__(DeepRRule(), locals())
