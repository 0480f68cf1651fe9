"""The rewiring methods: one method, one file, each a `torch.optim.Optimizer`."""

from synaprune.optim.dense import Dense
from synaprune.optim.grad_r import GradR
from synaprune.optim.granet import GraNet
from synaprune.optim.magnitude import Magnitude, MagnitudeSTE
from synaprune.optim.rewirer import Rewirer
from synaprune.optim.rigl import RigL
from synaprune.optim.set import SET
from synaprune.optim.static import Static

__all__ = ["METHODS", "SET", "Dense", "GraNet", "GradR", "Magnitude", "MagnitudeSTE", "Rewirer", "RigL", "Static"]

METHODS: dict[str, type[Rewirer]] = {
    "dense": Dense,
    "grad_r": GradR,
    "granet": GraNet,
    "magnitude": Magnitude,
    "magnitude_ste": MagnitudeSTE,
    "rigl": RigL,
    "set": SET,
    "static": Static,
}
