"""Connectivity, turnover and activity of a network; torch alone."""

from .activity import FiringRates
from .connectivity import connectivity, layer_connectivity
from .turnover import Turnover, turnover

__all__ = ["FiringRates", "Turnover", "connectivity", "layer_connectivity", "turnover"]
