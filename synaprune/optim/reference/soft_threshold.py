"""STDS, LATS and STR as their papers have them: one θ per weight, one d per tensor, nothing clever.

Source: Chen et al., ICML 2022 (STDS); Chen et al., ICLR 2023, arXiv 2302.13019, with the closed forms of the code
released with it (LATS, S-LATS, PGH); Kusupati et al., ICML 2020, arXiv 2002.03231 (STR).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from synaprune.optim.reference.grad_r import SGD, Adam

__all__ = ["LATS", "STDS", "STR", "lats", "pgh", "s_lats", "soft_threshold", "top"]


def soft_threshold(theta: Tensor, d: float) -> Tensor:
    """Return S_d(θ) = sign(θ)·[|θ| − d]₊."""
    return torch.sign(theta) * torch.relu(torch.abs(theta) - d)


class SoftThreshold:
    """One tensor behind a soft threshold that each method moves in its own way.

    Args:
        w: initial weights.
        eta: learning rate η.
        base: what makes a direction A of a gradient.
        gated: whether the gradient is the true one, else it is straight-through.
    """

    def __init__(self, w: Tensor, eta: float, base: Adam | SGD, gated: bool = False) -> None:
        self.theta, self.eta, self.base, self.gated = w, eta, base, gated
        self.d, self.n = 0.0, 0

    @property
    def w(self) -> Tensor:
        """What the network sees."""
        return soft_threshold(self.theta, self.d)

    def step(self, g: Tensor) -> Tensor:
        """Take g = ∂L/∂w and return the new weights."""
        if self.gated:
            g = g * (torch.abs(self.theta) > self.d)
        self.theta = self.theta - self.eta * self.base.direction(g)
        self.n += 1
        self.move()
        return self.w

    def move(self) -> None:
        """Set the threshold after step n."""
        raise NotImplementedError


class STDS(SoftThreshold):
    """d = D·½(1 + sin π(x−½)) with x = n/N, or with `linear` d = D·x."""

    def __init__(
        self, w: Tensor, eta: float, base: Adam | SGD, D: float, N: int, linear: bool = False, gated: bool = False
    ) -> None:
        super().__init__(w, eta, base, gated)
        self.D, self.N, self.linear = D, N, linear

    def move(self) -> None:
        """Set d by the schedule."""
        x = self.n / self.N
        self.d = self.D * (x if self.linear else (1 + math.sin(math.pi * (x - 0.5))) / 2)


class LATS(SoftThreshold):
    """d ← d + λβˣη with x = (n−1)/N, where step n begins."""

    def __init__(
        self,
        w: Tensor,
        eta: float,
        base: Adam | SGD,
        lambda_: float,
        beta: float = 1.0,
        N: int = 1,
        gated: bool = False,
    ) -> None:
        super().__init__(w, eta, base, gated)
        self.lambda_, self.beta, self.N = lambda_, beta, N

    def move(self) -> None:
        """Add to d what the learning rate of this step brings."""
        self.d += self.lambda_ * self.beta ** ((self.n - 1) / self.N) * self.eta


class STR(SoftThreshold):
    """d = σ(s), with s trained by the same base and weight decay s ← (1 − ηλ)s."""

    def __init__(self, w: Tensor, eta: float, bases: tuple[Adam | SGD, Adam | SGD], s: float, lambda_: float) -> None:
        super().__init__(w, eta, bases[0], gated=True)
        self.s, self.base_of_s, self.lambda_ = torch.tensor(s, dtype=w.dtype), bases[1], lambda_
        self.d = torch.sigmoid(self.s).item()
        self.theta = w + torch.sign(w) * self.d  # so that the weights begin as they are

    def step(self, g: Tensor) -> Tensor:
        """Take g = ∂L/∂w and return the new weights."""
        sigma = torch.sigmoid(self.s)
        pull = -torch.sum(g * torch.sign(self.theta) * (torch.abs(self.theta) > self.d)) * sigma * (1 - sigma)
        self.s = self.s - self.eta * self.base_of_s.direction(pull)
        self.s = self.s * (1 - self.eta * self.lambda_)
        return super().step(g)

    def move(self) -> None:
        """Set d by what has been learned."""
        self.d = torch.sigmoid(self.s).item()


def s_lats(D: float, x: float) -> float:
    """Return the threshold of S-LATS at progress x: the integral of a cosine learning rate, D at x = 1."""
    return D * (x + math.sin(math.pi * x) / math.pi)


def lats(D: float, e: int, E: int) -> float:
    """Return the threshold of LATS at the beginning of epoch e of E, for a cosine that falls once per epoch."""
    return D / (2 * (E + 1)) * (1 + 2 * e + math.sin(math.pi * (e - 0.5) / E) / math.sin(math.pi / (2 * E)))


def pgh(D: float, x: float, beta: float) -> float:
    """Return the threshold of PGH at progress x: the integral of βˣ(1 + cos πx), D at x = 1; β ≠ 1."""

    def integral(x: float) -> float:
        # ∫βˣ = βˣ/ln β and ∫βˣ cos πx = βˣ(ln β·cos πx + π·sin πx)/(ln²β + π²)
        a = math.log(beta)
        wave = (a * math.cos(math.pi * x) + math.pi * math.sin(math.pi * x)) / (a * a + math.pi * math.pi)
        return beta**x * (1 / a + wave)

    return D * (integral(x) - integral(0.0)) / (integral(1.0) - integral(0.0))


def top(theta: Tensor, n: int) -> Tensor:
    """Return which n latents an exact budget leaves: the largest |θ|, of equal ones the first; bool."""
    order = torch.sort(torch.abs(theta).flatten(), descending=True, stable=True).indices
    mask = torch.zeros(theta.numel(), dtype=torch.bool)
    mask[order[:n]] = True
    return mask.reshape(theta.shape)
