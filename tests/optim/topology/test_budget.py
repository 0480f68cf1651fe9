"""What a method with a budget keeps to, besides the number itself (`test_counts`)."""

import copy

import pytest
import torch
from budgets import births, equal, layers, methods, noise, nothing, reached, train, weights
from common import same, through_file
from common import train as train_network
from torch import nn

from synaprune.budget import constant, cubic, linear
from synaprune.errors import UsageError
from synaprune.optim import GradR


def test_frozen_topology_and_back():
    optimizer = GradR(layers(), lr=1e-2, sparsity=0.9, schedule=linear(steps=20), period=2)
    train(optimizer, 10)
    masks = [weight != 0 for weight in weights(optimizer)]
    optimizer.freeze_topology()
    train(optimizer, 9, births)
    optimizer.settle()
    assert not any((weight[~mask] != 0).any() for weight, mask in zip(weights(optimizer), masks))
    assert sum(reached(optimizer)) > 4000
    optimizer.freeze_topology(False)
    train(optimizer, 1)
    assert sum(reached(optimizer)) == 815


@methods
@pytest.mark.parametrize("allocation", ["global", "erk"])
def test_state_through_a_file_continues_bit_for_bit(method, allocation):
    options = {"lr": 1e-2, "sparsity": 0.9, "schedule": cubic(steps=60), "period": 7, "allocation": allocation}
    tensors = layers()
    optimizer = method(tensors, **options)
    train(optimizer, 25)
    twins = [(name, nn.Parameter(weight.detach().clone())) for name, weight in tensors]
    resumed = method(twins, sparsity=0.5, schedule=linear(steps=5))
    resumed.load_state_dict(through_file(optimizer.state_dict()))
    for each in (optimizer, resumed):
        train(each, 20, seed=1)
        each.settle()
        train(each, 20, seed=2)
        each.settle()
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(tensors, twins))
    assert sum(reached(resumed)) in (815, 816)


@methods
def test_deepcopy_continues_bit_for_bit(method):
    net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Flatten(), nn.Linear(6 * 16, 5))
    optimizer = method(net, lr=1e-2, sparsity=0.9, schedule=cubic(steps=30), period=4)
    train_network(net, optimizer, 10)
    twin, twin_optimizer = copy.deepcopy((net, optimizer))
    train_network(net, optimizer, 20, seed=2)
    assert not same(net, twin)
    train_network(twin, twin_optimizer, 20, seed=2)
    assert same(net, twin)
    assert twin_optimizer.connectivity() == 59 / 588


@methods
def test_a_changed_budget_acts_at_the_next_solution(method):
    optimizer = method(layers(), lr=1e-2, sparsity=0.9, schedule=constant(steps=8), period=4)
    train(optimizer, 4)
    optimizer.param_groups[0]["sparsity"] = 0.95
    train(optimizer, 3)
    assert sum(reached(optimizer)) > 408
    train(optimizer, 1)
    assert sum(reached(optimizer)) == 408
    optimizer.param_groups[0].update(sparsity=0.5, allocation="uniform")
    train(optimizer, 4)
    assert reached(optimizer) == [576, 3000, 500]


@methods
def test_an_added_group_has_its_own_budget_and_time(method):
    first, *others = layers()
    optimizer = method([first], lr=1e-2, sparsity=0.9, schedule=constant(steps=1), period=3)
    train(optimizer, 3)
    optimizer.add_param_group({"params": others, "sparsity": 0.99, "schedule": linear(steps=8), "period": 4})
    train(optimizer, 4)
    assert sum(reached(optimizer)[1:]) == optimizer.plan(optimizer.param_groups[1]).count(4) == 3535
    train(optimizer, 4)
    optimizer.settle()
    assert sum(reached(optimizer)[1:]) == 70
    assert reached(optimizer)[0] == 115


def test_fixed_alpha_beside_a_budget():
    first, second, third = layers()
    alone = nn.Parameter(first[1].detach().clone())
    groups = [{"params": [first], "alpha": 0.5, "schedule": None, "sparsity": 0.95}, {"params": [second, third]}]
    optimizer = GradR(groups, lr=1e-2, sparsity=0.9, schedule=linear(steps=8), period=4)
    train(optimizer, 8, equal)
    optimizer.settle()
    plain = GradR([("conv.weight", alone)], lr=1e-2, alpha=0.5)
    train(plain, 8, equal)
    assert torch.equal(first[1], alone)
    assert sum(reached(optimizer)[1:]) == 700


@methods
def test_tensors_without_a_gradient(method):
    """They keep still but take part in the ranking; time goes on as long as one tensor of the group learns."""
    optimizer = method(layers(), lr=1e-2, sparsity=0.9, schedule=linear(steps=12), period=5)
    generator = torch.Generator().manual_seed(0)
    first, *others = weights(optimizer)
    for step in range(12):
        for n, weight in enumerate(others):
            weight.grad = noise(generator, weight, optimizer) if step % 2 == n else None
        before = first.detach().clone()
        optimizer.step()
        if step + 1 not in (5, 10, 12):
            assert torch.equal(first, before)
    assert sum(reached(optimizer)) == 815
    for weight in others:
        weight.grad = None
    settled = copy.deepcopy(weights(optimizer))
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(settled, weights(optimizer)))


@methods
@pytest.mark.parametrize("moves", [True, False])
def test_weights_written_by_others_are_settled_not_overwritten(method, moves):
    """A network is loaded between two steps, or into a tensor that the next step does not move."""
    tensors = layers()
    optimizer = method(tensors, lr=1e-3, sparsity=0.9, schedule=constant(steps=1), period=1)
    train(optimizer, 3)
    loaded = torch.randn(100, 60).abs() + 5.0
    with torch.no_grad():
        tensors[1][1].copy_(loaded)
    if moves:
        optimizer.settle()
    else:
        tensors[1][1].grad = None
        optimizer.step()
    existing = tensors[1][1] != 0
    assert existing.sum() > 600
    assert sum(reached(optimizer)) == 815
    # Grad R takes the threshold from them, which is the same for all.
    difference = (loaded - tensors[1][1].detach())[existing]
    assert difference.max() - difference.min() < 1e-5
    assert method is GradR or difference.abs().max() == 0


def test_what_a_solution_found():
    """No gradient: to leave 50 of 1, 2, … 100 hundredths, θ falls by 0.5 in four steps of 0.1: α = 0.5/0.4."""
    weight = nn.Parameter(torch.arange(1.0, 101.0) / 100)
    optimizer = GradR([("fc", weight)], 0.1, sparsity=0.5, schedule=constant(steps=4), period=4, base=torch.optim.SGD)
    train(optimizer, 3, nothing)
    assert optimizer.solved() == {}
    train(optimizer, 1, nothing)
    alpha, excess = optimizer.solved()["fc"]
    assert alpha == pytest.approx(1.25)
    assert excess == 1.0  # 100 where 50 shall be
    assert optimizer.solved() == {}
    torch.testing.assert_close(weight[50:].detach(), torch.arange(1.0, 51.0) / 100)


def test_a_steady_budget_is_met_by_the_prior_alone():
    """Weights spread evenly under a linear schedule: once α is known, the count is right before it is solved."""
    weight = nn.Parameter(torch.arange(1.0, 10_001.0) / 10_000)
    optimizer = GradR([("fc", weight)], 0.1, sparsity=0.5, schedule=linear(steps=80), period=4, base=torch.optim.SGD)
    train(optimizer, 4, nothing)
    optimizer.solved()
    train(optimizer, 75, nothing)
    alpha, excess = optimizer.solved()["fc"]
    assert alpha == pytest.approx(0.5 / 80 / 0.1, rel=1e-4)
    assert excess < 0.001


@methods
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sparsity": 98}, "sparsity=98 is not a number in"),
        ({"sparsity": -0.1}, "sparsity=-0.1 is not a number in"),
        ({"sparsity": 0.9, "schedule": None}, "give schedule=cubic"),
        ({"sparsity": 0.9999}, "leaves 1 synapses for 3 layers, less than one for each"),
        ({"sparsity": 0.9995, "allocation": "uniform"}, "leaves fc2.weight less than one of its 1,000 synapses"),
        ({"sparsity": 0.9, "allocation": "globel"}, "did you mean 'global'"),
        ({"sparsity": {"fc3.*": 0.9, "*": 0.5}}, "no layer's name matches 'fc3.*'; did you mean 'fc2.*'"),
        ({"sparsity": 0.9, "period": 0}, "period=0"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_at_once(method, options, words):
    """When the optimizer is made, when a group is added, and when a value is changed: before anything moves."""
    options = {"schedule": linear(steps=8), **options}
    tensors = layers()
    with pytest.raises(UsageError) as error:
        method(tensors, **options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)

    optimizer = method([("other", nn.Parameter(torch.ones(4)))], sparsity=0.5, schedule=linear(steps=8))
    with pytest.raises(UsageError):
        optimizer.add_param_group({"params": tensors, **options})
    assert len(optimizer.param_groups) == 1

    optimizer = method(tensors, sparsity=0.5, schedule=linear(steps=8))
    train(optimizer, 2)
    before = copy.deepcopy((weights(optimizer), optimizer.state_dict()["state"]))
    optimizer.param_groups[0].update(options)
    with pytest.raises(UsageError):
        train(optimizer, 1)
    assert all(torch.equal(a, b) for a, b in zip(before[0], weights(optimizer)))
    for mine, theirs in zip(before[1].values(), optimizer.state_dict()["state"].values()):
        assert torch.equal(mine["latent"], theirs["latent"])
        assert mine["steps"] == theirs["steps"]


@methods
def test_half_precision_is_refused(method):
    with pytest.raises(UsageError, match=r"is torch\.float16, whose values near the threshold underflow"):
        method(layers(torch.float16), sparsity=0.9, schedule=linear(steps=8))


def test_a_schedule_beside_a_number_for_alpha():
    with pytest.raises(UsageError, match=r"a schedule belongs to a budget, but alpha=0\.1 fixes the strength"):
        GradR(layers(), alpha=0.1, sparsity=0.9, schedule=linear(steps=8))
