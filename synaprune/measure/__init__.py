"""Connectivity, turnover, activity, synaptic operations and energy of a network; torch alone."""

from synaprune.measure.activity import FiringRates
from synaprune.measure.connections import connections
from synaprune.measure.connectivity import Connectivities, connectivities, connectivity, layer_connectivity
from synaprune.measure.energy import HOROWITZ_45NM, CostTable, Energy, energy
from synaprune.measure.operation_counts import LayerOperations, Operations
from synaprune.measure.operations import OperationCounter, operations
from synaprune.measure.turnover import Turnover, turnover

__all__ = [
    "Connectivities",
    "CostTable",
    "Energy",
    "FiringRates",
    "HOROWITZ_45NM",
    "LayerOperations",
    "OperationCounter",
    "Operations",
    "Turnover",
    "connections",
    "connectivities",
    "connectivity",
    "energy",
    "layer_connectivity",
    "operations",
    "turnover",
]
