"""RigL, the rigged lottery: SET whose new synapses are those with the largest gradient.

The gradient ∂L/∂w of the step inside which synapses are exchanged is taken, of absent ones too, and nothing is kept of
it. Everything else is SET's.

Source: Evci et al., "Rigging the Lottery: Making All Tickets Winners", ICML 2020, arXiv 1911.11134.
"""

from __future__ import annotations

from synaprune.optim.set import SET

__all__ = ["RigL"]


class RigL(SET):
    """Drop the smallest weights and grow the synapses of the largest |∂L/∂w|; options as `SET`."""

    growth = "gradient"
