"""Hidden synaptic parameters of one tensor: how they start, change hands, and become weights.

A tensor's state holds `latent` z and `sign` s, both in the weight's shape and memory layout, and one float64
`offset` d. They stand for θ = s·z − d, and the network sees w = s·relu(θ). How the threshold moves is in `threshold`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from synaprune.optim import threshold
from synaprune.optim.fingerprint import is_dense

__all__ = ["adopt", "bury", "in_layout_of", "latent_dtype", "own", "project", "start"]

# Tensors above WHOLE values are projected in pieces of CHUNK, which stay in the processor's cache between the
# three operations; below, the pieces cost more than they save.
WHOLE, CHUNK = 2**20, 2**18


def latent_dtype(weight: Tensor) -> torch.dtype:
    """Return the latents' type: the weight's own, but float32 at least."""
    return torch.promote_types(weight.dtype, torch.float32)


def in_layout_of(weight: Tensor, values: Tensor) -> Tensor:
    """Return a copy of `values` in the memory layout of `weight` (fused kernels read both side by side)."""
    layout = torch.empty_like(weight, dtype=values.dtype, memory_format=torch.preserve_format)
    return layout.copy_(values)


def start(weight: Tensor, margin: float, seed: int, sign_dtype: torch.dtype | None = None) -> dict[str, Any]:
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


def adopt(weight: Tensor, state: dict[str, Any], margin: float, compiled: bool = False) -> None:
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


def own(weight: Tensor, state: dict[str, Any], sign_dtype: torch.dtype | None = None) -> dict[str, Any]:
    """Return a loaded state with tensors of its own, in the weight's memory layout and each of its right type."""
    owned: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, dict):
            owned[key] = own(weight, value)
        elif isinstance(value, Tensor):
            owned[key] = in_layout_of(weight, value) if value.shape == weight.shape else value.clone()
        else:
            owned[key] = value
    # torch has cast every tensor to the latents' type.
    for key in ("absent", "mask"):
        if key in owned:
            owned[key] = owned[key].bool()
    if "sign" in owned:
        owned["sign"] = owned["sign"].to(sign_dtype or owned["latent"].dtype)
    return owned


def bury(state: dict[str, Any], absent: Tensor) -> None:
    """Put the latents of absent synapses at the threshold where they have risen above it."""
    at_threshold = state["sign"].to(state["latent"].dtype) * state["offset"]
    risen = absent & (state["latent"] * state["sign"] > state["offset"])
    state["latent"].copy_(torch.where(risen, at_threshold, state["latent"]))


def project(weights: Sequence[Tensor], states: Sequence[dict[str, Any]], compiled: bool = False) -> None:
    """Write w = s·relu(s·z − d) into the weights' own memory; `compiled` takes one kernel call for all tensors."""
    rows = []
    for weight, state in zip(weights, states):
        latent = state["latent"]
        minus_offset = torch.full((), -state["offset"], dtype=latent.dtype, device=latent.device)
        rows.append((weight.detach(), latent, state["sign"], minus_offset))
    if compiled:
        _compiled_projection()(rows)
    else:
        for row in rows:
            _project_in_pieces(*row)
    for weight, state in zip(weights, states):
        if "absent" in state:
            weight.masked_fill_(state["absent"], 0.0)


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
