"""Does a saved optimizer state belong to this optimizer and these tensors?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from synaprune.errors import UsageError
from synaprune.optim.groups import Group

__all__ = ["check", "complete"]


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
