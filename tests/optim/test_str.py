"""STR against its plain twin and against autograd, and how its scalars are trained and kept."""

import math

import pytest
import torch
from common import BASES
from torch import nn
from torch.nn import functional

from synaprune.budget import cubic
from synaprune.errors import UsageError
from synaprune.optim.reference import soft_threshold as reference
from synaprune.optim.str import STR, logit, sigmoid

TWINS = {
    "adam": (torch.optim.Adam, {}, lambda: reference.Adam()),
    "sgd": (torch.optim.SGD, {"momentum": 0.9}, lambda: reference.SGD(0.9)),
}


@pytest.mark.parametrize("base_name", TWINS)
def test_equals_plain_twin(base_name):
    base, options, direction = TWINS[base_name]
    generator = torch.Generator().manual_seed(7)
    start, push = torch.randn(2, 12, 10, generator=generator)
    weight = nn.Parameter(0.2 * start)
    optimizer = STR([weight], lr=1e-2, threshold_decay=0.3, s_init=-4.0, base=base, **options)
    twin = reference.STR(0.2 * start.double(), 1e-2, (direction(), direction()), -4.0, 0.3)
    nearest, thresholds = math.inf, []
    for n in range(200):
        turn = 1.0 if n < 100 else -1.0
        weight.grad = 0.02 * turn * push.sign() * (1 + 0.2 * torch.randn(12, 10, generator=generator))
        twin.step(weight.grad.double())
        optimizer.step()
        thresholds.append(optimizer.state[weight]["threshold"])
        assert thresholds[-1] == pytest.approx(twin.d, rel=1e-4)
        nearest = min(nearest, (twin.theta.abs() - twin.d).abs().min().item())
    assert nearest > 1e-6
    assert max(thresholds) > 1.5 * thresholds[0]
    assert 0.1 < optimizer.connectivity() < 0.95
    torch.testing.assert_close(optimizer.theta(weight), twin.theta.abs() - twin.d, rtol=0, atol=1e-5)
    torch.testing.assert_close(weight.double(), twin.w, rtol=0, atol=1e-5)


def test_both_gradients_are_those_of_autograd():
    torch.manual_seed(0)
    layer = nn.Linear(30, 20).double()
    optimizer = STR(layer, lr=0.05, threshold_decay=0.25, s_init=-3.0, base=torch.optim.SGD)
    x, target = torch.randn(16, 30).double(), torch.randn(16, 20).double()

    def backward():
        optimizer.zero_grad()
        functional.mse_loss(layer(x), target).backward()

    for _ in range(30):
        backward()
        optimizer.step()
    assert 0.2 < optimizer.connectivity() < 0.8

    state = optimizer.state[layer.weight]
    z, s = state["latent"].clone().requires_grad_(), state["scalar"].clone().requires_grad_()
    w = z.sign() * torch.relu(z.abs() - torch.sigmoid(s))
    torch.testing.assert_close(w, layer.weight.detach(), rtol=0, atol=1e-15)
    true = torch.autograd.grad(functional.mse_loss(functional.linear(x, w, layer.bias), target), (z, s))
    backward()
    optimizer.param_groups[0]["threshold_decay"] = 0.0
    optimizer.step()
    torch.testing.assert_close(state["latent"], z - 0.05 * true[0], rtol=0, atol=1e-14)
    torch.testing.assert_close(state["scalar"], s - 0.05 * true[1], rtol=0, atol=1e-14)
    assert (true[0] == 0).any()
    assert true[1] != 0


@pytest.mark.parametrize("name", BASES)
def test_the_scalar_is_trained_by_the_base_as_one_more_tensor(name):
    weight, other = nn.Parameter(torch.randn(6, 5)), nn.Parameter(torch.tensor(-3.0))
    optimizer = STR([weight], lr=1e-2, threshold_decay=0.0, s_init=-3.0, base=BASES[name])
    base = BASES[name]([other], lr=1e-2)
    base.param_groups[0]["weight_decay"] = optimizer.param_groups[0]["weight_decay"] = 0.0
    for n in range(10):
        weight.grad = torch.randn(6, 5, generator=torch.Generator().manual_seed(n))
        slope = sigmoid(other.item()) * (1 - sigmoid(other.item()))
        other.grad = -(weight.grad * weight.detach().sign()).sum() * slope
        optimizer.step()
        base.step()
        torch.testing.assert_close(optimizer.state[weight]["scalar"], other.detach(), rtol=0, atol=1e-5)
    assert other.item() != -3.0
    assert len(optimizer._driver.optimizer.param_groups[0]["params"]) == 1
    assert optimizer.state[weight]["scalar"].grad is None


def test_weight_decay_of_the_scalar_raises_the_threshold_alike_under_every_base():
    for base in BASES.values():
        weight = nn.Parameter(torch.full((4,), 9.0))
        optimizer = STR([weight], lr=0.1, threshold_decay=2.0, s_init=-4.0, base=base)
        optimizer.param_groups[0]["weight_decay"] = 0.0
        seen = []
        for _ in range(2):
            weight.grad = torch.zeros(4)
            optimizer.step()
            seen.append(optimizer.state[weight]["scalar"].item())
        assert seen == pytest.approx([-3.2, -2.56], rel=1e-4)  # ASGD has a decay of its own
        assert optimizer.state[weight]["threshold"] == pytest.approx(1 / (1 + math.exp(2.56)), rel=1e-4)


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_weight_decay_of_weights_leaves_the_scalar_alone(base):
    weight = nn.Parameter(torch.randn(20, 10, generator=torch.Generator().manual_seed(0)))
    optimizer = STR([weight], lr=0.1, threshold_decay=0.0, base=base, weight_decay=0.5)
    before = weight.detach().abs().sum()
    for _ in range(5):
        weight.grad = torch.zeros(10, 20).T  # in another layout
        optimizer.step()
    assert weight.abs().sum() < 0.9 * before
    assert optimizer.state[weight]["scalar"].item() == -5.0


@pytest.mark.parametrize("rate", [1e-2, 1e-5, 2e-8, 1e-9])
def test_tiny_decays_of_the_scalar_add_up(rate):
    weight = nn.Parameter(torch.ones(1))
    optimizer = STR([weight], lr=rate, threshold_decay=1.0, base=torch.optim.SGD)
    for _ in range(1000):
        weight.grad = torch.zeros(1)
        optimizer.step()
    state = optimizer.state[weight]
    assert state["scalar"].item() + state["rest"] + 5.0 == pytest.approx(5.0 - 5.0 * (1.0 - rate) ** 1000, rel=1e-4)


def test_from_a_strength_to_a_budget_and_back():
    weight = nn.Parameter(torch.linspace(-4.0, 4.0, 100))
    optimizer = STR([weight], lr=1e-3, threshold_decay=1.0)
    group = optimizer.param_groups[0]

    def step():
        weight.grad = torch.zeros(100)
        optimizer.step()

    step()
    group.update(threshold_decay=None, sparsity=0.5, schedule=cubic(1))
    step()
    optimizer.settle()
    state = optimizer.state[weight]
    assert optimizer.connectivity() == 0.5
    assert state["threshold"] > 1.0
    assert "scalar" not in state
    before = weight.detach().clone()
    group.update(threshold_decay=5.0, sparsity=None)
    step()
    assert state["scalar"].item() == 0.0  # the highest threshold that a decay reaches, ½
    assert state["threshold"] == 0.5
    torch.testing.assert_close(weight.detach(), before, rtol=0, atol=1e-6)


def test_weights_start_as_they_are():
    weight = nn.Parameter(torch.tensor([0.01, -2.0, 0.5]))
    optimizer = STR([weight], lr=0.1, threshold_decay=0.0, s_init=0.0, base=torch.optim.SGD)
    assert optimizer.theta(weight).tolist() == pytest.approx([0.01, 2.0, 0.5])
    weight.grad = torch.zeros(3)
    optimizer.step()
    assert weight.tolist() == pytest.approx([0.01, -2.0, 0.5])


@pytest.mark.parametrize(("margin", "threshold"), [(0.25, 0.25), (0.001, sigmoid(-5.0)), (7.0, 0.5)])
def test_a_pruned_tensor_starts_with_a_threshold_of_the_margin(margin, threshold):
    weight = nn.Parameter(torch.tensor([0.0, -2.0, 0.5]))
    optimizer = STR([weight], threshold_decay=0.0, margin=margin)
    assert optimizer.theta(weight).tolist() == pytest.approx([-threshold, 2.0, 0.5])


def test_a_mask_from_outside_widens_the_zone_for_good():
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    optimizer = STR([weight], lr=1e-3, threshold_decay=0.0, margin=0.25)
    weight.grad = torch.zeros(3)
    optimizer.step()
    with torch.no_grad():
        weight[0] = 0.0
    for _ in range(3):
        optimizer.step()
    assert weight.tolist() == pytest.approx([0.0, -2.0, 0.5])
    assert optimizer.state[weight]["threshold"] == pytest.approx(0.25)


def test_layers_learn_thresholds_of_their_own():
    weights = [nn.Parameter(torch.full((5,), 3.0)) for _ in range(2)]
    optimizer = STR(weights, lr=0.1, threshold_decay=0.0, s_init=-2.0, base=torch.optim.SGD)
    for weight, gradient in zip(weights, (1.0, -1.0)):
        weight.grad = torch.full((5,), gradient)
    optimizer.step()
    # Smaller weights would be better for the first, larger ones for the second.
    first, second = (optimizer.state[weight]["threshold"] for weight in weights)
    assert first > sigmoid(-2.0) > second


def test_no_gradient_no_step_of_the_scalar():
    weights = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizer = STR(weights, lr=0.1, threshold_decay=1.0)
    optimizer.theta(weights[1])
    weights[0].grad = torch.ones(2)
    optimizer.step()
    assert optimizer.state[weights[0]]["scalar"] != -5.0
    assert optimizer.state[weights[1]]["scalar"] == -5.0


def test_a_budget_needs_no_scalar():
    weight = nn.Parameter(3.0 * torch.randn(100))
    optimizer = STR([weight], lr=0.1, sparsity=0.9, schedule=cubic(4), period=2)
    for _ in range(4):
        weight.grad = torch.randn(100)
        optimizer.step()
    assert "scalar" not in optimizer.state[weight]
    assert optimizer.state[weight]["threshold"] > 1.0  # where no sigmoid reaches
    assert optimizer.connectivity() == 0.1


def test_sigmoid_and_logit_far_away():
    assert (sigmoid(-3200.0), sigmoid(0.0), sigmoid(3200.0)) == (0.0, 0.5, 1.0)
    assert (logit(0.0), logit(0.5)) == (-math.inf, 0.0)
    assert logit(sigmoid(-7.0)) == pytest.approx(-7.0)


@pytest.mark.parametrize("s_init", [math.inf, math.nan, "low"])
def test_bad_starts_are_named(s_init):
    with pytest.raises(UsageError, match=r"s_init=.* is not a finite number"):
        STR([nn.Parameter(torch.ones(2))], threshold_decay=1.0, s_init=s_init)
