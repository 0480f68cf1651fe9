"""Connectivity, turnover and activity of a network; torch alone."""

from synaprune.measure.activity import FiringRates
from synaprune.measure.connections import connections
from synaprune.measure.connectivity import Connectivities, connectivities, connectivity, layer_connectivity
from synaprune.measure.turnover import Turnover, turnover

__all__ = [
    "Connectivities",
    "FiringRates",
    "Turnover",
    "connections",
    "connectivities",
    "connectivity",
    "layer_connectivity",
    "turnover",
]
