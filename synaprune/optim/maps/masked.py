"""Masked latents: the network sees w = m·z with a mask m of the synapses that exist.

The plain contract of most pruning methods. Without straight-through gradients an absent synapse learns nothing and
is lost to the score; with them its latent goes on learning from ∂L/∂w and can come back.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from synaprune.budget import largest
from synaprune.optim.fingerprint import is_small
from synaprune.optim.maps.threshold import TINY
from synaprune.optim.row import Row, State, in_layout_of, latent_dtype
from synaprune.optim.rule import Rule

__all__ = ["Masked", "keep"]


class Masked(Rule):
    """The map of masked latents.

    Args:
        straight_through: let absent synapses learn.
    """

    def __init__(self, straight_through: bool = False) -> None:
        self.straight_through = straight_through

    def start(self, t: Row) -> None:
        """Let z = w, and what is 0 be absent."""
        latent = in_layout_of(t.weight, t.weight.detach().to(latent_dtype(t.weight)))
        mask = latent != 0
        # In a tensor of zeros only, as in the first step of any optimizer, none is absent.
        t.state.update(State(latent=latent, mask=mask if mask.any() else ~mask, steps=0))

    def write(self, rows: Sequence[Row]) -> None:
        """Write w = m·z."""
        for t in rows:
            mask = t.state["mask"] if "absent" not in t.state else t.state["mask"] & ~t.state["absent"]
            t.weight.detach().copy_(mask.view(torch.uint8)).mul_(t.state["latent"])

    def adopt(self, t: Row) -> None:
        """Let what was written exist, and what was set to 0 be absent."""
        state, written = t.state, t.weight.detach().to(t.state["latent"].dtype)
        changed = t.weight != torch.where(state["mask"], state["latent"], 0.0).to(t.weight.dtype)
        state["latent"].copy_(torch.where(changed, written, state["latent"]))
        state["mask"].copy_(torch.where(changed, written != 0, state["mask"]))

    def theta(self, t: Row) -> Tensor:
        """Return z, of absent synapses too."""
        return t.state["latent"].to(torch.float64, copy=True)

    def mask(self, t: Row) -> Tensor:
        """Return m."""
        return t.state["mask"].clone()

    def pull(self, t: Row, gradient: Tensor) -> dict[str, Tensor]:
        """Return ∂L/∂w, 0 for what is absent unless that learns too."""
        if not self.straight_through:
            mask = t.state["mask"]
            # Bytes become floats in a tenth of the time that booleans take.
            few = is_small(mask)
            gradient = gradient * mask if few else mask.view(torch.uint8).to(gradient.dtype).mul_(gradient)
        return {"latent": gradient}

    def score(self, t: Row) -> Tensor:
        """Return |z|; a synapse that learns nothing while it is absent ranks below all others."""
        score = t.state["latent"].abs()
        if self.straight_through:
            return score
        # −|z| and not one value for all: an order statistic among so many ties takes twenty times as long.
        return score.add_(TINY).mul_(t.state["mask"].to(torch.int8).mul_(2).sub_(1))

    def leave(self, t: Row, count: int, bound: float | None) -> None:
        """Keep those of the largest score."""
        keep(t, largest(self.score(t), count, bound))


def keep(t: Row, mask: Tensor) -> None:
    """Let exactly these synapses exist."""
    t.state["mask"].copy_(mask)
    # A weight of 0, be it in the weights' own type, would not be counted.
    t.state["latent"].masked_fill_(mask & (t.state["latent"].abs() < TINY), TINY)
