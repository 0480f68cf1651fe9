"""The threshold of one tensor of signed latents: how it drifts, and how it leaves exactly n synapses.

The offset makes a drift that is the same for all synapses of a tensor exact and free: it is one addition of
two Python floats. Whole multiples of 2⁻¹⁰ are moved from d into z, so that a living weight never becomes the
difference of two large numbers; float32 adds such a multiple to a z of ordinary size without rounding, but for
one bit whenever |z| grows past a power of two.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from synaprune.budget import cutoff
from synaprune.optim.row import State

__all__ = ["LOWEST", "TINY", "drift", "fold", "leave", "lift"]

QUANTUM = 2.0**-10
# Differences of at least TINY survive in bfloat16, whose smallest normal number is 2⁻¹²⁶.
TINY = 2.0**-100
LOWEST = -1e30  # no θ lies below


def drift(state: State, amount: float) -> None:
    """Lower every θ of the tensor by `amount`."""
    state["offset"] += amount
    fold(state)


def fold(state: State) -> None:
    """Move the whole multiples of the quantum from the offset into the latents."""
    whole = math.trunc(state["offset"] / QUANTUM) * QUANTUM
    if whole:
        state["latent"].sub_(state["sign"], alpha=whole)
        state["offset"] -= whole


def leave(state: State, count: int, near: float | None = None, fall: float = math.inf) -> int:
    """Move the threshold so that exactly `count` synapses of the tensor exist, and return how many did before.

    It becomes `near` (an offset, −∞ for none) where that leaves as many, else the largest θ that is not to exist.
    Where it falls, every living weight grows by as much; so it falls by `fall` at most, and what still lies below it
    and shall exist is raised to just above it, the largest first. Synapses that tie with the threshold and shall exist
    are raised as well, those of the lowest index.
    """
    values = state["latent"] * state["sign"]
    at = state["offset"]
    lowest = float(values.new_tensor(at - fall))
    above = before = int(torch.count_nonzero(values > at))
    if near is not None and near > -math.inf:
        at = float(values.new_tensor(max(near, lowest)))
        above = int(torch.count_nonzero(values > at))
    if above != count:
        cut = cutoff(values, count)
        at = cut
        if at == -math.inf:  # all of them shall exist
            at = float(values.min())
            at -= max(abs(at) * 2.0**-20, TINY)
        at = max(at, lowest)
        if missing := count - int(torch.count_nonzero(values > at)):
            first = (values > cut) & (values <= at)
            tied = ((values == cut) & ~first).nonzero()[: missing - int(torch.count_nonzero(first))]
            raised = tuple(torch.cat([first.nonzero(), tied]).unbind(1))
            just_above = float(torch.nextafter(values.new_tensor(at), values.new_tensor(math.inf)))
            state["latent"][raised] = state["sign"][raised].to(values.dtype) * max(just_above, at + TINY)
    if at + TINY > at:  # so near to 0, a difference can be too small for the weights' own type
        faint = (values > at) & (values < at + TINY)
        state["latent"][faint] = state["sign"][faint].to(values.dtype) * (at + TINY)
    state["offset"] = at
    return before


def lift(state: State, amounts: Tensor) -> None:
    """Raise each θ by its own amount; what a latent is too coarse to hold is carried to the next time."""
    change = state["sign"] * amounts
    if "carry" in state:
        change += state["carry"]
    before = state["latent"].clone()
    state["latent"].add_(change)
    state["carried"] = 1
    state["carry"] = change.sub_(before.neg_().add_(state["latent"]))
