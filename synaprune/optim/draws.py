"""Methods whose network is sparse from its first forward pass: they draw synapses by lot when they are made."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from synaprune.optim.budgeted import Budgeted
from synaprune.optim.groups import Group, State
from synaprune.optim.surroundings import shielded

__all__ = ["Draws"]


class Draws(Budgeted):
    """Base class of these methods: each group's synapses are drawn once, also those of a group that is added later."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._join()

    def add_param_group(self, param_group: Group) -> None:
        """Add a group as any torch optimizer does, and draw its synapses."""
        super().add_param_group(param_group)
        if hasattr(self, "_written"):  # else the optimizer is being made
            self._join()

    def _start(self, weight: Tensor, group: Group, seed: int) -> State:
        """Note where synapses are still to be drawn: in a frozen tensor, which somebody looks at."""
        state = super()._start(weight, group, seed)
        return state if weight.requires_grad else {**state, "undrawn": True}

    @shielded
    def _join(self) -> None:
        """Draw the synapses of tensors that are new, or learn for the first time."""
        for group in self._rewiring_groups():
            new = [w for w in self._learning(group) if not (state := self._known(w)) or "undrawn" in state]
            if new:
                self._draw(group, new)
                for weight in new:
                    self._state_of(weight, group).pop("undrawn", None)

    def _draw(self, group: Group, new: list[Tensor]) -> None:
        """Draw the synapses of some tensors of a group, first among those that exist, and write their weights."""
        raise NotImplementedError
