"""The papers' spiking networks."""

from __future__ import annotations

from torch import nn

from synaprune.models.cnn import SpikingCNN
from synaprune.models.lif import LIF
from synaprune.models.mlp import SpikingMLP
from synaprune.models.network import Readout

__all__ = ["LIF", "MODELS", "Readout", "SpikingCNN", "SpikingMLP"]

MODELS: dict[str, type[nn.Module]] = {"cnn": SpikingCNN, "mlp": SpikingMLP}
