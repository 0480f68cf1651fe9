"""Grad R as its paper and the released code have it: one θ and one frozen s per weight, nothing clever.

Source: Chen et al., IJCAI 2021, arXiv 2105.04916, Algorithm 1, with Adam and the prior's bias correction as in
the released code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["Adam", "GradR", "GradRBudget", "SGD"]


class SGD:
    """A(g) = g, or the momentum buffer b ← βb + g."""

    def __init__(self, momentum: float = 0.0) -> None:
        self.momentum, self.b = momentum, torch.tensor(0.0)

    def direction(self, g: Tensor) -> Tensor:
        """Return A(g)."""
        self.b = self.momentum * self.b + g
        return self.b

    def correction(self) -> float:
        """Return 1: there is no first moment to correct."""
        return 1.0


class Adam:
    """A(g) = m̂ / (√v̂ + ε)."""

    def __init__(self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.m = self.v = torch.tensor(0.0)
        self.n = 0

    def direction(self, g: Tensor) -> Tensor:
        """Return A(g)."""
        self.n += 1
        self.m = self.beta1 * self.m + (1 - self.beta1) * g
        self.v = self.beta2 * self.v + (1 - self.beta2) * g * g
        m_hat, v_hat = self.m / (1 - self.beta1**self.n), self.v / (1 - self.beta2**self.n)
        return m_hat / (v_hat.sqrt() + self.eps)

    def correction(self) -> float:
        """Return 1 − β₁ⁿ."""
        return 1 - self.beta1**self.n


class GradR:
    """One tensor under Grad R.

    Args:
        w: initial weights, none of them 0.
        eta: learning rate η.
        alpha: rate α of the Laplace prior.
        p: target sparsity of the prior.
        base: what makes a direction A of a gradient.
        weight_decay: λ, added to g where `decoupled` is false, else taken off w apart.
        decoupled: whether weight decay is decoupled (AdamW).
    """

    def __init__(
        self,
        w: Tensor,
        eta: float,
        alpha: float,
        p: float,
        base: Adam | SGD,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        self.s, self.theta = torch.sign(w), torch.abs(w)
        self.eta, self.alpha, self.base = eta, alpha, base
        self.mu = math.log(2 * (1 - p)) / alpha
        self.weight_decay, self.decoupled = weight_decay, decoupled

    @property
    def w(self) -> Tensor:
        """What the network sees: w = s·relu(θ)."""
        return self.s * torch.relu(self.theta)

    def step(self, g: Tensor) -> Tensor:
        """Take g = ∂L/∂w and return the new weights."""
        w, s, eta = self.w, self.s, self.eta
        if not self.decoupled:
            g = g + self.weight_decay * w
        prior = torch.sign(self.theta - self.mu)
        self.theta = self.theta - eta * s * self.base.direction(g)
        self.theta = self.theta - eta / self.base.correction() * self.alpha * prior
        if self.decoupled:
            self.theta = self.theta - eta * self.weight_decay * s * w
        return self.w


class GradRBudget:
    """One tensor under Grad R with a budget: α is not given but solved for.

    For numbers that change little from one solve to the next: after a jump `optim.GradR` forgets its α.

    Args:
        w: initial weights, none of them 0.
        eta: learning rate η.
        base: what makes a direction A of a gradient.
    """

    def __init__(self, w: Tensor, eta: float, base: Adam | SGD) -> None:
        self.s, self.theta = torch.sign(w), torch.abs(w)
        self.eta, self.base = eta, base
        self.alpha: float | None = None  # until the first solve there is no prior
        self.shift = self.travel = 0.0

    @property
    def w(self) -> Tensor:
        """What the network sees: w = s·relu(θ)."""
        return self.s * torch.relu(self.theta)

    def step(self, g: Tensor, n: int | None = None) -> Tensor:
        """Take g = ∂L/∂w, leave exactly n synapses if n (below their number) is given, and return the new weights.

        The threshold b falls no further than it has drifted since the last solve. What is missing then is raised
        from below it to just above.
        """
        drift = self.eta * (self.alpha or 0.0)
        self.theta = self.theta - self.eta * self.s * self.base.direction(g) - drift
        self.shift, self.travel = self.shift + drift, self.travel + self.eta
        if n is not None:
            b = self.theta.flatten().sort(descending=True).values[n].item()  # the largest that is not to exist
            shall_exist, b = self.theta > b, max(b, -max(self.shift, 0.0))
            self.theta = torch.where(shall_exist, (self.theta - b).clamp(min=2.0**-100), self.theta - b)
            found = (self.shift + b) / self.travel
            self.alpha = found if self.alpha is None else (self.alpha + found) / 2
            self.shift = self.travel = 0.0
        return self.w
