"""The first synapses of methods whose network is sparse from its first forward pass: drawn when the optimizer is made.

With the initial weights of a dense layer a neuron with few inputs would get hardly any current, so that `rescale`
scales those drawn by 1/√connectivity of their layer, which keeps the variance of the current (Evci et al., "Gradient
Flow in Sparse Neural Networks", AAAI 2022, arXiv 2010.03533).

Source: uniform and Erdős–Rényi(-kernel) densities: Mocanu et al. 2018, arXiv 1707.04780; Evci et al. 2020,
arXiv 1911.11134.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from synaprune.budget import ALLOCATIONS, Plan, constant, largest
from synaprune.errors import UsageError
from synaprune.optim.groups import Group
from synaprune.optim.maps.masked import keep
from synaprune.optim.row import Row
from synaprune.optim.surroundings import CPU
from synaprune.optim.topology.noise import SIGNS, START, generator, rand

__all__ = ["AT_ONCE", "PER_LAYER", "check_diffusion", "diffusing", "masked", "refuse_ranking"]

AT_ONCE: Mapping[str, Any] = MappingProxyType({"schedule": constant(steps=1), "period": 1, "floor": 0.0})
"""The options of a budget that is met from the first step on."""

PER_LAYER = tuple(name for name, function in ALLOCATIONS.items() if function)
"""The allocations that need no rank."""


def refuse_ranking(method: str, group: Group, allocations: Iterable[str] = PER_LAYER) -> None:
    """Refuse an allocation by rank, for a draw knows none.

    Raises:
        UsageError: naming those that there are.
    """
    if group["allocation"] not in allocations and not isinstance(group["sparsity"], Mapping):
        raise UsageError(
            f"allocation={group['allocation']!r} ranks what has been learned, and {method} draws its synapses before; "
            f"take {' or '.join(map(repr, allocations))}"
        )


# -- masked methods ----------------------------------------------------------------------------------------------


def masked(new: Sequence[Row], rows: Sequence[Row], counts: Sequence[int]) -> None:
    """Draw the synapses of the `new` ones among the rows of a group, first those that exist; `counts` are of all."""
    for t, count in _counted(new, rows, counts):
        state = t.state
        # A plain generator of this seed may have drawn the weights too: the draws would then know them.
        source = generator(CPU, t.group["seed"], t.position)
        draws = rand(t.weight, source).to(t.weight.device) - (~state["mask"]).float()
        if t.group["rescale"] and count:
            factor = (state["initial"] / min(count, state["initial"])) ** 0.5
            state["latent"].mul_(factor)
            state["scale"] *= factor
        keep(t, largest(draws, count))
        state["initial"] = count


# -- methods whose synapses diffuse ------------------------------------------------------------------------------


def diffusing(
    new: Sequence[Row], rows: Sequence[Row], plan: Plan, begin: Callable[[Row, Tensor, Tensor], None]
) -> None:
    """Draw the synapses of the `new` ones among the rows of a group.

    `begin` sets the latents of a tensor, given which synapses exist and the size that these shall have.
    """
    chances = [_chances(t.weight, t.state["seed"]) for t in new]
    if plan.layers is None:
        others = {t.weight for t in rows} - {t.weight for t in new}
        old = sum(int(torch.count_nonzero(weight)) for weight in others)
        pool = largest(torch.cat([values.flatten() for values in chances]), max(plan.total - old, len(new)))
        drawn = [part.view_as(values) for part, values in zip(pool.split([c.numel() for c in chances]), chances)]
    else:
        drawn = [largest(values, n) for (_, n), values in zip(_counted(new, rows, plan.layers), chances)]
    for t, exists in zip(new, drawn):
        size = t.weight.detach().abs().to(t.state["latent"].dtype)
        if t.group["rescale"]:
            size *= max(1.0, t.state["initial"] / max(int(exists.sum()), 1)) ** 0.5
        sign = t.state["sign"]
        sign.copy_(torch.where(exists, sign, _coin(t.weight, t.state["seed"]).to(sign)))
        begin(t, exists, size)


def check_diffusion(method: str, group: Group) -> None:
    """Refuse a rate `alpha` of the L1 drift or a `temperature` of the noise that makes no sense.

    Raises:
        UsageError: naming the option.
    """
    for option in ("alpha", "temperature"):
        value = group[option]
        if not isinstance(value, Real):
            raise UsageError(f"{option}={value!r} is no number, and {method} solves for none; give one of at least 0")


def _counted(new: Sequence[Row], rows: Sequence[Row], counts: Sequence[int]) -> list[tuple[Row, int]]:
    """Return the `new` ones among rows, each with its count."""
    mine = {t.weight: count for t, count in zip(rows, counts)}
    return [(t, mine[t.weight]) for t in new]


def _chances(weight: Tensor, seed: int) -> Tensor:
    """Return a random number for each synapse; one that is absent so far has no chance against one that exists."""
    draws = rand(weight, generator(CPU, seed, START)).to(weight.device)
    return draws - (weight == 0).to(draws)


def _coin(weight: Tensor, seed: int) -> Tensor:
    """Return a sign for each synapse, −1 or 1."""
    return torch.randint(2, weight.shape, generator=generator(CPU, seed, SIGNS), device="cpu") * 2 - 1
