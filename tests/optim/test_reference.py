"""Grad R step by step beside its plain twins."""

import math

import pytest
import torch
from torch import nn

from synaprune.budget import cubic, progress
from synaprune.optim import GradR
from synaprune.optim.reference import grad_r as reference

# The largest difference between the float32 optimizer and its float64 twin after 1,000 steps.
BOUND = 1e-5

TWINS = {
    "adam": (torch.optim.Adam, {}, lambda: reference.Adam(), {}),
    "adamw": (
        torch.optim.AdamW,
        {"weight_decay": 0.1},
        lambda: reference.Adam(),
        {"weight_decay": 0.1, "decoupled": True},
    ),
    "sgd": (torch.optim.SGD, {"momentum": 0.9}, lambda: reference.SGD(0.9), {}),
    "adam coupled decay": (torch.optim.Adam, {"weight_decay": 0.1}, lambda: reference.Adam(), {"weight_decay": 0.1}),
}
# (alpha, sparsity): the centre is out of reach, is reached on the way, and lies at 0 from the start.
CENTRES = {"inert": (1e-3, 0.95), "reached": (0.5, 0.6), "at zero": (0.5, 0.5)}


@pytest.mark.filterwarnings("ignore:sparsity=0.95 will hardly act")
@pytest.mark.parametrize("centre_name", CENTRES)
@pytest.mark.parametrize("base_name", TWINS)
def test_equals_plain_twin_over_1000_steps(base_name, centre_name):
    base, options, direction, decay = TWINS[base_name]
    alpha, sparsity = CENTRES[centre_name]
    generator = torch.Generator().manual_seed(7)
    start, push = torch.randn(2, 6, 5, generator=generator)
    weight = nn.Parameter(0.2 * start)
    optimizer = GradR([weight], lr=1e-3, alpha=alpha, sparsity=sparsity, base=base, **options)
    twin = reference.GradR(0.2 * start.double(), 1e-3, alpha, sparsity, direction(), **decay)
    largest, nearest, below = 0.0, math.inf, 0
    for n in range(1000):
        # Half of the latents are pushed down through the centre and, from the middle on, up again.
        turn = 1.0 if n < 500 else -1.0
        weight.grad = 0.1 * turn * push.sign() * (1 + 0.2 * torch.randn(6, 5, generator=generator))
        nearest = min(nearest, (twin.theta - twin.mu).abs().min().item())
        twin.step(weight.grad.double())
        optimizer.step()
        largest = max(largest, (optimizer.theta(weight) - twin.theta).abs().max().item())
        below = max(below, int((twin.theta < twin.mu).sum()))
    # Closer to the centre than rounding, the prior's sign would be anybody's guess and move θ by 2ηα.
    assert nearest > 1e-6
    assert below == 0 if centre_name == "inert" else below > 5
    assert largest < BOUND
    assert (weight.double() - twin.w).abs().max() < BOUND


@pytest.mark.parametrize("period", [1, 8])
@pytest.mark.parametrize("base_name", ["adam", "sgd"])
def test_budget_equals_plain_twin(base_name, period):
    """The same weights to rounding and the same synapses exactly, over 400 steps of noise along a cubic schedule."""
    base, options, direction, _ = TWINS[base_name]
    generator = torch.Generator().manual_seed(3)
    start = 0.2 * torch.randn(12, 10, generator=generator)
    weight = nn.Parameter(start.clone())
    schedule = cubic(steps=400, flat=0.25)
    optimizer = GradR([weight], lr=1e-2, sparsity=0.8, schedule=schedule, period=period, base=base, **options)
    twin = reference.GradRBudget(start.double(), 1e-2, direction())
    nearest, largest, masks = math.inf, 0.0, []
    for n in range(1, 401):
        weight.grad = 0.1 * torch.randn(12, 10, generator=generator)
        optimizer.step()
        number = round(120 - 96 * progress(schedule, n))
        plain = twin.step(weight.grad.double(), number if n % period == 0 else None)
        masks.append(weight != 0)
        assert n % period or masks[-1].sum() == number
        assert torch.equal(masks[-1], plain != 0)
        largest = max(largest, (weight.double() - plain).abs().max().item())
        nearest = min(nearest, twin.theta[(twin.theta != 0) & (twin.theta != 2.0**-100)].abs().min().item())
    # Closer to the threshold than rounding, which of two synapses exists would be anybody's guess.
    assert nearest > 1e-7
    assert largest < BOUND
    assert (masks[300] & ~masks[399]).sum() > 2  # competition went on
