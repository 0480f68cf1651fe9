"""Masked latents: the network sees `w = m·z` with a mask m of the synapses that exist.

The plain contract of most pruning methods. Without straight-through gradients an absent synapse learns nothing and
is lost to the score; with them its latent goes on learning from `∂L/∂w` and can come back.
"""

from __future__ import annotations

import torch
from torch import Tensor

from synaprune.budget import largest
from synaprune.optim import latents, threshold
from synaprune.optim.budgeted import Budgeted
from synaprune.optim.groups import Group, State
from synaprune.optim.rewirer import Row

__all__ = ["Masked"]


class Masked(Budgeted):
    """Base class of the methods that multiply weights by a mask."""

    straight_through = False

    def theta(self, weight: Tensor) -> Tensor:
        """Return the hidden weights z, of absent synapses too, float64, in the tensor's shape."""
        self._finite.report(self._name)
        return self._state_of(weight, self._group_of(weight))["latent"].to(torch.float64, copy=True)

    def mask(self, weight: Tensor) -> Tensor:
        """Return which synapses of a tensor exist: bool, in the tensor's shape."""
        mask: Tensor = self._state_of(weight, self._group_of(weight))["mask"]
        return mask.clone()

    def _score(self, weight: Tensor, state: State) -> Tensor:
        """Return |z|; a synapse that learns nothing while it is absent ranks below all others."""
        score = state["latent"].abs()
        if self.straight_through:
            return score
        # −|z| and not one value for all: an order statistic among so many ties takes twenty times as long.
        return score.add_(threshold.TINY).mul_(state["mask"].to(torch.int8).mul_(2).sub_(1))

    def _leave(self, weight: Tensor, state: State, group: Group, count: int, bound: float | None) -> None:
        self._keep(state, largest(self._score(weight, state), count, bound))

    def _keep(self, state: State, mask: Tensor) -> None:
        """Let exactly these synapses exist."""
        state["mask"].copy_(mask)
        # A weight of 0, be it in the weights' own type, would not be counted.
        state["latent"].masked_fill_(mask & (state["latent"].abs() < threshold.TINY), threshold.TINY)

    def _start(self, weight: Tensor, group: Group, seed: int) -> State:
        state = super()._start(weight, group, seed)
        latent = latents.in_layout_of(weight, weight.detach().to(latents.latent_dtype(weight)))
        kept = {key: state[key] for key in ("initial", "scale", "steps")}
        mask = latent != 0
        # In a tensor of zeros only, as in the first step of any optimizer, none is absent.
        return {"latent": latent, "mask": mask if mask.any() else ~mask, **kept}

    def _adopt(self, weight: Tensor, state: State, group: Group) -> None:
        written = weight.detach().to(state["latent"].dtype)
        changed = weight != torch.where(state["mask"], state["latent"], 0.0).to(weight.dtype)
        state["latent"].copy_(torch.where(changed, written, state["latent"]))
        state["mask"].copy_(torch.where(changed, written != 0, state["mask"]))

    def _thaw(self, state: State, absent: Tensor) -> None:
        """Nothing is to be done: the mask has stayed."""

    def _pull(self, weight: Tensor, state: State, group: Group) -> Tensor:
        gradient = super()._pull(weight, state, group)
        # Bytes become floats in a tenth of the time that booleans take.
        return gradient if self.straight_through else state["mask"].view(torch.uint8).to(gradient.dtype).mul_(gradient)

    def _write(self, rows: list[Row]) -> None:  # type: ignore[override]
        for _, weight, state in rows:
            mask = state["mask"] if "absent" not in state else state["mask"] & ~state["absent"]
            weight.detach().copy_(mask.view(torch.uint8)).mul_(state["latent"])
