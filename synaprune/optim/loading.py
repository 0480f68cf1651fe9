"""Does a saved optimizer state belong to this optimizer and these tensors?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from synaprune.errors import UsageError
from synaprune.optim.driver import Driver
from synaprune.optim.groups import Group
from synaprune.optim.maps.threshold import LOWEST
from synaprune.optim.quiet import quiet_step
from synaprune.optim.row import Row, State
from synaprune.optim.surroundings import shield
from synaprune.optim.topology.budget import PACE

__all__ = ["check", "check_whole", "complete", "in_order", "keys_of", "renamed"]

# Options that had another name in an older version.
RENAMED = {"end": "drop_end"}
# What a state has held for some time only, with the value that says as little as its absence did; and by which tensor
# a 1 is kept company.
LATER: State = {**PACE, "lowest": LOWEST, "carried": 0, "frozen": 0}
COMPANY = {"frozen": "absent", "carried": "carry"}


def check(state_dict: dict[str, Any], groups: list[Group], name: Callable[[Tensor], str]) -> None:
    """Compare method, base, groups and shapes of a state with those of the optimizer that shall load it.

    Raises:
        UsageError: the state belongs to another method or to another model.
    """
    sizes, saved_sizes = ([len(group["params"]) for group in side] for side in (groups, state_dict["param_groups"]))
    if sizes != saved_sizes:
        raise UsageError(
            f"this optimizer state belongs to another model: its groups hold {saved_sizes} tensors, here they hold "
            f"{sizes}"
        )
    for mine, saved in zip(groups, state_dict["param_groups"]):
        if (saved.get("method"), saved.get("rewire")) != (mine["method"], mine["rewire"]):
            raise UsageError(
                f"this optimizer state was written by {saved.get('method', 'another optimizer')}, not by "
                f"{mine['method']}; load it with the method, base and groups that wrote it"
            )
    weights = [weight for group in groups for weight in group["params"]]
    for index, state in state_dict["state"].items():
        if index not in range(len(weights)):
            continue  # somebody else's, which torch hands on as it is
        for value in {**state, **state.get("base", {})}.values():
            if isinstance(value, Tensor) and not _fits(value, weights[index]):
                raise UsageError(
                    f"this optimizer state belongs to another model: {name(weights[index])} has shape "
                    f"{tuple(weights[index].shape)}, its saved state {tuple(value.shape)}"
                )


def renamed(group: Group) -> Group:
    """Return a saved group with the names that its options have now."""
    return {RENAMED.get(option, option): value for option, value in group.items()}


def in_order(state_dict: dict[str, Any], groups: list[Group]) -> None:
    """Number a saved state's tensors as the groups of the optimizer have them, in place.

    Where both sides know names, these tell which is which: other programs key by names, and may bring tensors and
    groups in another order. Else the first of the one is the first of the other, as for torch.

    Raises:
        UsageError: a state keyed by names has others than the optimizer, or holds its groups in another composition.
    """
    saved, states = state_dict["param_groups"], state_dict["state"]
    keyed = any(isinstance(key, str) for group in saved for key in group["params"])
    names = [_names(group) for group in saved]
    mine = [_names({**group, "params": [0] * len(group["params"])}) for group in groups]
    if None in names or None in mine or sorted(_flat(names)) != sorted(_flat(mine)):
        if keyed and None not in mine and (missing := sorted({*_flat(mine)} ^ {*_flat(names)})):
            whose = "its own" if missing[0] in _flat(mine) else "the state's"
            raise UsageError(
                f"this optimizer state is keyed by names, and '{missing[0]}' is only among {whose}; load it into the "
                "optimizer of the model that wrote it"
            )
        order = saved
    else:
        order = [_with(members or [], saved, names) for members in mine]
    keys = [key for group in order for key in group["params"]]
    numbers = {key: number for number, key in enumerate(keys)}
    state_dict["state"] = {numbers.get(key, key): value for key, value in states.items()}
    counted = iter(range(len(keys)))
    state_dict["param_groups"] = [{**group, "params": [next(counted) for _ in group["params"]]} for group in order]


def _names(group: Group) -> list[str] | None:
    """Return the names of a group's tensors without what wrappers put before them; None where they have none."""
    keys = group["params"]
    if not all(isinstance(key, str) for key in keys) or not keys:
        keys = group.get("param_names", None if keys else [])
    if keys is None or len(keys) != len(group["params"]):
        return None
    wrappers = ("module", "_orig_mod")
    return [".".join(part for part in key.split(".") if part not in wrappers) for key in keys]


def _flat(lists: list[Any]) -> list[str]:
    return [name for names in lists for name in names or ()]


def _with(members: list[str], saved: list[Group], names: list[Any]) -> Group:
    """Return the saved group of these tensors, in their order."""
    for group, own in zip(saved, names):
        if sorted(own) == sorted(members):
            keys = dict(zip(own, group["params"]))
            return {**group, "params": [keys[name] for name in members]}
    raise UsageError(
        f"this optimizer state has no group of just {', '.join(members[:3])}{'…' if len(members) > 3 else ''}; load it "
        "into an optimizer with the groups that it was written with"
    )


def keys_of(start: Callable[[Row], None], driver: Driver, group: Group, dims: int) -> tuple[set[str], set[str]]:
    """Return what the state of a tensor holds from the first step on: of ours, and of the base's."""
    with shield():
        tiny = torch.ones((2,) * dims, dtype=torch.float32, device="cpu").requires_grad_()
        row = Row(tiny, group, State(), 0, driver)
        if group["rewire"]:
            start(row)
        tiny.grad, base = torch.zeros_like(tiny), driver.newborn(tiny, group)
        quiet_step(base)
    return set(row.state), set(base.state.get(tiny, {}))


def check_whole(
    state_dict: dict[str, Any],
    groups: list[Group],
    name: Callable[[Tensor], str],
    keys: Callable[[Group, int], tuple[set[str], set[str]]],
) -> None:
    """Refuse a state of which a part has been lost, and add what an older version did not write; in place.

    Raises:
        UsageError: naming the tensor and what is missing of its state.
    """
    known: dict[tuple[int, int], tuple[set[str], set[str]]] = {}
    weights = [(weight, group) for group in groups for weight in group["params"]]
    for index, state in state_dict["state"].items():
        if index not in range(len(weights)) or not state:
            continue
        weight, group = weights[index]
        kind = id(group), weight.ndim
        if kind not in known:
            known[kind] = keys(group, weight.ndim)
        own, base = known[kind]
        if group["rewire"]:
            state = state_dict["state"][index] = _up_to_date(state, own)
            missing = {key for key in own if key not in state} | {
                tensor for flag, tensor in COMPANY.items() if state.get(flag) and tensor not in state
            }
            missing |= {"base"} if "base" not in state else set()
            moments = state.get("base", {}) if state.get("steps") else base
        else:
            missing, moments = set(), state
        missing |= {key for key in base if key not in moments}
        if missing:
            raise UsageError(
                f"the saved state of {name(weight)} has lost its {' and '.join(sorted(missing))}, so nothing was "
                "loaded; some ways to save drop what a new optimizer does not have yet: save and load the state_dict "
                "as a whole"
            )


def _up_to_date(state: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    """Return a state with what has been added since an older version wrote it."""
    then = {flag: int(tensor in state) for flag, tensor in COMPANY.items()} | {"known": int("alpha" in state)}
    return {**{key: then.get(key, value) for key, value in LATER.items() if key in keys or key == "frozen"}, **state}


def complete(groups: list[Group], defaults: dict[str, Any], states: Iterable[Any], torchs: bool) -> None:
    """Fill in what an older version has not written: options of groups, and steps of torch's bases as tensors."""
    for group in groups:
        for option, value in defaults.items():
            group.setdefault(option, value)
    for state in states if torchs else ():
        for own in (state, state.get("base")) if isinstance(state, dict) else ():
            if isinstance(own, dict) and isinstance(own.get("step"), int | float):
                own["step"] = torch.tensor(float(own["step"]), dtype=torch.float32, device="cpu")


def _fits(value: Tensor, weight: Tensor) -> bool:
    """Tell whether a state tensor has the weight's shape, is a scalar, or a factor of it (Adafactor)."""
    pairs = zip(reversed(value.shape), reversed(weight.shape))
    return value.ndim <= weight.ndim and all(size in (1, full) for size, full in pairs)
