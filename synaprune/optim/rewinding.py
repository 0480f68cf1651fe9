"""Back to earlier weights, under the synapses that are left: what lottery tickets are drawn with.

Source: Frankle and Carbin, "The Lottery Ticket Hypothesis", ICLR 2019, arXiv 1803.03635; to a point after some training
rather than the first step: Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis", ICML 2020,
arXiv 1912.05671.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from synaprune.errors import UsageError
from synaprune.optim import saving
from synaprune.optim.groups import Group

if TYPE_CHECKING:
    from synaprune.optim.rewirer import Rewirer

__all__ = ["rewind", "snapshot"]


def snapshot(optimizer: Rewirer) -> dict[str, Any]:
    """Return the weights of all groups and the base's states of them, as plain data that any checkpoint can hold."""
    tensors = _tensors(optimizer)
    states = [_base_state(optimizer, group, weight) for group, weight in tensors]
    return {"weights": [weight.detach().clone() for _, weight in tensors], "states": copy.deepcopy(states)}


def rewind(optimizer: Rewirer, taken: dict[str, Any]) -> None:
    """Give what is left the weights and the base's states of a snapshot; what is absent stays so.

    Raises:
        UsageError: it is no snapshot, or one of other tensors.
    """
    tensors = _tensors(optimizer)
    shapes = [weight.shape for _, weight in tensors]
    if not isinstance(taken, dict) or taken.keys() != {"weights", "states"}:
        raise UsageError("rewind needs what snapshot() of this optimizer has returned, at the point to go back to")
    if [values.shape for values in taken["weights"]] != shapes:
        raise UsageError("this snapshot is of another model: its tensors have other shapes; take one of this optimizer")
    for (group, weight), values, state in zip(tensors, taken["weights"], taken["states"]):
        if weight.requires_grad:
            values, state = values.to(weight), saving.own(weight, copy.deepcopy(state))
            if group["rewire"]:
                t = optimizer._row_of(weight)
                values = torch.where(optimizer.rule.mask(t), torch.where(values != 0, values, weight), 0.0)
                t.state["base"] = state
            else:
                optimizer.state[weight] = state
            weight.copy_(values)


def _tensors(optimizer: Rewirer) -> list[tuple[Group, Tensor]]:
    return [(group, weight) for group in optimizer.param_groups for weight in group["params"]]


def _base_state(optimizer: Rewirer, group: Group, weight: Tensor) -> dict[str, Any]:
    """Return the base's own state of a tensor."""
    if group["rewire"]:
        return optimizer._row_of(weight).state["base"]
    return dict(optimizer.state[weight])
