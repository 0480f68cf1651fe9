"""Methods that draw their first synapses when the optimizer is made, shown with Static."""

import torch
from torch import nn

from synaprune.optim import Static


def test_a_network_that_is_sparse_already_stays_as_it_is():
    weight = nn.Parameter(torch.randn(20, 20))
    Static([weight], sparsity=0.9)
    before = weight.detach().clone()
    Static([weight], sparsity=0.9, seed=7)
    assert torch.equal(weight, before)


def test_of_a_sparse_network_those_that_exist_come_first():
    weight = nn.Parameter(torch.cat([torch.ones(30), torch.zeros(70)]))
    Static([weight], sparsity=0.8)
    assert (torch.count_nonzero(weight), torch.count_nonzero(weight[:30])) == (20, 20)
    torch.testing.assert_close(weight.max().item(), 1.5**0.5)
    weight = nn.Parameter(torch.cat([torch.ones(30), torch.zeros(70)]))
    Static([weight], sparsity=0.6)
    assert (torch.count_nonzero(weight), torch.count_nonzero(weight[:30])) == (40, 30)
    assert weight.max() == 1.0


def test_lots_depend_on_seed_and_position_alone():
    draws = []
    for seed in (0, 0, 1):
        weights = [nn.Parameter(torch.ones(20, 20)) for _ in range(2)]
        torch.rand(5)
        Static(weights, sparsity=0.5, seed=seed)
        draws.append([weight != 0 for weight in weights])
    assert torch.equal(draws[0][0], draws[1][0])
    assert not torch.equal(draws[0][0], draws[0][1])
    assert not torch.equal(draws[0][0], draws[2][0])


def test_a_group_that_joins_is_drawn_too():
    weight, other, plain = (nn.Parameter(torch.ones(10, 10)) for _ in range(3))
    optimizer = Static([weight], sparsity=0.5)
    optimizer.add_param_group({"params": [other], "sparsity": 0.9})
    optimizer.add_param_group({"params": [plain], "rewire": False})
    assert [int(torch.count_nonzero(p)) for p in (weight, other, plain)] == [50, 10, 100]
