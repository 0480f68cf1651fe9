"""The rewiring methods: one method, one file, each a `torch.optim.Optimizer`."""

from synaprune.optim.dense import Dense
from synaprune.optim.grad_r import GradR
from synaprune.optim.magnitude import Magnitude, MagnitudeSTE
from synaprune.optim.rewirer import Rewirer
from synaprune.optim.static import Static

__all__ = ["METHODS", "Dense", "GradR", "Magnitude", "MagnitudeSTE", "Rewirer", "Static"]

METHODS: dict[str, type[Rewirer]] = {
    "dense": Dense,
    "grad_r": GradR,
    "magnitude": Magnitude,
    "magnitude_ste": MagnitudeSTE,
    "static": Static,
}
