"""SET, sparse evolutionary training: the weakest synapses are dropped, as many are grown by lot.

The network is sparse from its first forward pass and the number of synapses of each layer never changes. When and how
synapses are exchanged is in `drop_grow`; the densities of the layers are those of `starts_sparse`.

Source: Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse connectivity inspired by
network science", Nature Communications 2018, arXiv 1707.04780.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from synaprune.budget import Schedule
from synaprune.optim.budgeted import Sparsity, budget_options
from synaprune.optim.drop_grow import DropGrow
from synaprune.optim.groups import Params

__all__ = ["SET"]


class SET(DropGrow):
    """Drop the smallest weights and grow as many synapses at random.

    >>> from synaprune.budget import cosine
    >>> model = torch.nn.Linear(4, 2)
    >>> optimizer = SET(model, lr=1e-2, sparsity=0.75, schedule=cosine(steps=1000))
    >>> optimizer.connectivity()
    0.25

    Args:
        params: a module, or what any torch optimizer takes (see `Rewirer`).
        lr: learning rate of the base optimizer.
        sparsity: share of the synapses that are absent, in [0, 1): one number, or one per name pattern. Group option.
        schedule: how the drop fraction falls over the training, from `synaprune.budget`: `cosine(steps=…)`;
            `constant(steps=…)` for one that does not fall. Group option.
        drop: share of a layer's synapses that is exchanged at first, in (0, 1). Group option.
        end: share of the steps after which none is exchanged any more, in (0, 1]. Group option.
        period: steps from one exchange to the next. Group option.
        growth: which synapses are grown: "random"; "gradient", of the largest |∂L/∂w|; "momentum", of the base's
            largest moving average of ∂L/∂w. Group option; the class's own if not given.
        allocation: "erk" (small layers denser) or "uniform". Group option.
        rescale: scale the initial weights of a layer by 1/√connectivity, which keeps the first currents but makes it
            hard for newborns, which start at 0, to outgrow the synapses drawn. Group option.
        base: torch optimizer class.
        include: name patterns of tensors that are synapses though no rule of `find_synapses` says so.
        exclude: name patterns of synapses that shall be trained and all exist.
        check_finite: refuse a step with non-finite gradients (on the CPU). Group option.
        seed: seed of all lots. Group option.
        base_options: further options of the base.

    Raises:
        UsageError: a value out of range, or a base that cannot serve.
    """

    growth = "random"

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        sparsity: Sparsity | None = None,
        schedule: Schedule | None = None,
        drop: float = 0.3,
        end: float = 0.75,
        period: int = 100,
        growth: str | None = None,
        allocation: str = "erk",
        rescale: bool = False,
        base: type[Optimizer] = torch.optim.Adam,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        check_finite: bool = True,
        seed: int = 0,
        **base_options: Any,
    ) -> None:
        budget = budget_options(sparsity, schedule, allocation, period, 0.0)
        exchange = {"drop": drop, "end": end, "growth": self.growth if growth is None else growth}
        defaults = {**budget, **exchange, "rescale": rescale, "check_finite": check_finite, "seed": seed}
        super().__init__(params, defaults, base, {"lr": lr, **base_options}, include, exclude)
