"""Drop and grow: every so often the weakest synapses give way to as many new ones.

Inside every `period`-th step n, after the base has moved the weights, each layer with K of its N synapses exchanges
round(f·K) of them, or all N − K that it lacks if those are fewer:

1. the drop fraction f falls along a schedule, which is over at the share `drop_end` of the steps; with the cosine
   f(n) = drop/2·(1 + cos(πn/(drop_end·steps))), and 0 from there on;
2. of the synapses that exist, those with the smallest |w| are dropped;
3. of those that did not, as many with the largest growth score are grown: at random, or the largest |g| of this very
   step, g = ∂L/∂w being dense, or the largest moving average of g.

What has just been dropped is not grown again. A newborn starts at 0 (a weight of `threshold.TINY`, so that it counts
as a synapse), with fresh moments of its own, and moves at the next step; steps that Adam has counted stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from synaprune.budget import Schedule, largest, progress
from synaprune.errors import UsageError
from synaprune.optim.maps.threshold import TINY
from synaprune.optim.row import Row
from synaprune.optim.topology.noise import generator, rand

__all__ = ["GROWTH", "check", "complete", "drop_fraction", "exchange", "first", "land", "replace"]


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

MOVING_AVERAGES = ("exp_avg", "momentum_buffer")


def by_chance(t: Row) -> Tensor:
    """Return random numbers, the same for all replicas of a network and after any interruption."""
    return rand(t.weight, generator(t.weight.device, t.group["seed"], t.group["clock"], t.position))


def by_gradient(t: Row) -> Tensor:
    """Return |∂L/∂w| of this very step, of absent synapses too."""
    return cast(Tensor, t.weight.grad).to(t.state["latent"].dtype).abs()


def by_momentum(t: Row) -> Tensor:
    """Return the size of the base's moving average of ∂L/∂w."""
    average: Tensor = next(t.state["base"][name] for name in MOVING_AVERAGES if name in t.state["base"])
    return average.abs()


GROWTH: dict[str, Callable[[Row], Tensor]] = {
    "random": by_chance,
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


# -- the exchange ------------------------------------------------------------------------------------------------


def exchange(rows: list[Row], annealing: Schedule) -> None:
    """Exchange the share of each tensor's synapses that is due now, along the schedule by which it falls."""
    group = rows[0].group
    step = group["clock"]
    fraction = drop_fraction(group["drop"], annealing, group["drop_end"], step)
    if step % group["period"] or not fraction:
        return
    for t in rows:
        if not t.rests:
            present = int(torch.count_nonzero(t.state["mask"]))
            replace(t, present, min(round(fraction * present), t.weight.numel() - present))


def land(t: Row) -> None:
    """Let a weight that has landed on exactly 0 count; no other is moved."""
    t.state["latent"].add_(TINY)


def complete(t: Row, count: int) -> None:
    """Drop what is too much; grow, too, where others have written zeros into the weights."""
    if count != torch.count_nonzero(t.state["mask"]):
        replace(t, count, 0)


def replace(t: Row, count: int, dropped: int) -> None:
    """Leave `count` synapses of a tensor, `dropped` of them newborns in the place of those that have to go."""
    mask, latent = t.state["mask"], t.state["latent"]
    stay = min(count, int(torch.count_nonzero(mask))) - dropped
    after = largest(first(latent.abs(), mask), stay)
    if count > stay:
        # Between two steps there may be no gradient.
        growth = GROWTH[t.group["growth"] if t.weight.grad is not None else "random"]
        after |= largest(first(growth(t), ~mask), count - stay)
    born = after & ~mask
    latent.masked_fill_(born, TINY)
    begin = {"step_size": t.rate, "sum": t.group.get("initial_accumulator_value", 0.0)}
    for name, moment in t.state["base"].items():
        if isinstance(moment, Tensor) and moment.shape == mask.shape:
            moment.masked_fill_(born, begin.get(name, 0.0))  # others than Rprop's and Adagrad's begin at 0
    mask.copy_(after)


def check(options: Mapping[str, Any]) -> None:
    """Refuse options of drop and grow that do not go together.

    Raises:
        UsageError: naming the value.
    """
    end, period, steps = options["drop_end"], options["period"], options["schedule"]["steps"]
    if options["growth"] == "momentum" and not ("betas" in options or options.get("momentum")):
        raise UsageError(
            "growth='momentum' needs a base with a moving average of the gradient; take Adam, or SGD with one"
        )
    if period >= end * steps:
        raise UsageError(
            f"period={period} leaves no exchange to the first {end:.0%} of a run of {steps} steps; take a shorter one"
        )
