"""Rewiring methods that keep exactly as many synapses as their groups ask for.

Which score ranks the synapses is the method's; how many, where and by when is the group's, as plain data:
`sparsity`, `allocation`, `schedule`, `period`, `floor` (see `synaprune.budget`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from synaprune.budget import FORMS, Plan, Schedule, one_form, plan, split
from synaprune.optim.groups import Group, Params, State, moves
from synaprune.optim.rewirer import Rewirer, Row
from synaprune.optim.surroundings import shielded

__all__ = ["Budgeted", "Solved", "Sparsity", "budget_options"]

Sparsity = float | Mapping[str, float]


class Solved(NamedTuple):
    """What a budget took: the effective rate `alpha` of the prior, and how far the count floated in between.

    `alpha` is the way of the threshold over the sum of the learning rates: the α of a prior that would have pressed as
    hard. `excess` is the largest deviation of the count, just before a solution, from the number it was brought to,
    as a share of that number.
    """

    alpha: float
    excess: float


def budget_options(
    sparsity: Sparsity | None, schedule: Schedule | None, allocation: str, period: int, floor: float
) -> dict[str, Any]:
    """Return the group options of a budget."""
    return {
        "sparsity": dict(sparsity) if isinstance(sparsity, Mapping) else sparsity,
        "schedule": schedule,
        "allocation": allocation,
        "period": period,
        "floor": floor,
        "clock": 0,  # steps in which a tensor of the group had a gradient: where its schedule stands
    }


class Budgeted(Rewirer):
    """Base class of the methods with a budget; they say how synapses are ranked and how n of them are left."""

    _forms = FORMS

    def __init__(self, params: Params, defaults: Group, base: type[Optimizer], options: Group, *rest: Any) -> None:
        # A method names `sparsity` among its arguments. The other forms arrive among those for the base.
        asked = {form: options.pop(form) for form in FORMS if form in options}
        super().__init__(params, {**defaults, **asked}, base, options, *rest)
        self._solved: dict[Tensor, list[float]] = {}  # since the last report: shift, learning rates, excess

    def _has_budget(self, group: Group) -> bool:
        """Tell whether this group asks for a number of synapses."""
        return True

    def _score(self, weight: Tensor, state: State) -> Tensor:
        """Return what ranks the synapses of a tensor, in its shape: the largest survive."""
        raise NotImplementedError

    def _leave(
        self, weight: Tensor, state: State, group: Group, count: int, bound: float | None
    ) -> tuple[int, float] | None:
        """Leave exactly `count` synapses; `bound` is the score below which none of the group survives.

        Where a threshold was moved, return how many there were before, and by how much it rose.
        """
        raise NotImplementedError

    def add_param_group(self, param_group: Group) -> None:
        """Add a group as any torch optimizer does; a budget of its own takes the place of the optimizer's."""
        if any(form in param_group for form in FORMS):
            param_group = {**dict.fromkeys(FORMS), **param_group}
        super().add_param_group(param_group)
        for form in FORMS[1:]:
            self.param_groups[-1].pop(form, None)  # of a group that is not rewired

    def _complete(self, group: Group, new: bool = False) -> None:
        """Say a budget as a sparsity; in a group that is not new, another form takes the place of the old budget."""
        super()._complete(group, new)
        others = {form: group[form] for form in FORMS[1:] if group.get(form) is not None}
        if others:
            weights = self._learning(group) or group["params"]
            asked = {"sparsity": group["sparsity"], **others} if new else others
            names, known = ([self._name(w) for w in some] for some in (weights, group["params"]))
            group["sparsity"] = one_form(asked, names, [weight.numel() for weight in weights], known)
        for form in FORMS[1:]:
            group.pop(form, None)

    def _check_group(self, group: Group) -> None:
        if self._has_budget(group):
            self._plan(group, [weight.numel() for weight in self._learning(group)])

    def _learning(self, group: Group) -> list[Tensor]:
        """Return the tensors of a group that its budget counts: those that are not frozen."""
        return [weight for weight in group["params"] if weight.requires_grad]

    def _start(self, weight: Tensor, group: Group, seed: int) -> State:
        """Note what the plan needs of the beginning: how many synapses there were, and how large."""
        state = super()._start(weight, group, seed)
        count = int(torch.count_nonzero(weight)) or weight.numel()  # of zeros only, none is absent
        size = float(torch.linalg.vector_norm(weight.detach().float())) / max(count, 1) ** 0.5
        return {**state, "initial": count, "scale": size or 1.0}

    def plan(self, group: Group) -> Plan:
        """Return the numbers behind the budget of a group of `param_groups`.

        Raises:
            UsageError: the budget makes no sense for these layers.
        """
        return self._plan(group, [state["initial"] for *_, state in self._rows(group)])

    def _plan(self, group: Group, initial: list[int]) -> Plan:
        weights = self._learning(group)
        named = [self._name(weight) for weight in group["params"]]
        return Plan(group, [self._name(weight) for weight in weights], [w.shape for w in weights], initial, named)

    @shielded
    def settle(self) -> None:
        """Bring the number of synapses to exactly what the budget says for this moment."""
        for group in self._rewiring_groups():
            if rows := self._meet(group, always=True):
                self._put(rows)

    def finish(self) -> None:
        """Bring the number of synapses to exactly what the budget says for the end of training.

        Where the last step was not that of the schedule, a warning says how many synapses go at once.
        """
        for group in self._rewiring_groups():
            weights = self._learning(group)
            if not self._has_budget(group) or not weights or group["clock"] >= (end := group["schedule"]["steps"]):
                continue
            done, group["clock"] = group["clock"], end
            before = sum(int(torch.count_nonzero(weight.detach())) for weight in weights)
            after, size = self.plan(group).count(end), sum(weight.numel() for weight in weights)
            if before != after:
                warnings.warn(
                    f"training made {done} of the {end} steps of its schedule (skipped ones do not count), and left "
                    f"{before / size:.2%} of the synapses in place of {after / size:.2%}; the difference is made up "
                    "now, without training after it",
                    stacklevel=2,
                )
        self.settle()

    def _rewire(self, group: Group) -> None:
        if any(map(moves, group["params"])):
            group["clock"] += 1
            if unmoved := [row for row in self._meet(group) if row[1].grad is None]:
                self._put(unmoved)

    def _rows(self, group: Group) -> list[Row]:
        return [(group, weight, self._state_of(weight, group)) for weight in self._learning(group)]

    def _meet(self, group: Group, always: bool = False) -> list[Row]:
        """Make the count exact where it is due, and return the tensors whose synapses have changed."""
        if not self._has_budget(group):
            return []
        step = group["clock"]
        if not step or not (always or plan.due(group, step)):
            return []
        rows = self._rows(group)
        if not rows or any("absent" in state for *_, state in rows):
            return []  # the topology is frozen
        # A step has already taken over what others have written into the weights that it moves.
        self._take_over([row for row in rows if always or row[1].grad is None])
        budget = self.plan(group)
        bounds: list[float | None] = [None] * len(rows)
        if budget.layers is None:
            scales = [state["scale"] if group["allocation"] == "scaled" else 1.0 for *_, state in rows]
            scores = [self._score(weight, state) for _, weight, state in rows]
            scores = [score if scale == 1.0 else score / scale for score, scale in zip(scores, scales)]
            count = budget.count(step)
            counts, bound = split(scores, count, budget.floors(count))
            bounds = [bound * scale for scale in scales]
        else:
            counts = budget.counts(step)
        steady = budget.steady(max(step - budget.period, 0)) and budget.steady(step)
        for (_, weight, state), count, near in zip(rows, counts, bounds):
            found = self._leave(weight, state, group, count, near)
            if found is not None:
                self._learn(weight, state, count, *found, steady)
        return rows

    def _press(self, state: State, group: Group, rise: float) -> None:
        """Note by how much a threshold has risen in a step between two solutions."""
        state["shift"] += rise
        state["travel"] += float(group["lr"])

    def _learn(self, weight: Tensor, state: State, count: int, floated: int, rise: float, steady: bool) -> None:
        """Learn from a solution how strongly the threshold has to rise until the next one, as `state["alpha"]`."""
        shift, travel = state["shift"] + rise, state["travel"]
        state["shift"] = state["travel"] = 0.0
        if not steady:
            state["alpha"], state["known"] = 0.0, 0
        elif travel:
            # Half the news: the count just before a solution is noisy.
            before = state["alpha"] if state["known"] else shift / travel
            state["alpha"], state["known"] = (before + shift / travel) / 2.0, 1
        seen = self._solved.setdefault(weight, [0.0, 0.0, 0.0])
        seen[:] = seen[0] + shift, seen[1] + travel, max(seen[2], abs(floated / max(count, 1) - 1.0))

    def solved(self) -> dict[str, Solved]:
        """Return, per tensor whose threshold presses between solutions, what those since the last call have found."""
        seen, self._solved = self._solved, {}
        return {self._name(w): Solved(shift / travel, excess) for w, (shift, travel, excess) in seen.items() if travel}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_solved": self._solved}
