"""The rewiring methods: one method, one file, each a `torch.optim.Optimizer`."""

from synaprune.catalogue import CATALOGUE
from synaprune.optim.deep_r import DeepR
from synaprune.optim.dense import Dense
from synaprune.optim.grad_r import GradR
from synaprune.optim.granet import GraNet
from synaprune.optim.lats import LATS
from synaprune.optim.magnitude import Magnitude, MagnitudeSTE
from synaprune.optim.rewirer import Rewirer
from synaprune.optim.rigl import RigL
from synaprune.optim.set import SET
from synaprune.optim.soft_deep_r import SoftDeepR
from synaprune.optim.static import Static
from synaprune.optim.stds import STDS
from synaprune.optim.str import STR

__all__ = [
    "LATS",
    "METHODS",
    "SET",
    "STDS",
    "STR",
    "DeepR",
    "Dense",
    "GraNet",
    "GradR",
    "Magnitude",
    "MagnitudeSTE",
    "Rewirer",
    "RigL",
    "SoftDeepR",
    "Static",
]

METHODS: dict[str, type[Rewirer]] = {name: globals()[entry.optimizer] for name, entry in CATALOGUE.items()}
"""The optimizers by the names that methods have in recipes, records and on the command line."""
