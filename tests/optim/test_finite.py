"""Non-finite gradients where the answer has to wait: the flags of a GPU, shown on the CPU."""

import copy

import pytest
import torch
from common import model, train
from torch import nn

from synaprune.errors import NonFiniteGradientError, UsageError
from synaprune.optim import GradR, finite


@pytest.fixture
def broken(monkeypatch):
    monkeypatch.setattr(finite, "_answers_at_once", lambda gradient: False)
    weight = nn.Parameter(torch.ones(3))
    optimizer = GradR([("fc", weight)])
    for value in (1.0, torch.nan, 1.0):
        weight.grad = torch.full((3,), value)
        optimizer.step()
    return weight, optimizer


@pytest.mark.parametrize(
    "read",
    [
        lambda weight, optimizer: optimizer.connectivity(),
        lambda weight, optimizer: optimizer.turnover(),
        lambda weight, optimizer: optimizer.theta(weight),
        lambda weight, optimizer: optimizer.state_dict(),
    ],
    ids=["connectivity", "turnover", "theta", "state_dict"],
)
def test_error_comes_where_values_are_read(broken, read):
    with pytest.raises(NonFiniteGradientError, match="a gradient of fc was not finite"):
        read(*broken)


def test_a_loaded_state_makes_good(broken):
    _, optimizer = broken
    optimizer.load_state_dict(GradR([("fc", nn.Parameter(torch.ones(3)))]).state_dict())
    optimizer.connectivity()


def test_unchecked_groups_are_not_looked_at(monkeypatch):
    monkeypatch.setattr(finite, "_answers_at_once", lambda gradient: False)
    weight = nn.Parameter(torch.ones(3))
    optimizer = GradR([weight], check_finite=False)
    weight.grad = torch.full((3,), torch.nan)
    optimizer.step()
    optimizer.connectivity()


def test_sparse_gradients_are_refused():
    table = nn.Embedding(5, 3, sparse=True)
    optimizer = GradR([table.weight])
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(UsageError, match="sparse"):
        optimizer.step()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["0.weight", "1.bias"])
def test_non_finite_gradient_is_refused_before_anything_changes(value, where):
    net = model()
    optimizer = GradR(net, lr=1e-2, alpha=0.1)
    train(net, optimizer, 3)
    before, state = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    net.get_parameter(where).grad.view(-1)[3] = value
    with pytest.raises(NonFiniteGradientError, match=where.replace(".", r"\.")):
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values()))
    after = optimizer.state_dict()
    assert state["state"][0]["steps"] == after["state"][0]["steps"]
    assert torch.equal(state["state"][0]["latent"], after["state"][0]["latent"])
    optimizer.param_groups[0]["check_finite"] = optimizer.param_groups[1]["check_finite"] = False
    optimizer.step()


def test_huge_but_finite_gradients_pass_the_check():
    weight = nn.Parameter(torch.ones(4))
    optimizer = GradR([weight], lr=1e-3)
    weight.grad = torch.full((4,), 3e38)  # their sum is infinite, they are not
    optimizer.step()
