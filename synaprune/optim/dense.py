"""The dense baseline: the base optimizer alone, on the same path as every rewiring method."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from synaprune.optim.groups import Params
from synaprune.optim.rewirer import Rewirer

__all__ = ["Dense"]


class Dense(Rewirer):
    """Train every parameter plainly; synapses are counted, none is rewired.

    Args:
        params: a module, or what any torch optimizer takes.
        lr: learning rate of the base optimizer.
        base: torch optimizer class.
        include: name patterns of tensors that count as synapses though no rule of `find_synapses` says so.
        exclude: taken for the sake of equal calls; nothing is rewired anyway.
        check_finite: refuse a step with non-finite gradients (on the CPU). Group option.
        base_options: further options of the base.

    Raises:
        UsageError: an option that the base does not take.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        base: type[Optimizer] = torch.optim.Adam,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        check_finite: bool = True,
        **base_options: Any,
    ) -> None:
        defaults = {"rewire": False, "check_finite": check_finite}
        super().__init__(params, defaults, base, {"lr": lr, **base_options}, include, exclude)
        for group in self.param_groups:
            group["rewire"] = False
