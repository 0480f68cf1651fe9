"""Refuse gradients that are NaN or infinite: at once on the CPU, at the next reading on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor

from synaprune.errors import NonFiniteGradientError, UsageError
from synaprune.optim.fingerprint import is_small, side_by_side
from synaprune.optim.groups import Group

__all__ = ["FiniteCheck"]

REMEDY = "lower the learning rate, clip the gradients, or skip this batch"


class FiniteCheck:
    """Look at the gradients of all groups before a step.

    On a GPU an answer would make the host wait at every step, so there the flags stay on the device and are
    asked where values are read anyway.
    """

    def __init__(self) -> None:
        self.flags: dict[Tensor, Tensor] = {}

    def look(self, groups: Iterable[Group], name: Callable[[Tensor], str]) -> None:
        """Check the gradients of one step.

        Raises:
            NonFiniteGradientError: one on the CPU is not finite, in a group with `check_finite`.
            UsageError: one of a rewired tensor is sparse.
        """
        small: list[Tensor] = []
        large: list[Tensor] = []
        for group in groups:
            for weight in group["params"]:
                gradient = weight.grad
                if gradient is None or not weight.requires_grad:
                    continue
                if gradient.is_sparse and group["rewire"]:
                    raise UsageError(f"the gradient of {name(weight)} is sparse; use a layer with dense gradients")
                if gradient.is_sparse or not group["check_finite"]:
                    continue
                if not _answers_at_once(gradient):
                    broken = ~torch.isfinite(gradient).all()
                    self.flags[weight] = self.flags.get(weight, broken) | broken
                else:
                    (small if is_small(gradient) else large).append(weight)
        if small and not _is_finite(side_by_side([cast(Tensor, weight.grad) for weight in small])):
            large += small
        for weight in large:
            if not _is_finite(cast(Tensor, weight.grad)):
                raise NonFiniteGradientError(
                    f"the gradient of {name(weight)} is not finite, so the step was refused and nothing changed; "
                    f"{REMEDY}"
                )

    def report(self, name: Callable[[Tensor], str]) -> None:
        """Raise for flags that were left on a GPU.

        Raises:
            NonFiniteGradientError: a gradient since the start, or since a state was loaded, was not finite.
        """
        for weight, broken in self.flags.items():
            if broken:
                raise NonFiniteGradientError(
                    f"a gradient of {name(weight)} was not finite and has spoilt the weights; go back to the last "
                    f"checkpoint, then {REMEDY}"
                )


def _answers_at_once(gradient: Tensor) -> bool:
    return gradient.device.type == "cpu"


def _is_finite(values: Tensor) -> bool:
    # A finite sum has finite terms and costs a tenth of asking each; only where it is not, each is asked.
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())
