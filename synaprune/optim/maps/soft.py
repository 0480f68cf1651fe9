"""Soft thresholds: the network sees w = S_d(z) = sign(z)·[|z| − d]₊, with one threshold d per tensor.

A synapse exists while |z| > d. While it does not, z lies in a dead zone of width 2d; where it leaves that zone decides
the sign with which the synapse returns. Two gradients are possible:

1. straight-through: ∂L/∂z := ∂L/∂w, whether the synapse exists or not;
2. gated: the true one, which is 0 for a synapse that does not exist.

While no latent crosses 0, the first with Δd = ηα in every step is Grad R with prior strength α: |z| − d is its θ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from synaprune.budget import cutoff
from synaprune.errors import UsageError
from synaprune.optim.groups import Group
from synaprune.optim.maps.signed import start as signed
from synaprune.optim.maps.threshold import TINY
from synaprune.optim.row import Row, State, in_layout_of, latent_dtype
from synaprune.optim.rule import Rule
from synaprune.optim.topology import budget

__all__ = ["Soft", "adopt", "bury", "gate", "leave", "move", "project", "start"]


class Soft(Rule):
    """The map of soft thresholds, for methods that say how theirs moves: to a number of synapses, or by a strength."""

    strength = ""  # the group option that says how strongly to prune; None asks for a budget
    widest = math.inf  # no margin is wider

    def next(self, t: Row) -> float:
        """Return the threshold of a tensor after the step that its latents have just made."""
        raise NotImplementedError

    def begin(self, t: Row, least: float) -> float:
        """Return the threshold of a tensor that joins, not below `least`."""
        return least

    # -- the map -------------------------------------------------------------------------------------------------

    def start(self, t: Row) -> None:
        """Take weights as they are."""
        signs = signed(t.weight, self._margin(t), t.seed)["sign"]
        some_absent = 0 < torch.count_nonzero(t.weight) < t.weight.numel()
        threshold = self.begin(t, self._margin(t) if some_absent else 0.0)
        t.state.update(start(t.weight, signs, threshold))
        t.state.update(budget.PACE)

    def write(self, rows: Sequence[Row]) -> None:
        """Write w = S_d(z)."""
        for t in rows:
            project(t.weight, t.state)

    def adopt(self, t: Row) -> None:
        """Put what was set to 0 into the middle of a dead zone of the margin's width at least."""
        adopt(t.weight, t.state, self._margin(t))

    def thaw(self, t: Row, absent: Tensor) -> None:
        """Put latents at the edge of the dead zone where they have left it."""
        bury(t.state, absent)

    def theta(self, t: Row) -> Tensor:
        """Return |z| − d."""
        return t.state["latent"].to(torch.float64, copy=True).abs_().sub_(t.state["threshold"])

    def score(self, t: Row) -> Tensor:
        """Return |z|."""
        return t.state["latent"].abs()

    def leave(self, t: Row, count: int, bound: float | None) -> tuple[int, float]:
        """Move the threshold so that as many synapses exist."""
        before = t.state["threshold"]
        floated = leave(t.state, count, bound)
        return floated, t.state["threshold"] - before

    def _margin(self, t: Row) -> float:
        return min(t.margin, self.widest)

    # -- the step ------------------------------------------------------------------------------------------------

    def has_budget(self, group: Group) -> bool:
        """Tell whether this group gives no strength."""
        return group[self.strength] is None

    def check(self, group: Group, layers: budget.Layers) -> None:
        """Refuse a strength and a budget at once, or neither."""
        value = group[self.strength]
        if value is None and group["sparsity"] is None:
            raise UsageError(
                f"{self.method} has to know how much to prune; give {self.strength}=…, or sparsity=… with a schedule "
                "to leave an exact number of synapses"
            )
        if value is not None and not isinstance(value, Real):
            raise UsageError(f"{self.strength}={value!r} is not a finite number of at least 0; 0 prunes nothing")
        if value is not None and group["sparsity"] is not None:
            raise UsageError(
                f"{self.strength}={value} says how strongly {self.method} prunes and sparsity={group['sparsity']} how "
                "many synapses are left; leave out one of the two"
            )
        super().check(group, layers)

    def pull(self, t: Row, gradient: Tensor) -> dict[str, Tensor]:
        """Return ∂L/∂w, or the true gradient of the latents."""
        return {"latent": gate(gradient, t.state) if t.group["gated"] else gradient}

    def after(self, t: Row, note: None) -> None:
        """Move the threshold."""
        t.state["threshold"] = max(self.next(t), 0.0)


def start(weight: Tensor, sign: Tensor, threshold: float) -> State:
    """Return the state of a tensor that joins: w as it is, absent synapses in the middle of the dead zone.

    In a tensor of zeros only none is absent: all start just outside of the zone, on the side that `sign` says.
    """
    latent = in_layout_of(weight, weight.detach().to(latent_dtype(weight)))
    state = State(latent=latent, threshold=0.0, steps=0)
    move(state, threshold)
    if not latent.any():
        latent.copy_(sign).mul_(_just_above(latent, threshold))
    return state


def project(weight: Tensor, state: State) -> None:
    """Write w = S_d(z) into the weight's own memory."""
    weight, latent = weight.detach(), state["latent"]
    w = weight if weight.dtype == latent.dtype else torch.empty_like(latent)
    torch.ops.aten.softshrink.out(latent, state["threshold"], out=w)  # one pass; the public function has no `out`
    if w is not weight:
        weight.copy_(w)
    if "absent" in state:
        weight.masked_fill_(state["absent"], 0.0)


def gate(gradient: Tensor, state: State) -> Tensor:
    """Return the gradient where the synapse exists, 0 elsewhere."""
    gated: Tensor = torch.ops.aten.softshrink_backward(gradient, state["latent"], state["threshold"])
    return gated


def move(state: State, threshold: float) -> None:
    """Set the threshold without changing a weight: latents outside of the dead zone move with its edge."""
    latent, gap = state["latent"], threshold - state["threshold"]
    if gap:
        sign = torch.ops.aten.softshrink(latent, state["threshold"]).sign_()
        latent.copy_(torch.where(sign == 0, latent.clamp(-threshold, threshold), latent.add(sign, alpha=gap)))
        state["threshold"] = threshold


def adopt(weight: Tensor, state: State, margin: float) -> None:
    """Take over weights that were written by somebody else since the last step; the other latents stay.

    One that was set to 0 is absent: its latent lies in the middle of a dead zone that reaches `margin` at least to
    either side.
    """
    written = weight.detach().clone()
    project(weight, state)
    changed = weight != written
    weight.copy_(written)
    if not changed.any():
        return
    if (changed & (written == 0)).any():
        move(state, max(margin, state["threshold"]))  # without a zone to keep it, it would be back after a step
    target = written.to(state["latent"].dtype)
    outside = target + target.sign() * state["threshold"]
    state["latent"].copy_(torch.where(changed, outside, state["latent"]))


def bury(state: State, absent: Tensor) -> None:
    """Put the latents of absent synapses at the edge of the dead zone where they have left it."""
    z, d = state["latent"], state["threshold"]
    z.copy_(torch.where(absent, z.clamp(-d, d), z))


def leave(state: State, count: int, near: float | None = None) -> int:
    """Move the threshold so that exactly `count` synapses of the tensor exist, and return how many did before.

    It becomes `near` where that leaves as many, else the largest |z| that is not to exist, or 0 when all shall. Latents
    that tie with it and shall exist are moved away from 0 by one ulp, those of the lowest index.
    """
    latent = state["latent"]
    size = latent.abs()
    at = float(size.new_tensor(state["threshold"]))
    above = before = int(torch.count_nonzero(size > at))
    if near is not None:
        at = float(size.new_tensor(max(near, 0.0)))
        above = int(torch.count_nonzero(size > at))
    if above != count:
        at = max(cutoff(size, count), 0.0)
        if missing := count - int(torch.count_nonzero(size > at)):
            raised = tuple(index[:missing] for index in (size == at).nonzero(as_tuple=True))
            # A latent of 0 has no other sign than that of its zero.
            latent[raised] = torch.copysign(size.new_tensor(_just_above(size, at)), latent[raised])
    if at + TINY > at:  # so near to 0, a difference can be too small for the weights' own type
        faint = (latent.abs() > at) & (latent.abs() < at + TINY)
        latent[faint] = torch.copysign(size.new_tensor(at + TINY), latent[faint])
    state["threshold"] = at
    return before


def _just_above(like: Tensor, threshold: float) -> float:
    """Return the smallest size of a latent whose weight is not 0, in whatever type."""
    at = like.new_tensor(threshold)
    return max(float(torch.nextafter(at, at.new_tensor(math.inf))), threshold + TINY)
