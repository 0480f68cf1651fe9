"""A saved state on its way into an optimizer.

torch casts a state to the type of its tensor, which would round float32 latents of bfloat16 weights. So it finds empty
tensors of the latents' type in place of the weights while it loads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from synaprune.optim import bases, loading
from synaprune.optim.row import in_layout_of, latent_dtype

if TYPE_CHECKING:
    from synaprune.optim.rewirer import Rewirer

__all__ = ["own", "standing_in", "take_home"]


@contextmanager
def standing_in(optimizer: Rewirer) -> Iterator[None]:
    """Check what torch loads, after the user's hooks have seen it, and keep the weights out of its sight."""
    last = optimizer.register_load_state_dict_pre_hook(cast(Any, _check_and_stand_in))
    try:
        yield
    finally:
        last.remove()
        _return_weights(optimizer)


def take_home(optimizer: Rewirer) -> None:
    """Give the states that torch has loaded to the weights, with tensors of their own."""
    if "_stand_ins" not in vars(optimizer):
        return
    weights = _return_weights(optimizer)
    loaded = {weights.get(p, p): state for p, state in optimizer.state.items()}
    for p, value in loaded.items():
        if isinstance(p, Tensor):
            loaded[p] = own(p, value, optimizer.rule.sign_dtype)
    optimizer.state = defaultdict(dict, loaded)
    torchs = bases.comes_with_torch(type(optimizer._driver.optimizer))
    loading.complete(optimizer.param_groups, optimizer.defaults, loaded.values(), torchs)


def _check_and_stand_in(optimizer: Rewirer, state_dict: dict[str, Any]) -> None:
    groups = optimizer.param_groups
    loading.in_order(state_dict, groups)
    loading.check(state_dict, groups, optimizer._name)
    keys_of = partial(loading.keys_of, optimizer._start, optimizer._driver)
    loading.check_whole(state_dict, groups, optimizer._name, keys_of)
    # What an older version did not know yet has the value it has here.
    state_dict["param_groups"] = [
        {**mine, **loading.renamed(saved)} for mine, saved in zip(groups, state_dict["param_groups"])
    ]
    stand_ins: dict[Tensor, Tensor] = {}
    for group in groups:
        if group["rewire"]:
            empty = [torch.empty(0, dtype=latent_dtype(p), device=p.device) for p in group["params"]]
            stand_ins.update(zip(empty, group["params"]))
            group["params"] = empty
    optimizer.__dict__["_stand_ins"] = stand_ins


def _return_weights(optimizer: Rewirer) -> dict[Tensor, Tensor]:
    weights: dict[Tensor, Tensor] = vars(optimizer).pop("_stand_ins", {})
    for group in optimizer.param_groups if weights else ():
        group["params"] = [weights.get(p, p) for p in group["params"]]
    return weights


def own(weight: Tensor, state: Any, sign_dtype: torch.dtype | None = None) -> Any:
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
