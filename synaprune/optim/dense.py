"""The dense baseline: the base optimizer alone, on the same path as every rewiring method."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from synaprune.budget import FORMS
from synaprune.optim.groups import Params
from synaprune.optim.rewirer import Rewirer
from synaprune.optim.rule import Rule

__all__ = ["Dense", "DenseRule"]


class DenseRule(Rule):
    """Nothing, for nothing is rewired."""

    keeps_a_number = False
    fixed = {"rewire": False}  # noqa: RUF012 - nobody changes it
    ignores = (*FORMS, "schedule")


class Dense(Rewirer):
    """Train every parameter plainly; synapses are counted, none is rewired.

    Args:
        exclude: taken for the sake of equal calls; nothing is rewired anyway.

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
        super().__init__(DenseRule(), locals())
        for group in self.param_groups:
            group["rewire"] = False
