"""The rewiring methods: one method, one file, each a `torch.optim.Optimizer`."""

from synaprune.optim.dense import Dense
from synaprune.optim.grad_r import GradR
from synaprune.optim.rewirer import Rewirer

__all__ = ["METHODS", "Dense", "GradR", "Rewirer"]

METHODS: dict[str, type[Rewirer]] = {"dense": Dense, "grad_r": GradR}
