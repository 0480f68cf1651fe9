"""One tensor of synapses, as a rule sees it: its weight, the options of its group, and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor

from synaprune.optim.groups import Group, margin_of

if TYPE_CHECKING:
    from synaprune.optim.driver import Driver

__all__ = ["Row", "State", "base_key", "in_layout_of", "latent_dtype"]


class State(TypedDict, total=False):
    """Everything that can be kept of a tensor; tensors have its shape and memory layout unless they are scalars."""

    # of every method
    latent: Tensor  # z, what the base moves
    base: dict[str, Any]  # the base's own state of it
    steps: int  # that it has made
    frozen: int  # 1: the topology rests, and `absent` says which synapses are to stay away
    absent: Tensor
    seed: int  # of its random draws
    undrawn: bool  # its first synapses are still to be drawn: so far it has not learned

    # what a budget needs of the beginning
    initial: int  # synapses
    scale: float  # root mean square of their weights

    # signed latents: θ = s·z − d
    sign: Tensor  # s
    offset: float  # d
    lowest: float  # no θ lies below
    carried: int  # 1: `carry` holds what latents were too coarse to take
    carry: Tensor

    # latents behind a soft threshold
    threshold: float  # d
    scalar: Tensor  # s of a learned one, d = σ(s)
    scalar_base: dict[str, Any]  # the base's own state of it
    rest: float  # what rounding has taken from s

    # masked latents
    mask: Tensor

    # how a threshold moves from one solve to the next
    shift: float  # its way since the last one
    travel: float  # the sum of the learning rates since then
    alpha: float  # at which rate of a prior it presses
    known: int  # 1: that rate has been learned


@dataclass(slots=True, eq=False)
class Row:
    """One rewired tensor.

    Args:
        weight: the parameter of the network.
        group: its group of `param_groups`, whose options a scheduler may change at any time.
        state: what is kept of it.
        position: its number among all rewired tensors.
        driver: the base optimizer's.
    """

    weight: Tensor
    group: Group
    state: State
    position: int
    driver: Driver

    @property
    def rate(self) -> float:
        """The learning rate."""
        return float(self.group["lr"])

    @property
    def seed(self) -> int:
        """The seed of what is drawn for this tensor alone."""
        return int(self.group["seed"]) + self.position

    @property
    def margin(self) -> float:
        """How far below the threshold a synapse starts that somebody else has cut."""
        return margin_of(self.group, self.driver.optimizer.defaults["lr"])

    @property
    def rests(self) -> bool:
        """Whether its topology is frozen."""
        return "absent" in self.state


def base_key(latent: str) -> str:
    """Return under which key of a state the base's own state of a latent is kept."""
    return "base" if latent == "latent" else f"{latent}_base"


def latent_dtype(weight: Tensor) -> torch.dtype:
    """Return the latents' type: the weight's own, but float32 at least."""
    return torch.promote_types(weight.dtype, torch.float32)


def in_layout_of(weight: Tensor, values: Tensor) -> Tensor:
    """Return a copy of `values` in the memory layout of `weight` (fused kernels read both side by side)."""
    layout = torch.empty_like(weight, dtype=values.dtype, memory_format=torch.preserve_format)
    return layout.copy_(values)
