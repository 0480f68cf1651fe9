"""Exactly as many synapses as a group asks for.

Which score ranks the synapses is the rule's; how many, where and by when is the group's, as plain data: `sparsity`,
`allocation`, `schedule`, `period`, `floor` (see `synaprune.budget`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from synaprune.budget import FORMS, Plan, due, one_form, split
from synaprune.optim.groups import Group
from synaprune.optim.row import Row, State

if TYPE_CHECKING:
    from synaprune.optim.rule import Rule

__all__ = ["PACE", "Layers", "Report", "Solved", "begin", "due", "meet", "press", "say_as_sparsity"]

# How a threshold moves from one solve to the next: its way and the sum of the learning rates since the last one, and
# at which rate `alpha` of a prior it presses, if that is `known`.
PACE = State(shift=0.0, travel=0.0, alpha=0.0, known=0)


class Solved(NamedTuple):
    """What a budget took: the effective rate `alpha` of the prior, and how far the count floated in between.

    `alpha` is the way of the threshold over the sum of the learning rates: the α of a prior that would have pressed as
    hard. `excess` is the largest deviation of the count, just before a solve, from the number it was brought to, as a
    share of that number.
    """

    alpha: float
    excess: float


class Layers(NamedTuple):
    """The layers that share a budget: those of a group that learn. `known` are the names of all of them."""

    names: list[str]
    shapes: list[torch.Size]
    known: list[str]

    @property
    def sizes(self) -> list[int]:
        """The number of synapses of each."""
        return [shape.numel() for shape in self.shapes]

    def plan(self, group: Group, initial: Sequence[int] | None = None) -> Plan:
        """Return the numbers behind the budget of a group whose layers had `initial` synapses at first.

        Raises:
            UsageError: the budget makes no sense for these layers.
        """
        return Plan(group, self.names, self.shapes, self.sizes if initial is None else initial, self.known)


def say_as_sparsity(group: Group, layers: Layers, new: bool) -> None:
    """Say a budget as a sparsity; in a group that is not new, another form takes the place of the old budget."""
    others = {form: group[form] for form in FORMS[1:] if group.get(form) is not None}
    if others:
        asked = {"sparsity": group["sparsity"], **others} if new else others
        names = layers.names or layers.known
        group["sparsity"] = one_form(asked, names, layers.sizes, layers.known)
    for form in FORMS[1:]:
        group.pop(form, None)


def begin(weight: Tensor) -> State:
    """Return what a plan needs of the beginning: how many synapses there were, and how large."""
    count = int(torch.count_nonzero(weight)) or weight.numel()  # of zeros only, none is absent
    size = float(torch.linalg.vector_norm(weight.detach().float())) / max(count, 1) ** 0.5
    return State(initial=count, scale=size or 1.0)


def meet(rule: Rule, rows: list[Row], plan: Plan, report: Report) -> None:
    """Make the number of a group's synapses what the plan says for this moment."""
    step = rows[0].group["clock"]
    bounds: list[float | None] = [None] * len(rows)
    if plan.layers is None:
        scaled = rows[0].group["allocation"] == "scaled"
        scales = [t.state["scale"] if scaled else 1.0 for t in rows]
        scores = [rule.score(t) if scale == 1.0 else rule.score(t) / scale for t, scale in zip(rows, scales)]
        count = plan.count(step)
        counts, bound = split(scores, count, plan.floors(count))
        bounds = [bound * scale for scale in scales]
    else:
        counts = plan.counts(step)
    steady = plan.steady(max(step - plan.period, 0)) and plan.steady(step)
    for t, count, near in zip(rows, counts, bounds):
        if (found := rule.leave(t, count, near)) is not None:
            floated, rise = found
            report.add(t, rise, abs(floated / max(count, 1) - 1.0))
            _learn(t, rise, steady)


def press(t: Row, rise: float) -> None:
    """Note by how much a threshold has risen in a step between two solves."""
    t.state["shift"] += rise
    t.state["travel"] += t.rate


def _learn(t: Row, rise: float, steady: bool) -> None:
    """Learn from a solve how strongly the threshold has to rise until the next one, as the state's `alpha`."""
    state = t.state
    shift, travel = state["shift"] + rise, state["travel"]
    state["shift"] = state["travel"] = 0.0
    if not steady:
        state["alpha"], state["known"] = 0.0, 0
    elif travel:
        # Half the news: the count just before a solve is noisy.
        before = state["alpha"] if state["known"] else shift / travel
        state["alpha"], state["known"] = (before + shift / travel) / 2.0, 1


class Report:
    """What the solves since the last look have found."""

    def __init__(self) -> None:
        self._seen: dict[Tensor, list[float]] = {}  # of each weight: shift, learning rates, excess

    def add(self, t: Row, rise: float, excess: float) -> None:
        """Note a solve by which a threshold rose, from a count that was off by a share."""
        seen = self._seen.setdefault(t.weight, [0.0, 0.0, 0.0])
        way, travel = t.state["shift"] + rise, t.state["travel"]
        seen[:] = seen[0] + way, seen[1] + travel, max(seen[2], excess)

    def taken(self) -> dict[Tensor, Solved]:
        """Return what has been found, and begin anew."""
        seen, self._seen = self._seen, {}
        return {weight: Solved(way / travel, excess) for weight, (way, travel, excess) in seen.items() if travel}
