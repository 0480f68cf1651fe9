"""Masked latents: what is hidden, what the network sees, and who may write it."""

import copy

import pytest
import torch
from torch import nn

from synaprune.budget import constant
from synaprune.optim import Magnitude, MagnitudeSTE

both = pytest.mark.parametrize("method", [Magnitude, MagnitudeSTE])


def make(method, values, sparsity=0.5, **options):
    weight = nn.Parameter(torch.tensor(values))
    options = {"schedule": constant(steps=2), "period": 2, "base": torch.optim.SGD, **options}
    return weight, method([("fc", weight)], lr=0.1, sparsity=sparsity, **options)


def step(weight, optimizer, *gradient):
    weight.grad = torch.tensor(gradient, dtype=weight.dtype)
    optimizer.step()


@both
def test_weights_are_latents_where_the_mask_is(method):
    weight, optimizer = make(method, [0.1, -0.4, 0.3, -0.2])
    assert optimizer.mask(weight).all()
    step(weight, optimizer, 0.0, 0.0, 0.0, 0.0)
    step(weight, optimizer, 0.0, 1.0, 0.0, 0.0)
    torch.testing.assert_close(weight.tolist(), [0.0, -0.5, 0.3, 0.0])
    torch.testing.assert_close(optimizer.theta(weight).tolist(), [0.1, -0.5, 0.3, -0.2])
    assert optimizer.theta(weight).dtype == torch.float64
    assert optimizer.mask(weight).tolist() == [False, True, True, False]


def test_only_straight_through_gradients_reach_absent_synapses():
    for method, latents in ((Magnitude, [0.1, -0.4, 0.3, -0.2]), (MagnitudeSTE, [0.0, -0.4, 0.3, -0.1])):
        weight, optimizer = make(method, [0.1, -0.4, 0.3, -0.2])
        step(weight, optimizer, 0.0, 0.0, 0.0, 0.0)
        step(weight, optimizer, 0.0, 0.0, 0.0, 0.0)
        step(weight, optimizer, 1.0, 0.0, 0.0, -1.0)
        expected = latents if method is Magnitude else [0.0, -0.4, 0.3, -0.1]
        torch.testing.assert_close(optimizer.theta(weight).tolist(), expected)
        torch.testing.assert_close(weight.tolist(), [0.0, -0.4, 0.3, 0.0])
        assert weight.grad.tolist() == [1.0, 0.0, 0.0, -1.0]  # as it was


@both
def test_a_pruned_network_starts_with_its_mask_and_one_of_zeros_with_all(method):
    weight, optimizer = make(method, [0.0, 1.0, 0.0, -1.0])
    assert optimizer.mask(weight).tolist() == [False, True, False, True]
    weight, optimizer = make(method, [0.0, 0.0])
    assert optimizer.mask(weight).all()
    step(weight, optimizer, 1.0, -1.0)
    torch.testing.assert_close(weight.tolist(), [-0.1, 0.1])


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_existing_weights_of_zero_are_counted(method, dtype):
    """Among them a latent that bfloat16 would round to 0."""
    weight = nn.Parameter(torch.tensor([0.0, 1.0, 1e-45, -1e-41]).to(dtype))
    optimizer = method([weight], lr=0.1, sparsity=0.0, schedule=constant(steps=1), period=1, base=torch.optim.SGD)
    step(weight, optimizer, 0.0, 0.0, 0.0, 0.0)
    assert (weight != 0).all()
    assert (weight.abs() > 1e-31).all()


@both
def test_weights_written_by_others_are_taken_over(method):
    weight, optimizer = make(method, [0.1, -0.4, 0.3, -0.2])
    for _ in range(2):
        step(weight, optimizer, 0.0, 0.0, 0.0, 0.0)
    with torch.no_grad():
        weight.copy_(torch.tensor([2.0, 0.0, 0.3, 0.0]))  # one appears, one goes, two stay as they are
    step(weight, optimizer, 0.0, 0.0, 1.0, 0.0)
    torch.testing.assert_close(weight.tolist(), [2.0, 0.0, 0.2, 0.0])
    assert optimizer.mask(weight).tolist() == [True, False, True, False]
    torch.testing.assert_close(optimizer.theta(weight).tolist(), [2.0, 0.0, 0.2, -0.2])


@both
def test_a_loaded_model_is_taken_over_and_brought_to_the_budget(method):
    net = nn.Linear(20, 10)
    optimizer = method(net, lr=0.01, sparsity=0.9, schedule=constant(steps=1), period=1)
    loaded = {name: torch.randn_like(value) for name, value in net.state_dict().items()}
    for _ in range(2):
        net(torch.randn(4, 20)).square().sum().backward()
        optimizer.step()
    net.load_state_dict(loaded)
    optimizer.settle()
    assert optimizer.connectivity() == 0.1
    kept = net.weight != 0
    assert torch.equal(net.weight[kept], loaded["weight"][kept])
    assert net.weight[kept].abs().min() > loaded["weight"][~kept].abs().max()


@both
@pytest.mark.parametrize("base", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_weight_decay_acts_on_weights_and_never_on_absent_latents(method, base):
    weight, optimizer = make(method, [0.1, 2.0], base=base, weight_decay=0.5)
    for _ in range(2):
        step(weight, optimizer, 0.0, 0.0)
    absent, existing = optimizer.theta(weight).tolist()
    weight.grad = torch.zeros(2)
    before = optimizer.theta(weight)[0].item()
    for _ in range(5):
        step(weight, optimizer, 0.0, 0.0)
    assert weight[0] == 0
    assert 0 < weight[1] < existing < 2.0
    if base is torch.optim.Adam:  # the moments of its decay while it existed run on
        assert abs(optimizer.theta(weight)[0].item()) <= 0.5
    else:
        assert optimizer.theta(weight)[0].item() == before == absent
        torch.testing.assert_close(weight[1].item(), 2.0 * 0.95**7)


@both
def test_momentum_moves_no_absent_weight_off_zero(method):
    weight, optimizer = make(method, [0.1, -0.4, 0.3, -0.2], base=torch.optim.Adam, schedule=constant(steps=2))
    for _ in range(2):
        step(weight, optimizer, 0.5, 0.0, 0.0, 0.5)
    assert weight[0] == 0
    hidden = optimizer.theta(weight)[0].item()
    step(weight, optimizer, 0.0, 0.0, 0.0, 0.0)
    assert optimizer.theta(weight)[0].item() != hidden
    assert weight[0] == 0


@both
def test_frozen_topology(method):
    weight, optimizer = make(method, [0.1, -0.4, 0.3, -0.2])
    for _ in range(2):
        step(weight, optimizer, 0.0, 0.0, 0.0, 0.0)
    optimizer.freeze_topology()
    for _ in range(4):  # the first is pushed above, the second below the others
        step(weight, optimizer, -3.0, -0.9, 0.0, 0.0)
    torch.testing.assert_close(weight.tolist(), [0.0, -0.04, 0.3, 0.0])
    optimizer.freeze_topology(False)
    step(weight, optimizer, -3.0, 0.0, 0.0, 0.0)
    assert (weight != 0).tolist() == [False, True, True, False]
    step(weight, optimizer, -3.0, 0.0, 0.0, 0.0)
    assert (weight != 0).tolist() == [method is MagnitudeSTE, method is Magnitude, True, False]


@both
def test_mask_survives_a_copy_as_booleans(method):
    net = nn.Linear(6, 4)
    optimizer = method(net, lr=0.1, sparsity=0.5, schedule=constant(steps=1), period=1)
    net(torch.randn(2, 6)).sum().backward()
    optimizer.step()
    resumed = method(copy.deepcopy(net), sparsity=0.9, schedule=constant(steps=1))
    resumed.load_state_dict(optimizer.state_dict())
    weight = resumed.param_groups[0]["params"][0]
    assert resumed.state[weight]["mask"].dtype == torch.bool
    assert torch.equal(resumed.mask(weight), net.weight != 0)
