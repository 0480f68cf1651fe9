"""STDS against its plain twin, its schedule, and Grad R."""

import math

import pytest
import torch
from torch import nn

from synaprune.budget import linear, sine
from synaprune.errors import UsageError
from synaprune.optim import GradR
from synaprune.optim.reference import soft_threshold as reference
from synaprune.optim.stds import STDS

TWINS = {
    "adam": (torch.optim.Adam, {}, lambda: reference.Adam()),
    "sgd": (torch.optim.SGD, {"momentum": 0.9}, lambda: reference.SGD(0.9)),
}


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("shape", [sine, linear])
@pytest.mark.parametrize("base_name", TWINS)
def test_equals_plain_twin(base_name, shape, gated):
    base, options, direction = TWINS[base_name]
    generator = torch.Generator().manual_seed(7)
    start, push = torch.randn(2, 12, 10, generator=generator)
    weight = nn.Parameter(0.2 * start)
    optimizer = STDS([weight], lr=1e-3, threshold=0.15, schedule=shape(steps=400), gated=gated, base=base, **options)
    twin = reference.STDS(0.2 * start.double(), 1e-3, direction(), 0.15, 400, shape is linear, gated)
    nearest, crossed = math.inf, 0
    for n in range(400):
        turn = 1.0 if n < 200 else -1.0  # latents cross 0 in the first half, and come back in the second
        weight.grad = 0.1 * turn * push.sign() * (1 + 0.2 * torch.randn(12, 10, generator=generator))
        twin.step(weight.grad.double())
        optimizer.step()
        assert optimizer.state[weight]["threshold"] == pytest.approx(twin.d, abs=1e-12)
        nearest = min(nearest, (twin.theta.abs() - twin.d).abs().min().item())
        crossed = max(crossed, int((twin.theta.sign() != start.sign()).sum()))
    assert crossed > 5 or gated
    assert nearest > 1e-8  # closer to the edge than rounding, the gate would be anybody's guess
    assert 0.1 < optimizer.connectivity() < 0.9
    torch.testing.assert_close(optimizer.theta(weight), twin.theta.abs() - twin.d, rtol=0, atol=1e-5)
    torch.testing.assert_close(weight.double(), twin.w, rtol=0, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_is_grad_r_while_no_latent_crosses_0(momentum):
    """A linear threshold rises by Δd = D/N = ηα in every step."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(40, 30, generator=generator)
    start = start.sign() * (0.5 + start.abs())
    eta, alpha, steps = 0.01, 0.5, 200
    rewired, shrunk = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    options = {"lr": eta, "base": torch.optim.SGD, "momentum": momentum}
    grad_r = GradR([rewired], alpha=alpha, **options)
    stds = STDS([shrunk], threshold=eta * alpha * steps, schedule=linear(steps), **options)
    for _ in range(steps):
        rewired.grad = 0.5 * (1.0 - momentum) * torch.randn(40, 30, generator=generator)
        shrunk.grad = rewired.grad.clone()
        grad_r.step()
        stds.step()
        assert (rewired - shrunk).abs().max() < 1e-5
    assert torch.equal(stds.state[shrunk]["latent"].sign(), start.sign())
    assert 0.2 < stds.connectivity() < 0.8
    torch.testing.assert_close(stds.theta(shrunk), grad_r.theta(rewired), rtol=0, atol=1e-5)


def test_schedule_of_the_published_code():
    """d after n steps, before the first step none; here and there the sine in closed form."""
    weight = nn.Parameter(torch.full((3,), 9.0))
    optimizer = STDS([weight], lr=0.1, threshold=2.0, schedule=sine(steps=4), base=torch.optim.SGD)
    seen = []
    for _ in range(6):
        weight.grad = torch.zeros(3)
        optimizer.step()
        seen.append(9.0 - weight[0].item())
    half = math.sqrt(0.5)
    assert seen == pytest.approx([1.0 - half, 1.0, 1.0 + half, 2.0, 2.0, 2.0], abs=1e-6)


def test_a_latent_at_0_is_not_dead():
    """The released code multiplies the gradient by sign²(θ), which is 0 there for ever."""
    weight = nn.Parameter(torch.tensor([0.5, 3.0]))
    optimizer = STDS([weight], lr=1.0, threshold=0.25, schedule=linear(1), base=torch.optim.SGD)
    for push in (0.5, 1.0):
        weight.grad = torch.tensor([push, 0.0])
        optimizer.step()
        if push == 0.5:
            assert optimizer.state[weight]["latent"][0] == 0.0
    assert weight.tolist() == [-0.75, 2.75]


def test_changed_threshold_acts_at_once():
    weight = nn.Parameter(torch.tensor([5.0]))
    optimizer = STDS([weight], lr=0.1, threshold=1.0, schedule=linear(4), base=torch.optim.SGD)
    for threshold in (1.0, 2.0):
        optimizer.param_groups[0]["threshold"] = threshold
        weight.grad = torch.zeros(1)
        optimizer.step()
    assert weight.item() == pytest.approx(5.0 - 0.25 - 1.75 / 3)  # a third of the way that is left


def ends(*weights, pause=(), steps=10, **options):
    """The thresholds of these tensors after a schedule to D = 2, during which the last has no gradient in `pause`."""
    optimizer = STDS(weights, lr=0.1, threshold=2.0, schedule=sine(steps), base=torch.optim.SGD, **options)
    for n in range(steps):
        for weight in weights:
            weight.grad = None if n in pause and weight is weights[-1] else torch.zeros_like(weight)
        optimizer.step()
    return [optimizer.state[weight]["threshold"] for weight in weights]


@pytest.mark.parametrize(("margin", "end"), [(0.0, 2.0), (1.0, 2.0), (3.0, 3.0)])
def test_a_pruned_tensor_ends_at_the_same_threshold(margin, end):
    pruned = nn.Parameter(torch.tensor([0.0, 9.0]))
    assert ends(pruned, margin=margin) == pytest.approx([end])
    assert pruned.tolist() == pytest.approx([0.0, 9.0 + margin - end])


def test_a_tensor_without_gradient_for_a_while_ends_there_too():
    weights = [nn.Parameter(torch.full((2,), 9.0)) for _ in range(2)]
    assert ends(*weights, pause=(1, 3, 4, 7)) == pytest.approx([2.0, 2.0])


def test_a_topology_that_was_frozen_for_a_while_ends_there_too():
    weight = nn.Parameter(torch.full((2,), 9.0))
    optimizer = STDS([weight], lr=0.1, threshold=2.0, schedule=linear(10))
    for n in range(10):
        optimizer.freeze_topology(2 <= n < 5)
        weight.grad = torch.zeros(2)
        optimizer.step()
        if n == 4:
            assert optimizer.state[weight]["threshold"] == pytest.approx(0.4)
    assert optimizer.state[weight]["threshold"] == pytest.approx(2.0)


def test_no_gradient_no_step_no_rise():
    weight, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = STDS([weight, other], lr=0.1, threshold=1.0, schedule=linear(4))
    weight.grad = torch.zeros(2)
    optimizer.step()
    assert other.tolist() == [1.0, 1.0]
    assert weight.tolist() == [0.75, 0.75]


def test_between_two_solutions_the_threshold_rests():
    weight = nn.Parameter(torch.randn(1000))
    optimizer = STDS([weight], lr=1e-2, sparsity=0.9, schedule=linear(8), period=4)
    seen = []
    for _ in range(8):
        weight.grad = torch.randn(1000)
        optimizer.step()
        seen.append(optimizer.state[weight]["threshold"])
    assert seen[:3] == [0.0] * 3
    assert len(set(seen[3:7])) == 1
    assert seen[7] > seen[3] > 0.5
    assert int(optimizer.mask(weight).sum()) == 100


@pytest.mark.parametrize(
    ("schedule", "words"), [(None, r"schedule=sine\(steps=…\)"), ("sine", "schedule='sine' is no schedule")]
)
def test_a_threshold_needs_a_schedule(schedule, words):
    with pytest.raises(UsageError, match=words):
        STDS([nn.Parameter(torch.ones(2))], threshold=1.0, schedule=schedule)
