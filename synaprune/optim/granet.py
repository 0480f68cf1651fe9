"""GraNet: gradual magnitude pruning, after each round of which a part of the synapses is exchanged.

Inside every `period`-th step, after the base has moved the weights:

1. pruning: the number of synapses falls to what the schedule says, and those of the largest |w| stay, ranked over all
   layers or within each;
2. zero-cost neuroregeneration: in each layer the weakest are dropped and as many with the largest |∂L/∂w| are grown,
   those that 1 has just pruned among them (see `drop_grow`).

Source: Liu et al., "Sparse Training via Boosting Pruning Plasticity with Neuroregeneration", NeurIPS 2021,
arXiv 2106.10404.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from synaprune.budget import ALLOCATIONS, SHAPES, Schedule, allocate, erdos_renyi_kernel
from synaprune.errors import UsageError, nearest
from synaprune.optim.budgeted import Sparsity, budget_options
from synaprune.optim.drop_grow import DropGrow, first
from synaprune.optim.groups import Group, Params, State

__all__ = ["GraNet"]


class GraNet(DropGrow):
    """Prune gradually, and let the gradient exchange a part of what is left.

    >>> from synaprune.budget import cubic
    >>> model = torch.nn.Linear(4, 2)
    >>> optimizer = GraNet(model, lr=1e-2, sparsity=0.75, schedule=cubic(steps=2), period=1)
    >>> optimizer.connectivity()
    0.5
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     model(torch.ones(1, 4)).sum().backward()
    ...     optimizer.step()
    >>> optimizer.connectivity()
    0.25

    Args:
        params: a module, or what any torch optimizer takes (see `Rewirer`).
        lr: learning rate of the base optimizer.
        sparsity: share of the synapses that shall be absent in the end, in [0, 1): one number, or one per name
            pattern. Group option.
        schedule: when the budget is reached, from `synaprune.budget`: `cubic(steps=…)`. Group option.
        initial: connectivity to begin with, in (0, 1], drawn by lot; 1 begins with all synapses. Group option.
        drop: share of a layer's synapses that is exchanged at first, in (0, 1). Group option.
        annealing: shape along which it falls from the first step to the last: the name of one in `synaprune.budget`,
            "constant" for one that does not fall. Group option.
        end: share of the steps after which none is exchanged any more, in (0, 1]. Group option.
        period: steps from one pruning, and one exchange, to the next; the schedule's last step always prunes. Group
            option.
        growth: which synapses are grown: "gradient", "random" or "momentum" (see `SET`). Group option.
        allocation: where the synapses are: "global" ranks all by |w|, "scaled" by |w| over the root mean square of the
            layer's initial weights, "uniform" and "erk" give each layer a number. The first ones are drawn by "uniform"
            if it is that, else by "erk". Group option.
        floor: share of the common connectivity below which no layer falls when all are ranked. Group option.
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

    shrinks = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        sparsity: Sparsity | None = None,
        schedule: Schedule | None = None,
        initial: float = 0.5,
        drop: float = 0.5,
        annealing: str = "cosine",
        end: float = 1.0,
        period: int = 100,
        growth: str = "gradient",
        allocation: str = "global",
        floor: float = 0.1,
        rescale: bool = False,
        base: type[Optimizer] = torch.optim.Adam,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        check_finite: bool = True,
        seed: int = 0,
        **base_options: Any,
    ) -> None:
        budget = budget_options(sparsity, schedule, allocation, period, floor)
        exchange = {"drop": drop, "annealing": annealing, "end": end, "growth": growth}
        start = {"initial": initial, "rescale": rescale, "seed": seed}
        defaults = {**budget, **exchange, **start, "check_finite": check_finite}
        super().__init__(params, defaults, base, {"lr": lr, **base_options}, include, exclude)

    def _annealing(self, group: Group) -> Schedule:
        return {"name": group["annealing"], "steps": group["schedule"]["steps"], "pause": 0.0, "flat": 0.0}

    def _check_group(self, group: Group) -> None:
        super()._check_group(group)
        initial, sparsity, annealing = (group[key] for key in ("initial", "sparsity", "annealing"))
        if not isinstance(initial, int | float) or isinstance(initial, bool) or not 0.0 < initial <= 1.0:
            raise UsageError(f"initial={initial!r} is not a connectivity in (0, 1]; 1 begins with all synapses")
        if isinstance(sparsity, int | float) and initial < 1.0 - sparsity:
            raise UsageError(
                f"initial={initial} begins below the connectivity of {1.0 - sparsity:.4g} that sparsity={sparsity} "
                "asks for in the end; give initial=1"
            )
        if isinstance(sparsity, Mapping):
            last = self._plan(group, []).layers or []
            for weight, begin, end in zip(self._learning(group), self._drawn(group), last):
                if begin < end:
                    raise UsageError(
                        f"{self._name(weight)} would begin with {begin} synapses and end with {end}, but GraNet only "
                        f"prunes: initial={initial} is too low for sparsity={dict(sparsity)}; give initial=1"
                    )
        if annealing not in SHAPES:
            hint = nearest(str(annealing), SHAPES) or f"; there are {', '.join(SHAPES)}"
            raise UsageError(f"there is no annealing {annealing!r}{hint}")

    def _drawn(self, group: Group) -> list[int]:
        weights = self._learning(group)
        allocation = ALLOCATIONS[group["allocation"]] or erdos_renyi_kernel
        shares = allocation([weight.shape for weight in weights], group["initial"])
        return allocate([weight.numel() for weight in weights], shares, [self._name(weight) for weight in weights])

    def _score(self, weight: Tensor, state: State) -> Tensor:
        return first(state["latent"].abs(), state["mask"])
