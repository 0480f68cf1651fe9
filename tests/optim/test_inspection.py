"""What can be read from a method."""

import pytest
import torch
from common import model, train
from torch import nn

from synaprune.budget import linear
from synaprune.errors import UsageError
from synaprune.optim import Dense, GradR, MagnitudeSTE


def test_turnover_counts_deaths_and_births():
    weight = nn.Parameter(torch.tensor([1.0, 1.0, 0.0, 1.0]))
    optimizer = GradR([("fc", weight)], lr=1.0, alpha=0.0, base=torch.optim.SGD, margin=0.5)
    assert optimizer.turnover() == {"fc": (0, 0)}
    optimizer.theta(weight)
    sign = optimizer.state_dict()["state"][0]["sign"]
    weight.grad = torch.tensor([2.0, 0.0, -sign[2].item(), 0.0])
    optimizer.step()
    assert optimizer.turnover() == {"fc": (1, 1)}
    assert optimizer.turnover() == {"fc": (0, 0)}


def test_theta_is_signed_latent_less_offset():
    weight = nn.Parameter(torch.tensor([[0.5, -2.0], [0.0, 0.25]]))
    optimizer = GradR([weight], lr=0.1, alpha=1.0, base=torch.optim.SGD, margin=0.75)
    torch.testing.assert_close(optimizer.theta(weight).tolist(), [[0.5, 2.0], [-0.75, 0.25]])
    weight.grad = torch.zeros(2, 2)
    optimizer.step()
    torch.testing.assert_close(optimizer.theta(weight).tolist(), [[0.4, 1.9], [-0.85, 0.15]])
    assert optimizer.mask(weight).tolist() == [[True, True], [False, True]]


def test_connectivity_counts_every_tensor_of_synapses_rewired_or_not():
    synapses, spared, bias = (nn.Parameter(torch.tensor(values)) for values in ([1.0, 0.0], [0.0, 0.0, 3.0], [0.0]))
    groups = [{"params": [synapses]}, {"params": [spared], "rewire": False}]
    optimizer = GradR([*groups, {"params": [bias], "rewire": False, "counted": False}])
    assert optimizer.connectivity() == 2 / 5
    assert list(optimizer.turnover()) == ["tensor 0"]
    with pytest.raises(UsageError, match="no group holds synapses to count"):
        Dense([{"params": [bias], "counted": False}]).connectivity()


def test_only_rewired_tensors_have_latents():
    net = model()
    optimizer = GradR(net)
    with pytest.raises(UsageError, match=r"a tensor of shape \(5,\) is not rewired by this GradR"):
        optimizer.theta(net[4].bias)


@pytest.mark.parametrize("method", [GradR, MagnitudeSTE])
def test_what_is_read_is_a_copy_and_reading_changes_nothing(method):
    nets = model(), model()
    for net, reads in zip(nets, (False, True)):
        optimizer = method(net, lr=1e-2, sparsity=0.8, schedule=linear(steps=20), period=3)
        for step in range(20):
            train(net, optimizer, 1, seed=step)
            if reads:
                optimizer.theta(net[4].weight).zero_()
                optimizer.mask(net[4].weight).fill_(True)
                optimizer.connectivity(), optimizer.turnover(), optimizer.plan(optimizer.param_groups[0])
    assert torch.equal(nets[0][4].weight, nets[1][4].weight)
