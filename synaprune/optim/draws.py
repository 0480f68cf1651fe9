"""Methods whose network is sparse from its first forward pass: they draw synapses by lot when they are made."""

from __future__ import annotations

from typing import Any

from synaprune.optim.budgeted import Budgeted
from synaprune.optim.groups import Group

__all__ = ["Draws"]


class Draws(Budgeted):
    """Base class of these methods: each group's synapses are drawn once, also those of a group that is added later."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for group in self._rewiring_groups():
            self._draw(group)

    def add_param_group(self, param_group: Group) -> None:
        """Add a group as any torch optimizer does, and draw its synapses."""
        super().add_param_group(param_group)
        if hasattr(self, "_versions") and self.param_groups[-1]["rewire"]:  # else the optimizer is being made
            self._draw(self.param_groups[-1])

    def _draw(self, group: Group) -> None:
        """Draw the synapses of a group, first among those that exist, and write the weights they start with."""
        raise NotImplementedError
