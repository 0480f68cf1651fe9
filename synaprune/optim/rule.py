"""The contract of the rewiring methods: latents that any torch optimizer moves, and weights made of them.

A method keeps a latent z for every synapse. The base optimizer moves it by the gradient that `pull` returns, and
`write` makes the network's weights of it. With signed latents, w = s·relu(s·z − d), that gradient is ∂L/∂w itself:
because the direction of such a base turns around with the sign of its gradient, this is the same as running it on the
synaptic parameter θ = s·z − d with the redefined gradient s·∂L/∂w.

How latents become weights is a *map* (`maps/`), and which synapses exist a matter of *topology* (`topology/`). A method
is a rule: it takes one map, and says with the rest of these members what it adds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from synaprune.budget import Plan
from synaprune.optim.groups import Group
from synaprune.optim.row import Row
from synaprune.optim.topology import budget

__all__ = ["Rule"]


class Rule:
    """What a method does with each tensor (a `Row`) inside one step, in the order of these members.

    A rule keeps nothing: what is to be saved lives in the rows' states.
    """

    method = ""  # the name of the optimizer, for sentences
    options: tuple[str, ...] = ()  # of its groups
    latents: tuple[str, ...] = ("latent",)  # keys of the state that the base moves; not all need be there
    sign_dtype: torch.dtype | None = None  # of signs that are kept in another type than the latents
    keeps_a_number = True  # can a number of synapses be asked for?
    draws = False  # are its first synapses drawn, when the optimizer is made?
    fixed: Mapping[str, Any] = MappingProxyType({})  # group options that nobody sets
    ignores: tuple[str, ...] = ()  # of the call that serves all methods, what has no meaning for this one

    # -- the map -------------------------------------------------------------------------------------------------

    def start(self, t: Row) -> None:
        """Fill the state of a tensor that joins, from the weights of that moment."""
        raise NotImplementedError

    def write(self, rows: Sequence[Row]) -> None:
        """Write the weights of these tensors."""
        raise NotImplementedError

    def adopt(self, t: Row) -> None:
        """Take over weights that somebody else has written since the last step."""
        raise NotImplementedError

    def thaw(self, t: Row, absent: Tensor) -> None:
        """Let synapses that were frozen absent compete again."""

    def theta(self, t: Row) -> Tensor:
        """Return what decides which synapses exist, float64, in the tensor's shape."""
        raise NotImplementedError

    def mask(self, t: Row) -> Tensor:
        """Return which synapses exist: bool, in the tensor's shape."""
        return t.weight.detach() != 0

    def leave(self, t: Row, count: int, bound: float | None) -> tuple[int, float] | None:
        """Leave exactly `count` synapses; `bound` is the score below which none of the group survives.

        Where a threshold was moved, return how many there were before, and by how much it rose.
        """
        raise NotImplementedError

    # -- the method ------------------------------------------------------------------------------------------------

    def check(self, group: Group, layers: budget.Layers) -> None:
        """Refuse options of a group that make no sense to this method.

        Raises:
            UsageError: naming the option.
        """
        if self.has_budget(group):
            layers.plan(group)

    def has_budget(self, group: Group) -> bool:
        """Tell whether this group asks for a number of synapses."""
        return True

    def changed(self, rows: list[Row], layers: budget.Layers) -> None:
        """Let the tensors of a group follow what has changed of its options."""

    def draw(self, new: list[Row], rows: list[Row], layers: budget.Layers) -> None:
        """Draw the synapses of the `new` ones among the rows of a group."""

    def before(self, t: Row) -> Any:
        """Note what is needed of a tensor as it is before the base step; `after` gets it back."""

    def pull(self, t: Row, gradient: Tensor) -> dict[str, Tensor]:
        """Return the gradient of each latent, from ∂L/∂w."""
        return {"latent": gradient}

    def landed(self, t: Row) -> None:
        """Look at latents that the base has moved, be the topology frozen or not."""

    def after(self, t: Row, note: Any) -> None:
        """Move what the base does not: a prior's drift, noise, a threshold."""

    def score(self, t: Row) -> Tensor:
        """Return what ranks the synapses of a tensor, in its shape: the largest survive."""
        raise NotImplementedError

    def due(self, group: Group, always: bool) -> bool:
        """Tell whether the number of synapses is made exact now; `always` is somebody's wish, between two steps."""
        step = group["clock"]
        return bool(self.has_budget(group) and step and (always or budget.due(group, step)))

    def meet(self, rows: list[Row], plan: Plan, solved: budget.Report) -> list[Row]:
        """Make the number of a group's synapses exact, and return the tensors that have changed."""
        budget.meet(self, rows, plan, solved)
        return rows

    def exchange(self, rows: list[Row]) -> None:
        """Let synapses of a group's tensors come and go whose number stays."""

    def forget(self) -> None:
        """Drop what was kept to be quick, and can be found anew."""
