"""Static random sparsity: synapses are drawn by lot before training, and none comes or goes.

The baseline that every method of pruning has to beat. How they are drawn, and their weights scaled, is in
`starts_sparse`; sources are named there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from synaprune.budget import constant
from synaprune.optim.budgeted import Sparsity, budget_options
from synaprune.optim.groups import Group, Params, State
from synaprune.optim.starts_sparse import StartsSparse

__all__ = ["Static"]


class Static(StartsSparse):
    """Train a random subset of the synapses, drawn when the optimizer is made.

    >>> model = torch.nn.Linear(4, 2)
    >>> optimizer = Static(model, lr=1e-2, sparsity=0.75)
    >>> optimizer.connectivity()
    0.25

    Args:
        params: a module, or what any torch optimizer takes (see `Rewirer`).
        lr: learning rate of the base optimizer.
        sparsity: share of the synapses that are absent, in [0, 1): one number, or one per name pattern. Group option.
        allocation: "erk" (small layers denser) or "uniform". Group option.
        rescale: scale the initial weights of a layer by 1/√connectivity. Group option.
        base: torch optimizer class.
        include: name patterns of tensors that are synapses though no rule of `find_synapses` says so.
        exclude: name patterns of synapses that shall be trained and all exist.
        check_finite: refuse a step with non-finite gradients (on the CPU). Group option.
        seed: seed of the lots. Group option.
        base_options: further options of the base.

    Raises:
        UsageError: a value out of range, or a base that cannot serve.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        sparsity: Sparsity | None = None,
        allocation: str = "erk",
        rescale: bool = True,
        base: type[Optimizer] = torch.optim.Adam,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        check_finite: bool = True,
        seed: int = 0,
        **base_options: Any,
    ) -> None:
        budget = budget_options(sparsity, constant(steps=1), allocation, 1, 0.0)
        defaults = {**budget, "rescale": rescale, "check_finite": check_finite, "seed": seed}
        super().__init__(params, defaults, base, {"lr": lr, **base_options}, include, exclude)

    def _score(self, weight: Tensor, state: State) -> Tensor:
        raise NotImplementedError

    def _meet(self, group: Group, always: bool = False) -> list[Any]:
        return []  # none comes or goes
