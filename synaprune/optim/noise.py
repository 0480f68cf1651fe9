"""Noise on synaptic parameters, and what the methods that use it have in common.

Every draw has a generator of its own, made of a seed, the number of the step and what is drawn. So nothing random is
to be saved: a copy, a replica or a loaded state draws the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from synaprune.budget import ALLOCATIONS, Plan, constant, largest
from synaprune.errors import UsageError
from synaprune.optim.budgeted import Sparsity, budget_options
from synaprune.optim.draws import Draws
from synaprune.optim.groups import Group, Params, State
from synaprune.optim.surroundings import CPU

__all__ = ["NOISES", "PER_LAYER", "Noisy", "gaussian", "generator", "lots", "rand", "scale", "uniform"]

BIRTHS, DEPTHS, MOVES, SIGNS, START = range(5)
"""What is drawn for."""


def lots(*key: int) -> np.random.Generator:
    """Return the source of lots for this seed, step and purpose."""
    return np.random.default_rng(_mixed(key))


def generator(device: torch.device, *key: int) -> torch.Generator:
    """Return torch's generator for this seed, step and purpose, on a device."""
    return torch.Generator(device).manual_seed(_mixed(key))


def rand(like: Tensor, source: torch.Generator) -> Tensor:
    """Return numbers in [0, 1), float32 whatever torch's default is, in the shape of `like` and where the source is."""
    return torch.rand(like.shape, generator=source, dtype=torch.float32, device=source.device)


def _mixed(key: tuple[int, ...]) -> int:
    return int.from_bytes(hashlib.blake2b(repr(tuple(map(int, key))).encode(), digest_size=8).digest(), "little")


def gaussian(count: int, device: torch.device, *key: int) -> tuple[Tensor, float]:
    """Return Gaussian numbers, float32, and their standard deviation, which is 1."""
    return torch.empty(count, dtype=torch.float32, device=device).normal_(generator=generator(device, *key)), 1.0


def uniform(count: int, device: torch.device, *key: int) -> tuple[Tensor, float]:
    """Return the 128 odd numbers of one byte, equally often, and their standard deviation.

    Cheap, for eight of them come out of one draw; odd, for their mean is exactly 0: of all 256 it is −1/2.

    >>> values, deviation = uniform(10_000, torch.device("cpu"), 0)
    >>> values.dtype, values.abs().max().item(), round(deviation, 2)
    (torch.int8, 127, 73.9)
    """
    draws = count // 8 + 1
    if device.type == "cpu":  # numpy has generators that take half the time of torch's
        words = torch.from_numpy(np.random.SFC64(_mixed(key)).random_raw(draws).view(np.int64))
    else:
        words = torch.empty(draws, dtype=torch.int64, device=device)
        words.random_(-(2**63), None, generator=generator(device, *key))
    return words.bitwise_or_(0x0101010101010101).view(torch.int8)[:count], math.sqrt((128**2 - 1) / 3)


NOISES: dict[str, Callable[..., tuple[Tensor, float]]] = {"gaussian": gaussian, "uniform": uniform}


class Noisy(Draws):
    """Base class of the methods whose synapses diffuse, and that begin with synapses drawn by lot.

    Options of its groups are the rate `alpha` of the L1 drift −η·α and the `temperature` T of the noise √(2ηT)·ν.
    """

    def __init__(
        self,
        params: Params,
        lr: float,
        sparsity: Sparsity | None,
        allocation: str,
        options: dict[str, Any],
        base: type[Optimizer],
        base_options: dict[str, Any],
        include: Iterable[str],
        exclude: Iterable[str],
        compiled: bool = False,
    ) -> None:
        for option in ("schedule", "period", "floor"):
            if option in base_options:
                raise UsageError(
                    f"{type(self).__name__} begins as sparse as it stays, so it knows no {option}; leave it out"
                )
        self._plans: dict[int, tuple[Any, Plan]] = {}
        budget = budget_options(sparsity, constant(steps=1), allocation, 1, 0.0)
        super().__init__(params, {**budget, **options}, base, {"lr": lr, **base_options}, include, exclude, compiled)

    def _start(self, weight: Tensor, group: Group, seed: int) -> State:
        return {**super()._start(weight, group, seed), "seed": seed}

    def _begin(self, weight: Tensor, state: State, group: Group, exists: Tensor, size: Tensor) -> None:
        """Set the latents of a tensor whose synapses have been drawn, with the size that these shall have."""
        raise NotImplementedError

    def _draw(self, group: Group, new: list[Tensor]) -> None:
        all_rows, budget = self._rows(group), self._plan(group, [])
        rows = [row for row in all_rows if row[1] in set(new)]
        chances = [_chances(weight, state["seed"]) for _, weight, state in rows]
        if budget.layers is None:
            old = sum(int(torch.count_nonzero(weight)) for _, weight, _ in all_rows if weight not in set(new))
            count = max(budget.total - old, len(new))
            pool = largest(torch.cat([values.flatten() for values in chances]), count)
            drawn = [part.view_as(values) for part, values in zip(pool.split([c.numel() for c in chances]), chances)]
        else:
            counts = dict(zip(self._learning(group), budget.layers))
            drawn = [largest(values, counts[weight]) for (_, weight, _), values in zip(rows, chances)]
        for (_, weight, state), exists in zip(rows, drawn):
            size = weight.detach().abs().to(state["latent"].dtype)
            if group["rescale"]:
                size *= max(1.0, state["initial"] / max(int(exists.sum()), 1)) ** 0.5
            sign = state["sign"]
            sign.copy_(torch.where(exists, sign, _coin(weight, state["seed"]).to(sign)))
            self._begin(weight, state, group, exists, size)
        self._put(rows)

    def _check_group(self, group: Group) -> None:
        for option in ("alpha", "temperature"):
            value = group[option]
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < math.inf:
                raise UsageError(
                    f"{option}={value!r} is not a finite number of at least 0; {type(self).__name__} solves for "
                    "none, so give one"
                )
        super()._check_group(group)

    def _plan(self, group: Group, initial: list[int]) -> Plan:
        """Return the plan, which is the same for all steps unless somebody changes the options."""
        key = (repr(group["sparsity"]), group["allocation"], [weight.shape for weight in self._learning(group)])
        if self._plans.get(id(group), (None,))[0] != key:
            self._plans[id(group)] = key, super()._plan(group, initial)
        return self._plans[id(group)][1]

    def _refuse_ranking(self, group: Group, allocations: Iterable[str]) -> None:
        """Refuse an allocation by rank, for lots know none."""
        if group["allocation"] not in allocations and not isinstance(group["sparsity"], Mapping):
            known = ", ".join(repr(name) for name in allocations)
            raise UsageError(
                f"allocation={group['allocation']!r} cannot be had of {type(self).__name__}, whose synapses come by "
                f"lot; take one of {known}"
            )

    def _meet(self, group: Group, always: bool = False) -> list[Any]:
        return []

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_plans": {}}


def scale(group: Group) -> float:
    """Return √(2ηT), the standard deviation of one step's noise."""
    return math.sqrt(2.0 * float(group["lr"]) * group["temperature"])


PER_LAYER = tuple(name for name, function in ALLOCATIONS.items() if function)
"""The allocations that need no rank."""


def _chances(weight: Tensor, seed: int) -> Tensor:
    """Return a lot for each synapse; one that is absent so far has no chance against one that exists."""
    source = generator(CPU, seed, START)
    lots = rand(weight, source).to(weight.device)
    return lots - (weight == 0).to(lots)


def _coin(weight: Tensor, seed: int) -> Tensor:
    """Return a sign for each synapse, −1 or 1."""
    source = generator(CPU, seed, SIGNS)
    return torch.randint(2, weight.shape, generator=source, device="cpu") * 2 - 1
