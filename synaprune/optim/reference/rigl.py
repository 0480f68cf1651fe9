"""Drop and grow as its papers have it: weights θ, a mask m, and an update of the connectivity every ΔT steps.

SET is RigL with the connections that are grown drawn at random. GraNet prunes all layers together before each update.

Source: Mocanu et al., Nature Communications 2018, arXiv 1707.04780 (SET); Evci et al., ICML 2020, arXiv 1911.11134,
Algorithm 1 (RigL); Liu et al., NeurIPS 2021, arXiv 2106.10404 (GraNet).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from synaprune.optim.reference.grad_r import SGD, Adam

__all__ = ["GraNet", "RigL"]


class RigL:
    """One layer under RigL, or under SET.

    Args:
        theta: initial weights θ.
        m: which connections exist at first: bool.
        eta: learning rate η.
        alpha: initial drop fraction α.
        delta_t: steps ΔT between two updates of the connectivity.
        t_end: step T_end from which there is none any more.
        base: what makes a direction A of a gradient.
    """

    def __init__(
        self, theta: Tensor, m: Tensor, eta: float, alpha: float, delta_t: int, t_end: float, base: Adam | SGD
    ) -> None:
        self.theta, self.m, self.base, self.t = theta * m, m, base, 0
        self.eta, self.alpha, self.delta_t, self.t_end = eta, alpha, delta_t, t_end

    def step(self, g: Tensor, grown: Tensor | None = None) -> Tensor:
        """Take the dense gradient g = ∂L/∂θ, for SET also what shall be `grown`, and return the new weights."""
        self.move(g)
        if self.t % self.delta_t == 0 and self.t < self.t_end:
            self.update_connectivity(g, grown)
        return self.theta

    def move(self, g: Tensor) -> None:
        """Move the weights that exist."""
        self.t += 1
        self.theta = self.m * (self.theta - self.eta * self.base.direction(self.m * g))

    def update_connectivity(self, g: Tensor, grown: Tensor | None = None) -> None:
        """Drop the k weakest connections and grow k others, with k = round(f_decay(t; α, T_end)·n)."""
        f_decay = self.alpha / 2 * (1 + math.cos(self.t * math.pi / self.t_end))
        n = int(self.m.sum())
        k = min(round(f_decay * n), self.m.numel() - n)
        dropped = arg_top_k(-self.theta.abs(), self.m, k)
        if grown is None:
            grown = arg_top_k(g.abs(), ~self.m, k)
        self.m = self.m & ~dropped | grown
        self.theta = self.theta * self.m
        for moment in {"m", "v", "b"} & vars(self.base).keys():
            setattr(self.base, moment, getattr(self.base, moment) * ~grown)


class GraNet:
    """All layers under GraNet.

    Args:
        layers: each with the step, the drop fraction and the connections to begin with.
        n_f: number of connections in the end.
        t_f: step by which it is reached.
    """

    def __init__(self, layers: Sequence[RigL], n_f: int, t_f: int) -> None:
        self.layers, self.n_f, self.t_f = layers, n_f, t_f
        self.n_i = sum(int(layer.m.sum()) for layer in layers)

    def step(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Take the dense gradients of all layers and return their new weights."""
        for layer, g in zip(self.layers, gradients):
            layer.move(g)
        t, delta_t, t_end = self.layers[0].t, self.layers[0].delta_t, self.layers[0].t_end
        if t % delta_t == 0 or t == self.t_f:
            self.prune(t)
        if t % delta_t == 0 and t < t_end:
            for layer, g in zip(self.layers, gradients):
                layer.update_connectivity(g)
        return [layer.theta for layer in self.layers]

    def prune(self, t: int) -> None:
        """Keep the n_t largest |θ| of all layers, n_t = n_f + (n_i − n_f)(1 − t/t_f)³."""
        n_t = self.n_f + round((self.n_i - self.n_f) * (1 - min(t / self.t_f, 1)) ** 3)
        everything = torch.cat([layer.theta.flatten() for layer in self.layers])
        bound = everything.abs().sort(descending=True).values[n_t]
        for layer in self.layers:
            layer.m = layer.m & (layer.theta.abs() > bound)
            layer.theta = layer.theta * layer.m


def arg_top_k(v: Tensor, among: Tensor, k: int) -> Tensor:
    """Return which k of those `among` have the largest v, as a mask."""
    order = torch.where(among, v, -torch.inf).flatten().sort(descending=True, stable=True).indices
    chosen = torch.zeros(v.numel(), dtype=torch.bool)
    chosen[order[:k]] = True
    return chosen.reshape(v.shape)
