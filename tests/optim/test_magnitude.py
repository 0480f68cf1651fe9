"""Magnitude pruning against its plain twin and the base optimizer alone."""

import pytest
import torch
from common import model, same, train
from torch import nn

from synaprune.budget import cubic, linear, progress
from synaprune.optim import METHODS, Magnitude, MagnitudeSTE
from synaprune.optim.reference import grad_r as bases
from synaprune.optim.reference import magnitude as reference

both = pytest.mark.parametrize("method", [Magnitude, MagnitudeSTE])
TWINS = {
    "adam": (torch.optim.Adam, {}, lambda: bases.Adam(), {}),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.1}, lambda: bases.Adam(), {"weight_decay": 0.1, "decoupled": True}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}, lambda: bases.SGD(0.9), {"weight_decay": 0.1}),
}


@both
@pytest.mark.parametrize("period", [1, 8])
@pytest.mark.parametrize("base_name", TWINS)
def test_equals_plain_twin(method, base_name, period):
    base, options, direction, decay = TWINS[base_name]
    generator = torch.Generator().manual_seed(3)
    start = 0.2 * torch.randn(12, 10, generator=generator)
    weight = nn.Parameter(start.clone())
    schedule = cubic(steps=400, flat=0.25)
    optimizer = method([weight], lr=1e-2, sparsity=0.8, schedule=schedule, period=period, base=base, **options)
    twin = reference.Magnitude(start.double(), 1e-2, direction(), straight_through=method is MagnitudeSTE, **decay)
    for n in range(1, 401):
        weight.grad = 0.1 * torch.randn(12, 10, generator=generator)
        optimizer.step()
        number = round(120 - 96 * progress(schedule, n))
        plain = twin.step(weight.grad.double(), number if n % period == 0 else None)
        assert torch.equal(weight != 0, plain != 0)
        assert n % period or int(torch.count_nonzero(weight)) == number
        torch.testing.assert_close(weight.double(), plain, rtol=0, atol=2e-5)


@both
@pytest.mark.parametrize("base", [torch.optim.Adam, torch.optim.SGD])
def test_until_the_first_pruning_it_is_the_base_optimizer(method, base):
    net, twin = model(), model()
    optimizer = method(net, lr=1e-2, sparsity=0.9, schedule=cubic(steps=100, pause=0.1), period=4, base=base)
    plain = base(twin.parameters(), lr=1e-2, fused=True)
    train(net, optimizer, 10)
    train(twin, plain, 10)
    assert same(net, twin)
    train(net, optimizer, 2)
    assert optimizer.connectivity() < 1


@pytest.mark.parametrize("allocation", ["global", "scaled", "erk"])
def test_what_is_pruned_is_lost(allocation):
    net = model()
    optimizer = Magnitude(net, 1e-2, sparsity=0.9, schedule=linear(steps=30), period=3, allocation=allocation)
    optimizer.turnover()
    train(net, optimizer, 3)
    for seed in range(12):
        train(net, optimizer, 3, seed=seed)
        counts = optimizer.turnover().values()
        assert sum(n.regrown for n in counts) == 0
        assert (sum(n.pruned for n in counts) > 0) is (seed < 9)
    assert optimizer.connectivity() == 59 / 588


def test_with_straight_through_gradients_it_returns():
    weight = nn.Parameter(torch.tensor([1.0, 0.2, 0.3]))
    optimizer = MagnitudeSTE([weight], 0.1, sparsity=0.34, schedule=linear(steps=1), period=1, base=torch.optim.SGD)
    alive = []
    for _ in range(3):
        weight.grad = torch.tensor([0.0, -0.6, 0.0])  # 0.26, 0.32, 0.38
        optimizer.step()
        alive.append((weight != 0).tolist())
    assert alive == [[True, False, True], [True, True, False], [True, True, False]]
    torch.testing.assert_close(weight[1].item(), 0.38)


def test_both_are_methods_by_name():
    assert METHODS["magnitude"] is Magnitude
    assert METHODS["magnitude_ste"] is MagnitudeSTE
