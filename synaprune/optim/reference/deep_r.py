"""Deep R and soft Deep R as their paper has them: one θ and one frozen s per weight, nothing clever.

Source: Bellec et al., ICLR 2018, arXiv 1711.05136, algorithms 1 and 2, with a base optimizer in place of plain
gradient descent.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from synaprune.optim.reference.grad_r import SGD, Adam

__all__ = ["DeepR", "SoftDeepR"]


class DeepR:
    """One tensor under Deep R.

    Args:
        theta: initial θ, 0 where the synapse is dormant.
        s: the signs of all synapses.
        eta: learning rate η.
        alpha: rate α of the L1 penalty.
        temperature: T of the noise.
        base: what makes a direction A of a gradient.
        choose: takes the indices of the dormant synapses and a number, and returns so many of them.
        tiny: θ of a newborn.
    """

    def __init__(
        self,
        theta: Tensor,
        s: Tensor,
        eta: float,
        alpha: float,
        temperature: float,
        base: Adam | SGD,
        choose: Callable[[Tensor, int], Tensor],
        tiny: float,
    ) -> None:
        self.theta, self.s = theta, s
        self.eta, self.alpha, self.T = eta, alpha, temperature
        self.base, self.choose, self.tiny = base, choose, tiny
        self.K = int((theta > 0).sum())

    @property
    def w(self) -> Tensor:
        """What the network sees: w = s·relu(θ)."""
        return self.s * torch.relu(self.theta)

    def step(self, g: Tensor, nu: Tensor) -> Tensor:
        """Take g = ∂L/∂w and noise ν for all synapses, and return the new weights."""
        eta, active = self.eta, self.theta > 0
        move = -eta * self.s * self.base.direction(g * active) - eta * self.alpha + math.sqrt(2 * eta * self.T) * nu
        self.theta = torch.where(active, self.theta + move, 0.0)
        self.theta = torch.where(self.theta < 0, 0.0, self.theta)  # dormant
        dormant = (self.theta.flatten() == 0).nonzero().flatten()
        born = self.choose(dormant, self.K - int((self.theta > 0).sum()))
        self.theta.view(-1)[born] = self.tiny
        for moment in vars(self.base).values():
            if isinstance(moment, Tensor):
                moment.view(-1)[born] = 0.0
        return self.w


class SoftDeepR:
    """One tensor under soft Deep R.

    Args:
        theta: initial θ.
        s: the signs of all synapses.
        eta: learning rate η.
        alpha: rate α of the L1 penalty.
        temperature: T of the noise.
        p: connectivity that the floor is made for.
        base: what makes a direction A of a gradient.
    """

    def __init__(
        self, theta: Tensor, s: Tensor, eta: float, alpha: float, temperature: float, p: float, base: Adam | SGD
    ) -> None:
        self.theta, self.s = theta, s
        self.eta, self.alpha, self.T, self.base = eta, alpha, temperature, base
        self.theta_min = -temperature * (1 - p) / (alpha * p)

    @property
    def w(self) -> Tensor:
        """What the network sees: w = s·relu(θ)."""
        return self.s * torch.relu(self.theta)

    def step(self, g: Tensor, nu: Tensor) -> Tensor:
        """Take g = ∂L/∂w and noise ν for all synapses, and return the new weights."""
        eta, H = self.eta, (self.theta > 0).to(self.theta)
        drift = self.s * self.base.direction(H * g) + self.alpha
        self.theta = self.theta - eta * H * drift + math.sqrt(2 * eta * self.T) * nu
        self.theta = self.theta.clamp(min=self.theta_min)
        return self.w
