"""Gradual magnitude pruning as its papers have it: one weight and one mask, nothing clever.

Source: Zhu and Gupta 2017, arXiv 1710.01878; with straight-through gradients: Bengio, Léonard and Courville 2013,
arXiv 1308.3432.
"""

from __future__ import annotations

import torch
from torch import Tensor

from synaprune.optim.reference.grad_r import SGD, Adam

__all__ = ["Magnitude"]


class Magnitude:
    """One tensor under magnitude pruning.

    Args:
        z: initial weights.
        eta: learning rate η.
        base: what makes a direction A of a gradient.
        straight_through: whether the weight of an absent synapse goes on learning.
        weight_decay: λ, added to g where `decoupled` is false, else taken off z apart; it acts on w.
        decoupled: whether weight decay is decoupled (AdamW).
    """

    def __init__(
        self,
        z: Tensor,
        eta: float,
        base: Adam | SGD,
        straight_through: bool = False,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        self.z, self.m = z, torch.ones_like(z)
        self.eta, self.base, self.straight_through = eta, base, straight_through
        self.weight_decay, self.decoupled = weight_decay, decoupled

    @property
    def w(self) -> Tensor:
        """What the network sees: w = m·z."""
        return self.m * self.z

    def step(self, g: Tensor, n: int | None = None) -> Tensor:
        """Take g = ∂L/∂w, keep the n largest |z| if n is given, and return the new weights."""
        w = self.w
        if not self.straight_through:
            g = self.m * g
        if not self.decoupled:
            g = g + self.weight_decay * w
        self.z = self.z - self.eta * self.base.direction(g)
        if self.decoupled:
            self.z = self.z - self.eta * self.weight_decay * w
        if n is not None:
            size = self.z.abs() if self.straight_through else self.m * self.z.abs()
            kept = size.flatten().sort(descending=True, stable=True).indices[:n]
            self.m = torch.zeros_like(self.z).flatten().index_fill(0, kept, 1.0).view_as(self.z)
        return self.w
