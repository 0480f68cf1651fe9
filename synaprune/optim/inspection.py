"""Looking inside a rewiring method: θ, masks, connectivity, turnover."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from synaprune.errors import UsageError
from synaprune.measure.turnover import Turnover, turnover
from synaprune.optim.finite import FiniteCheck
from synaprune.optim.latent_optimizer import LatentOptimizer
from synaprune.optim.surroundings import shielded

__all__ = ["Inspection"]


class Inspection(LatentOptimizer):
    """What can be read from a rewiring method at any time; reading changes nothing."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._last_masks: dict[Tensor, Tensor] = {}
        self._finite = FiniteCheck()

    def theta(self, weight: Tensor) -> Tensor:
        """Return the synaptic parameter θ = s·z − d of a rewired tensor, float64, in the tensor's shape."""
        self._finite.report(self._name)
        state = self._state_of(weight, self._group_of(weight))
        return state["latent"].to(torch.float64, copy=True).mul_(state["sign"]).sub_(state["offset"])

    def mask(self, weight: Tensor) -> Tensor:
        """Return which synapses of a tensor exist: bool, in the tensor's shape."""
        return weight.detach() != 0

    def connectivity(self) -> float:
        """Return existing synapses over all synapses, counted over every tensor of synapses, rewired or not."""
        self._finite.report(self._name)
        weights = [p for group in self.param_groups if group["counted"] for p in group["params"]]
        count = sum(p.numel() for p in weights)
        if not count:
            raise UsageError("no group holds synapses to count; one with counted=True would be counted")
        return sum(int(torch.count_nonzero(p.detach())) for p in weights) / count

    @shielded
    def turnover(self) -> dict[str, Turnover]:
        """Count synapses pruned and regrown per rewired tensor since the last call; the first call starts it."""
        self._finite.report(self._name)
        counts = {}
        for _, weight in self._rewired():
            mask = self.mask(weight)
            counts[self._name(weight)] = turnover(self._last_masks.get(weight, mask), mask)
            self._last_masks[weight] = mask
        return counts
