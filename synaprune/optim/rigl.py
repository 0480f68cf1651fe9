"""RigL, the rigged lottery: SET whose new synapses are those with the largest gradient.

The gradient ∂L/∂w of the step inside which synapses are exchanged is taken, of absent ones too, and nothing is kept of
it. Everything else is SET's.

Source: Evci et al., "Rigging the Lottery: Making All Tickets Winners", ICML 2020, arXiv 1911.11134.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from synaprune.budget import Schedule
from synaprune.optim.groups import Params, Sparsity
from synaprune.optim.rewirer import Rewirer
from synaprune.optim.set import Exchanging

__all__ = ["RigL"]


class RigL(Rewirer):
    """Drop the smallest weights and grow the synapses of the largest |∂L/∂w|; options as `SET`."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        sparsity: Sparsity | None = None,
        schedule: Schedule | None = None,
        drop: float = 0.3,
        drop_end: float = 0.75,
        period: int = 100,
        growth: str = "gradient",
        allocation: str = "erk",
        rescale: bool = False,
        base: type[Optimizer] = torch.optim.Adam,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        check_finite: bool = True,
        seed: int = 0,
        **base_options: Any,
    ) -> None:
        super().__init__(Exchanging(), locals())
