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

from synaprune.budget import largest
from synaprune.optim import bases
from synaprune.optim.budgeted import Sparsity
from synaprune.optim.groups import Group, Params, State
from synaprune.optim.noise import BIRTHS, MOVES, PER_LAYER, Noisy, gaussian, lots, scale
from synaprune.optim.places import flat, occupied, union, vacant, without
from synaprune.optim.rewirer import Row
from synaprune.optim.threshold import TINY

__all__ = ["DeepR"]


class DeepR(Noisy):
    """Train a network that is sparse from the first step to the last.

    >>> model = torch.nn.Linear(4, 2)
    >>> optimizer = DeepR(model, lr=1e-2, sparsity=0.75)
    >>> model(torch.ones(1, 4)).sum().backward()
    >>> optimizer.step()
    >>> optimizer.connectivity()
    0.25

    Args:
        params: a module, or what any torch optimizer takes (see `Rewirer`).
        lr: learning rate η of the base optimizer.
        sparsity: share of the synapses that are absent, in [0, 1): one number, or one per name pattern. Group option.
        allocation: "erk" (small layers denser) or "uniform" give each layer its number of synapses; "global" lets
            them wander between layers. Group option.
        alpha: rate α of the L1 penalty on θ. Group option.
        temperature: T of the noise √(2ηT). Group option.
        rescale: scale the initial weights of a layer by 1/√connectivity, which keeps the first currents but makes it
            hard for newborns to outgrow the synapses drawn. Group option.
        base: torch optimizer class.
        include: name patterns of tensors that are synapses though no rule of `find_synapses` says so.
        exclude: name patterns of synapses that shall be trained and all exist.
        check_finite: refuse a step with non-finite gradients (on the CPU). Group option.
        seed: seed of lots, signs and noise. Group option.
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
        temperature: float = 1e-5,
        rescale: bool = False,
        base: type[Optimizer] = torch.optim.Adam,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        check_finite: bool = True,
        seed: int = 0,
        **base_options: Any,
    ) -> None:
        self._active: dict[Tensor, Tensor] = {}  # places of the active synapses in memory, in ascending order
        own = {"alpha": alpha, "temperature": temperature, "rescale": rescale}
        common = {"check_finite": check_finite, "seed": seed}
        super().__init__(params, lr, sparsity, allocation, own | common, base, base_options, include, exclude)

    def _check_group(self, group: Group) -> None:
        super()._check_group(group)
        self._refuse_ranking(group, (*PER_LAYER, "global"))

    def _begin(self, weight: Tensor, state: State, group: Group, exists: Tensor, size: Tensor) -> None:
        state["latent"].copy_(torch.where(exists, state["sign"] * size.clamp_(min=TINY), 0.0))

    def _before(self, weight: Tensor, state: State, group: Group) -> Tensor | None:
        if "absent" in state:  # the base moves what is frozen as well; only the weights are spared
            self._active.pop(weight, None)
            return None
        return self._places(weight, state)

    def _after(self, weight: Tensor, state: State, group: Group, note: Tensor) -> None:
        """Let active synapses drift and diffuse, and put back what the base has moved of the others."""
        active, z = note, flat(state["latent"])
        sign = flat(state["sign"]).index_select(0, active)
        theta = z.index_select(0, active).mul_(sign).sub_(float(group["lr"]) * group["alpha"])
        if deviation := scale(group):
            values, _ = gaussian(len(active), weight.device, state["seed"], state["steps"], MOVES)
            theta.add_(values, alpha=deviation)
        # Not "below 0": so no θ decays into the denormal numbers, which are slow.
        lost = (theta < TINY).nonzero().squeeze(1)
        z.zero_().index_copy_(0, active, theta.mul_(sign).index_fill_(0, lost, 0.0))
        self._active[weight] = without(active, lost)

    def _write(self, rows: Sequence[Row]) -> None:
        for _, weight, state in rows:
            weight.copy_(state["latent"])
            if "absent" in state:
                weight.masked_fill_(state["absent"], 0.0)

    def _places(self, weight: Tensor, state: State) -> Tensor:
        """Return the places in memory of the active synapses, in ascending order."""
        if weight not in self._active:
            self._active[weight] = occupied(state["latent"])
        return self._active[weight]

    def _meet(self, group: Group, always: bool = False) -> list[Row]:
        """Replace what is missing, in each layer or in all of them together."""
        rows = self._rows(group)
        if not rows or any("absent" in state for *_, state in rows):
            return []  # the topology is frozen
        self._take_over([row for row in rows if always or row[1].grad is None])
        budget = self.plan(group)
        layers = zip([[row] for row in rows], budget.layers) if budget.layers else [(rows, budget.total)]
        return [row for some, count in layers for row in self._replace(some, count)]

    def _replace(self, rows: list[Row], count: int) -> list[Row]:
        """Bring the active synapses of these tensors to `count`, and return the tensors if any had to change."""
        active = [self._places(weight, state) for _, weight, state in rows]
        missing = count - sum(map(len, active))
        if missing < 0:
            self._cull(rows, active, count)
        elif missing:
            dormant = [weight.numel() - len(own) for (_, weight, _), own in zip(rows, active)]
            group, _, first = rows[0]
            source = lots(first["seed"], group["clock"], BIRTHS)
            ranks = np.sort(source.choice(sum(dormant), missing, replace=False))
            ends = np.cumsum(dormant)
            shares = np.split(ranks, np.searchsorted(ranks, ends[:-1]))
            for (_, weight, state), own, begin, share in zip(rows, active, ends - dormant, shares):
                born = vacant(own, torch.from_numpy(share - begin).to(own.device))
                flat(state["latent"])[born] = flat(state["sign"])[born] * TINY
                bases.reset(state["base"], born, state["latent"], group)
                self._active[weight] = union(own, born)
        return rows if missing else []

    def _cull(self, rows: list[Row], active: list[Tensor], count: int) -> None:
        """Leave the `count` largest: others may have written more weights than there are to be."""
        sizes = [flat(state["latent"])[own].abs() for (*_, state), own in zip(rows, active)]
        kept = largest(torch.cat(sizes), count).split([len(own) for own in active])
        for (_, weight, state), own, keep in zip(rows, active, kept):
            flat(state["latent"])[own[~keep]] = 0.0
            self._active[weight] = own[keep]

    def _adopt(self, weight: Tensor, state: State, group: Group) -> None:
        latent, changed = state["latent"], weight != state["latent"].to(weight.dtype)
        latent.copy_(torch.where(changed, weight, latent))
        state["sign"].copy_(torch.where(changed & (latent != 0), torch.sign(latent), state["sign"]))
        self._active.pop(weight, None)

    def _thaw(self, state: State, absent: Tensor) -> None:
        """Take the signs of weights that have crossed 0 while the topology was frozen and they were free to."""
        latent = state["latent"].masked_fill_(absent, 0.0)
        state["sign"].copy_(torch.where(latent != 0, torch.sign(latent), state["sign"]))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state; see `LatentOptimizer`."""
        super().load_state_dict(state_dict)
        self._active.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_active": {}}
