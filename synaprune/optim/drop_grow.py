"""Drop and grow: every so often the weakest synapses give way to as many new ones.

Inside every `period`-th step n, after the base has moved the weights, each layer with K of its N synapses exchanges
round(f·K) of them, or all N − K that it lacks if those are fewer:

1. the drop fraction f falls along a schedule, which is over at the share `end` of the steps; with the cosine
   f(n) = drop/2·(1 + cos(πn/(end·steps))), and 0 from there on;
2. of the synapses that exist, those with the smallest |w| are dropped;
3. of those that did not, as many with the largest growth score are grown: by lot, or the largest |g| of this very step,
   g = ∂L/∂w being dense, or the largest moving average of g.

What has just been dropped is not grown again. A newborn starts at 0 (a weight of `threshold.TINY`, so that it counts
as a synapse), with fresh moments of its own, and moves at the next step; steps that Adam has counted stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from synaprune.budget import Schedule, largest, progress
from synaprune.errors import UsageError, nearest
from synaprune.optim.groups import Group, State, moves
from synaprune.optim.noise import generator, rand
from synaprune.optim.starts_sparse import StartsSparse
from synaprune.optim.threshold import TINY

__all__ = ["GROWTH", "DropGrow", "check", "drop_fraction", "first"]


# -- how much, and when ----------------------------------------------------------------------------------------


def drop_fraction(drop: float, schedule: Schedule, end: float, step: int) -> float:
    """Return the share of the synapses that may be exchanged after so many steps; 0 when that is over.

    A schedule of constant shape leaves it at `drop` until then.

    >>> from synaprune.budget import cosine
    >>> [round(drop_fraction(0.3, cosine(steps=1000), 0.8, step), 3) for step in (0, 200, 400, 800)]
    [0.3, 0.256, 0.15, 0.0]
    """
    if step >= end * schedule["steps"]:
        return 0.0
    return drop if schedule["name"] == "constant" else drop * (1.0 - progress(schedule, step / end))


# -- by which score --------------------------------------------------------------------------------------------

Key = tuple[int, int, int]  # seed, step, position of the tensor: what a lot depends on
MOVING_AVERAGES = ("exp_avg", "momentum_buffer")


def by_lot(weight: Tensor, state: State, key: Key) -> Tensor:
    """Return lots, the same for all replicas of a network and after any interruption."""
    return rand(weight, generator(weight.device, *key))


def by_gradient(weight: Tensor, state: State, key: Key) -> Tensor:
    """Return |∂L/∂w| of this very step, of absent synapses too."""
    gradient = cast(Tensor, weight.grad)
    return gradient.to(state["latent"].dtype).abs()


def by_momentum(weight: Tensor, state: State, key: Key) -> Tensor:
    """Return the size of the base's moving average of ∂L/∂w."""
    average: Tensor = next(state["base"][name] for name in MOVING_AVERAGES if name in state["base"])
    return average.abs()


GROWTH: dict[str, Callable[[Tensor, State, Key], Tensor]] = {
    "random": by_lot,
    "gradient": by_gradient,
    "momentum": by_momentum,
}
"""Growth scores by name."""


def first(scores: Tensor, among: Tensor) -> Tensor:
    """Return scores by which those `among` come before all others; `scores` are not negative.

    >>> first(torch.tensor([9.0, 1.0, 3.0]), torch.tensor([False, True, True]))
    tensor([-10.,   1.,   3.])
    """
    # Not one value for all others: an order statistic among so many ties takes twenty times as long.
    return torch.where(among, scores, -1.0 - scores)


# -- the methods' common base ----------------------------------------------------------------------------------


class DropGrow(StartsSparse):
    """Base class of the methods that drop and grow.

    They have the group options `drop`, `end`, `growth` and `period`, and say along which schedule the fraction falls.
    """

    # The base moves what is absent too, for nothing but its moving average: a newborn begins anew, and to spare the
    # base these gradients would cost a pass over all synapses.
    straight_through = True

    def _annealing(self, group: Group) -> Schedule:
        """Return the schedule along which the drop fraction of a group falls."""
        schedule: Schedule = group["schedule"]
        return schedule

    def _check_group(self, group: Group) -> None:
        if group["schedule"] is None:
            raise UsageError(
                f"{type(self).__name__} has to know the number of training steps; give "
                f"schedule={'cubic' if self.shrinks else 'cosine'}(steps=…)"
            )
        super()._check_group(group)
        check(group)

    def _rewire(self, group: Group) -> None:
        for weight in filter(moves, group["params"]):
            self.state[weight]["latent"].add_(TINY)  # what has landed on exactly 0 would not count; no other is moved
        super()._rewire(group)
        step = group["clock"]
        fraction = drop_fraction(group["drop"], self._annealing(group), group["end"], step)
        if step % group["period"] or not fraction:
            return
        for _, weight, state in self._rows(group):
            if moves(weight) and "absent" not in state:
                present = int(torch.count_nonzero(state["mask"]))
                dropped = min(round(fraction * present), weight.numel() - present)
                self._exchange(weight, state, group, present, dropped)

    def _leave(self, weight: Tensor, state: State, group: Group, count: int, bound: float | None) -> None:
        """Drop what is too much; grow, too, where others have written zeros into the weights."""
        if count != torch.count_nonzero(state["mask"]):
            self._exchange(weight, state, group, count, 0)

    def _exchange(self, weight: Tensor, state: State, group: Group, count: int, dropped: int) -> None:
        """Leave `count` synapses of a tensor, `dropped` of them newborns in the place of those that have to go."""
        mask = state["mask"]
        stay = min(count, int(torch.count_nonzero(mask))) - dropped
        after = largest(first(state["latent"].abs(), mask), stay)
        if count > stay:
            position = next(i for i, (_, other) in enumerate(self._rewired()) if other is weight)
            # Between two steps there may be no gradient.
            growth = GROWTH[group["growth"] if weight.grad is not None else "random"]
            scores = growth(weight, state, (group["seed"], group["clock"], position))
            after |= largest(first(scores, ~mask), count - stay)
        born = after & ~mask
        state["latent"].masked_fill_(born, TINY)
        begin = {"step_size": float(group["lr"]), "sum": group.get("initial_accumulator_value", 0.0)}
        for name, moment in state["base"].items():
            if isinstance(moment, Tensor) and moment.shape == mask.shape:
                moment.masked_fill_(born, begin.get(name, 0.0))  # others than Rprop's and Adagrad's begin at 0
        mask.copy_(after)


def check(options: Mapping[str, Any]) -> None:
    """Refuse options of drop and grow that make no sense.

    Raises:
        UsageError: naming the value.
    """
    drop, end, growth, period = (options[key] for key in ("drop", "end", "growth", "period"))
    steps = options["schedule"]["steps"]
    if not isinstance(drop, int | float) or not 0.0 < drop < 1.0:
        raise UsageError(f"drop={drop!r} is not a share of the synapses in (0, 1); 0.3 exchanges 30 % of them at first")
    if not isinstance(end, int | float) or isinstance(end, bool) or not 0.0 < end <= 1.0:
        raise UsageError(f"end={end!r} is not a share of the steps in (0, 1]; 0.75 exchanges none in the last quarter")
    if str(growth) not in GROWTH:
        hint = nearest(str(growth), GROWTH) or f"; there are {', '.join(GROWTH)}"
        raise UsageError(f"there is no growth score {growth!r}{hint}")
    if growth == "momentum" and not ("betas" in options or options.get("momentum")):
        raise UsageError(
            "growth='momentum' needs a base with a moving average of the gradient; take Adam, or SGD with one"
        )
    if period >= end * steps:
        raise UsageError(
            f"period={period} leaves no exchange to the first {end:.0%} of a run of {steps} steps; take a shorter one"
        )
