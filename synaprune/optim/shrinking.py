"""Rewiring methods whose weights are latents behind a soft threshold (see `soft_threshold`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from synaprune.errors import UsageError
from synaprune.optim import soft_threshold, threshold
from synaprune.optim.budgeted import Budgeted
from synaprune.optim.groups import Group, State
from synaprune.optim.rewirer import Row

__all__ = ["Shrinking", "number"]


class Shrinking(Budgeted):
    """Base class of the methods with a soft threshold: they say how it moves."""

    _strength = ""  # the group option that says how strongly to prune; None asks for a budget

    def _next(self, state: State, group: Group) -> float:
        """Return the threshold of a tensor after the step that its latents have just made."""
        raise NotImplementedError

    def _begin(self, weight: Tensor, group: Group, least: float) -> State:
        """Return the threshold of a tensor that joins, not below `least`, and what else moves it."""
        return {"threshold": least}

    def theta(self, weight: Tensor) -> Tensor:
        """Return |z| − d, positive where the synapse exists, float64, in the tensor's shape."""
        self._finite.report(self._name)
        state = self._state_of(weight, self._group_of(weight))
        return state["latent"].to(torch.float64, copy=True).abs_().sub_(state["threshold"])

    # -- strength or budget ----------------------------------------------------------------------------------

    def _has_budget(self, group: Group) -> bool:
        return group[self._strength] is None

    def _check_group(self, group: Group) -> None:
        value, method = group[self._strength], type(self).__name__
        if value is None and group["sparsity"] is None:
            raise UsageError(
                f"{method} has to know how much to prune; give {self._strength}=…, or sparsity=… with a schedule to "
                "leave an exact number of synapses"
            )
        if value is not None and not 0.0 <= number(value) < math.inf:
            raise UsageError(f"{self._strength}={value!r} is not a finite number of at least 0; 0 prunes nothing")
        if value is not None and group["sparsity"] is not None:
            raise UsageError(
                f"{self._strength}={value} says how strongly {method} prunes and sparsity={group['sparsity']} how many "
                "synapses are left; leave out one of the two"
            )
        if not isinstance(group["gated"], bool):
            raise UsageError(f"gated={group['gated']!r} is neither True nor False")
        super()._check_group(group)

    def _score(self, weight: Tensor, state: State) -> Tensor:
        size: Tensor = state["latent"].abs()
        return size

    def _leave(self, weight: Tensor, state: State, group: Group, count: int, bound: float | None) -> tuple[int, float]:
        before = state["threshold"]
        floated = soft_threshold.leave(state, count, bound)
        return floated, state["threshold"] - before

    # -- latents -----------------------------------------------------------------------------------------------

    def _start(self, weight: Tensor, group: Group, seed: int) -> State:
        signed = super()._start(weight, group, seed)
        some_absent = 0 < torch.count_nonzero(weight) < weight.numel()
        begun = self._begin(weight, group, self._margin(group) if some_absent else 0.0)
        kept = {key: signed[key] for key in ("initial", "scale", "steps")}
        return {**begun, **soft_threshold.start(weight, signed["sign"], begun["threshold"]), **kept, **threshold.PACE}

    def _adopt(self, weight: Tensor, state: State, group: Group) -> None:
        soft_threshold.adopt(weight, state, self._margin(group))

    def _thaw(self, state: State, absent: Tensor) -> None:
        soft_threshold.bury(state, absent)

    def _write(self, rows: Sequence[Row]) -> None:
        for _, weight, state in rows:
            soft_threshold.project(weight, state)

    # -- the step ----------------------------------------------------------------------------------------------

    def _pull(self, weight: Tensor, state: State, group: Group) -> Tensor:
        gradient = super()._pull(weight, state, group)
        return self._gate(gradient, state) if group["gated"] else gradient

    def _gate(self, gradient: Tensor, state: State) -> Tensor:
        """Return the true gradient of the latents."""
        return soft_threshold.gate(gradient, state)

    def _after(self, weight: Tensor, state: State, group: Group, note: None) -> None:
        state["threshold"] = max(self._next(state, group), 0.0)


def number(value: Any) -> float:
    """Return the value of an option as a float; NaN when it is no number."""
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
