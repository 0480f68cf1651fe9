"""A budget as an optimizer's group states it, put into numbers: how many synapses, where, at which step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from synaprune.budget import schedule as schedules
from synaprune.budget.allocation import ALLOCATIONS, allocate
from synaprune.budget.forms import matched
from synaprune.errors import UsageError
from synaprune.options import OPTIONS

__all__ = ["Plan", "check", "due"]


class Plan:
    """The numbers of one group of layers that share a budget.

    Args:
        options: the group's `sparsity` (one number, or one per name pattern), `schedule`, `allocation`, `floor`
            and `period`.
        names, shapes: of the layers.
        initial: synapses that each of them had at first.
        known: all names that a pattern may match without an error, those of frozen layers too.

    Raises:
        UsageError: a value out of range, a layer without a budget or with less than one synapse.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        names: Sequence[str],
        shapes: Sequence[torch.Size],
        initial: Sequence[int],
        known: Sequence[str] = (),
    ) -> None:
        check(options)
        self.schedule: schedules.Schedule = options["schedule"]
        self.period: int = options["period"]
        self.initial = list(initial)
        self.sizes = [math.prod(shape) for shape in shapes]
        sparsity, allocation = options["sparsity"], ALLOCATIONS[options["allocation"]]
        if isinstance(sparsity, Mapping):
            by_name = matched(sparsity, names, known or names, "sparsity")
            self.layers: list[int] | None = allocate(self.sizes, [1.0 - share for share in by_name], names)
        elif allocation is not None:
            self.layers = allocate(self.sizes, allocation(shapes, 1.0 - sparsity), names)
        else:
            self.layers = None
        self.total = round((1.0 - sparsity) * sum(self.sizes)) if self.layers is None else sum(self.layers)
        layers = sum(size > 0 for size in self.sizes)
        if self.total < layers:
            raise UsageError(
                f"sparsity={sparsity} leaves {self.total} synapses for {layers} layers, less than one for "
                "each; ask for a lower sparsity"
            )
        self.share: float = options["floor"]

    def floors(self, count: int) -> list[int]:
        """Return how many of `count` synapses each layer keeps at least: its floor, and where possible one."""
        shares = [math.floor(self.share * size * count / max(sum(self.sizes), 1)) for size in self.sizes]
        at_least_one = [max(min(1, size), share) for size, share in zip(self.sizes, shares)]
        return at_least_one if sum(at_least_one) <= count else shares

    def counts(self, step: int) -> list[int]:
        """Return the number of synapses of each layer after so many steps, where each has a budget of its own."""
        assert self.layers is not None
        left = 1.0 - schedules.progress(self.schedule, step)
        return [last + round((first - last) * left) for first, last in zip(self.initial, self.layers)]

    def count(self, step: int) -> int:
        """Return the number of synapses of all layers together after so many steps."""
        if self.layers is not None:
            return sum(self.counts(step))
        left = 1.0 - schedules.progress(self.schedule, step)
        return self.total + round((sum(self.initial) - self.total) * left)

    def steady(self, step: int) -> bool:
        """Tell whether the number changes by less than a tenth until the next solve.

        Only then does the pressure of one interval say anything about that of the next.
        """
        return abs(self.count(step + self.period) - self.count(step)) < 0.1 * self.count(step)


def due(options: Mapping[str, Any], step: int) -> bool:
    """Tell whether the count is to be made exact inside this step (1, 2, …): every period, and when time is up."""
    return bool(step % options["period"] == 0 or step == options["schedule"]["steps"])


def check(options: Mapping[str, Any]) -> None:
    """Refuse a budget whose values make no sense, before anything is counted.

    Raises:
        UsageError: naming the value.
    """
    OPTIONS["sparsity"].check("sparsity", options["sparsity"])
    if options["schedule"] is None:
        raise UsageError("a budget needs to know the number of training steps; give schedule=cubic(steps=…)")
    schedules.check(options["schedule"])
    for name in ("allocation", "period", "floor"):
        OPTIONS[name].check(name, options[name])
