"""Connectivity, turnover and activity of a network; torch alone."""

from synaprune.measure.activity import FiringRates
from synaprune.measure.connectivity import connectivity, layer_connectivity
from synaprune.measure.turnover import Turnover, turnover

__all__ = ["FiringRates", "Turnover", "connectivity", "layer_connectivity", "turnover"]
