"""How an optimizer hands its groups and states over to a base, and gets them back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from synaprune.optim.groups import moves

__all__ = ["born", "lent"]


def born(newborn: Optimizer, tensor: Tensor, states: MutableMapping[Any, Any]) -> dict[str, Any]:
    """Return the first state of a tensor that a new base has begun; what it keeps for all tensors goes to `states`."""
    for key, value in newborn.state.items():
        if not isinstance(key, Tensor) and key not in states:
            states[key] = value
    state: dict[str, Any] = newborn.state.get(tensor, {})
    return state


@contextmanager
def lent(base: Optimizer, states: MutableMapping[Any, Any], clashes: Iterable[str]) -> Iterator[None]:
    """Let a base work on its groups with latents in place of weights and no weight decay, and with their states.

    `clashes` are the options that the optimizer has under the same name, and the base under `base_<option>`.
    """
    kept = [dict(group) for group in base.param_groups]
    try:
        for group in base.param_groups:
            for option in clashes:
                group[option] = group[f"base_{option}"]
            group["params"] = [p for p in group["params"] if moves(p)]  # what has been frozen may have an old gradient
            if group["rewire"]:
                group["params"] = [states[p]["latent"] for p in group["params"]]
                if "weight_decay" in group:
                    group["weight_decay"] = 0.0
        with _states_lent(base, states):
            yield
    finally:
        for group, before in zip(base.param_groups, kept):
            group.update({key: before[key] for key in ("params", "weight_decay", *clashes) if key in before})


@contextmanager
def _states_lent(base: Optimizer, states: MutableMapping[Any, Any]) -> Iterator[None]:
    hidden = {state["latent"]: state for key, state in states.items() if _has_latents(key, state)}
    base.state = defaultdict(dict, {key: state for key, state in states.items() if not _has_latents(key, state)})
    base.state.update((latent, state["base"]) for latent, state in hidden.items())
    yield
    for key, state in base.state.items():  # some bases put new ones in their place at every step, or add their own
        if key in hidden:
            hidden[key]["base"] = state
        else:
            states[key] = state


def _has_latents(key: Any, state: Any) -> bool:
    return isinstance(key, Tensor) and isinstance(state, dict) and "latent" in state
