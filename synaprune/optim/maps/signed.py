"""Signed latents: the network sees w = s·relu(s·z − d), with a frozen sign s for every synapse.

A tensor's state holds `latent` z and `sign` s, both in the weight's shape and memory layout, and one float64
`offset` d. They stand for θ = s·z − d. How the threshold moves is in `threshold`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from synaprune.optim.fingerprint import is_dense, is_small
from synaprune.optim.maps import threshold
from synaprune.optim.row import Row, State, in_layout_of, latent_dtype
from synaprune.optim.rule import Rule

__all__ = ["Signed", "adopt", "bury", "project", "start", "theta"]

# Tensors above WHOLE values are projected in pieces of CHUNK, which stay in the processor's cache between the
# three operations; below, the pieces cost more than they save.
WHOLE, CHUNK = 2**20, 2**18


class Signed(Rule):
    """The map of signed latents.

    Args:
        compiled: write the weights of all tensors by one compiled kernel, and keep signs in one byte.
    """

    def __init__(self, compiled: bool = False) -> None:
        self.compiled = compiled
        # A compiled kernel converts for free, eager ones would copy.
        self.sign_dtype = torch.int8 if compiled else None

    def start(self, t: Row) -> None:
        """Let θ = |w| and s = sign(w)."""
        t.state.update(start(t.weight, t.margin, t.seed, self.sign_dtype))

    def write(self, rows: Sequence[Row]) -> None:
        """Write w = s·relu(θ)."""
        project([t.weight for t in rows], [t.state for t in rows], self.compiled)

    def adopt(self, t: Row) -> None:
        """Give a weight that was written its own sign; one that was set to 0 starts a margin below the threshold."""
        adopt(t.weight, t.state, t.margin, self.compiled)

    def thaw(self, t: Row, absent: Tensor) -> None:
        """Put θ at 0 where it has risen above it."""
        bury(t.state, absent)

    def theta(self, t: Row) -> Tensor:
        """Return θ = s·z − d."""
        return theta(t.state)


def start(weight: Tensor, margin: float, seed: int, sign_dtype: torch.dtype | None = None) -> State:
    """Return the state of a tensor that joins: θ = |w|, s = sign(w).

    A weight that is exactly 0 has no sign, so a coin gives it one. In a tensor that has other values it is an
    absent synapse of a pruned network and starts `margin` below the threshold; else the first step of any
    optimizer would bring half of them back. In a tensor of zeros only, all start at the threshold.
    """
    latent = in_layout_of(weight, weight.detach().to(latent_dtype(weight)))
    sign = torch.sign(latent)
    unsigned = sign == 0
    count = int(unsigned.sum())
    if count:
        coin = torch.randint(2, (count,), generator=torch.Generator("cpu").manual_seed(seed), device="cpu") * 2 - 1
        sign[unsigned] = coin.to(sign)
        if count < weight.numel():
            latent[unsigned] = sign[unsigned] * -margin
    return {"latent": latent, "sign": sign.to(sign_dtype or latent.dtype), "offset": 0.0, "steps": 0}


def adopt(weight: Tensor, state: State, margin: float, compiled: bool = False) -> None:
    """Take over weights that were written by somebody else since the last step; the other latents stay.

    A new weight brings its own sign; one that was set to 0 is absent and starts `margin` below the threshold.
    """
    written = weight.detach().clone()
    project([weight], [state], compiled)  # as it was written, for another kernel may round otherwise
    changed = weight != written
    weight.copy_(written)
    if not changed.any():
        return
    target = written.to(state["latent"].dtype)
    sign = torch.where(changed & (target != 0), torch.sign(target), state["sign"])
    theta = torch.where(target != 0, target.abs(), -margin)
    state["latent"].copy_(torch.where(changed, sign * (theta + state["offset"]), state["latent"]))
    state["sign"].copy_(sign)
    if "lowest" in state:
        state["lowest"] = threshold.LOWEST
    if state.pop("carry", None) is not None:
        state["carried"] = 0


def theta(state: State) -> Tensor:
    """Return θ = s·z − d, float64."""
    return state["latent"].to(torch.float64, copy=True).mul_(state["sign"]).sub_(state["offset"])


def bury(state: State, absent: Tensor) -> None:
    """Put the latents of absent synapses at the threshold where they have risen above it."""
    at_threshold = state["sign"].to(state["latent"].dtype) * state["offset"]
    risen = absent & (state["latent"] * state["sign"] > state["offset"])
    state["latent"].copy_(torch.where(risen, at_threshold, state["latent"]))


def project(weights: Sequence[Tensor], states: Sequence[State], compiled: bool = False) -> None:
    """Write w = s·relu(s·z − d) into the weights' own memory; `compiled` takes one kernel call for all tensors."""
    rows = [(weight.detach(), state) for weight, state in zip(weights, states)]
    small = [] if compiled else [row for row in rows if is_small(row[0])]
    if len(small) > 1:
        _project_together(*map(list, zip(*small)))
        rows = [row for row in rows if not is_small(row[0])]
    full = [(weight, state["latent"], state["sign"], _minus(state)) for weight, state in rows]
    if compiled:
        _compiled_projection()(full)
    else:
        for row in full:
            _project_in_pieces(*row)
    for weight, state in zip(weights, states):
        if "absent" in state:
            weight.masked_fill_(state["absent"], 0.0)


def _minus(state: State) -> Tensor:
    """Return −d, as the latents' own kind of tensor."""
    latent = state["latent"]
    return torch.full((), -state["offset"], dtype=latent.dtype, device=latent.device)


def _project_together(weights: list[Tensor], states: list[State]) -> None:
    """Write many small weights by few calls."""
    signs = [state["sign"] for state in states]
    theta = torch._foreach_mul([state["latent"] for state in states], signs)
    torch._foreach_add_(theta, [-state["offset"] for state in states])
    torch._foreach_clamp_min_(theta, 0.0)
    torch._foreach_mul_(theta, signs)
    torch._foreach_copy_(weights, theta)


def _project_in_pieces(weight: Tensor, latent: Tensor, sign: Tensor, minus_offset: Tensor) -> None:
    pieces: Iterable[tuple[Tensor, ...]] = [(weight, latent, sign)]
    large = weight.numel() > WHOLE and weight.device.type == "cpu"  # on a GPU, each piece would be three launches
    if large and is_dense(weight) and weight.stride() == latent.stride() == sign.stride():
        pieces = zip(*(t.as_strided((t.numel(),), (1,)).split(CHUNK) for t in (weight, latent, sign)))
    for w, z, s in pieces:
        theta = w if w.dtype == z.dtype else torch.empty_like(z)
        torch.addcmul(minus_offset, z, s, out=theta).relu_().mul_(s)
        if theta is not w:
            w.copy_(theta)


@functools.cache
def _compiled_projection() -> Any:
    def project_all(rows: list[tuple[Tensor, ...]]) -> None:
        for weight, latent, sign, minus_offset in rows:
            weight.copy_(torch.addcmul(minus_offset, latent, sign).relu() * sign)

    return torch.compile(project_all)
