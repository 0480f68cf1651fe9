"""SET: sparse from the start, and regrown by lot."""

import pytest
import torch
from torch import nn

from synaprune.budget import constant, cosine
from synaprune.errors import UsageError
from synaprune.optim.reference import grad_r as bases
from synaprune.optim.reference.rigl import RigL as Reference
from synaprune.optim.set import SET

TWINS = {
    "adam": (torch.optim.Adam, {}, bases.Adam),
    "sgd": (torch.optim.SGD, {"momentum": 0.9}, lambda: bases.SGD(0.9)),
}


@pytest.mark.parametrize("base_name", TWINS)
def test_equals_plain_twin_that_is_told_the_draws(base_name):
    base, options, direction = TWINS[base_name]
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(12, 10, generator=generator, dtype=torch.float64))
    optimizer = SET([weight], lr=0.02, sparsity=0.7, schedule=cosine(200), period=5, base=base, **options)
    twin = Reference(weight.detach().clone(), weight != 0, 0.02, 0.3, 5, 150, direction())
    for _ in range(200):
        before = optimizer.mask(weight)
        weight.grad = torch.randn(12, 10, generator=generator, dtype=torch.float64)
        optimizer.step()
        twin.step(weight.grad, grown=optimizer.mask(weight) & ~before)
        assert torch.equal(optimizer.mask(weight), twin.m)
        torch.testing.assert_close(weight.detach(), twin.theta, rtol=1e-9, atol=1e-12)


def test_sparse_from_the_first_forward_pass_by_erdos_renyi():
    """ε·(800+784)/(800·784) and ε·(10+800)/(10·800), 635,200 synapses in all of which 2 % exist."""
    weights = [nn.Parameter(torch.randn(800, 784)), nn.Parameter(torch.randn(10, 800))]
    SET(weights, sparsity=0.98, schedule=cosine(1000))
    counts = [int(torch.count_nonzero(weight)) for weight in weights]
    assert sum(counts) == 12704
    assert counts[0] / counts[1] == pytest.approx(1584 / 810, rel=1e-3)


def test_weights_can_be_scaled_to_keep_the_current():
    torch.manual_seed(0)
    weight, bare = (nn.Parameter(torch.ones(20, 20)) for _ in range(2))
    SET([weight], sparsity=0.75, schedule=cosine(1000), rescale=True)
    SET([bare], sparsity=0.75, schedule=cosine(1000))
    assert weight.unique().tolist() == [0.0, 2.0]
    assert bare.unique().tolist() == [0.0, 1.0]


def test_lots_are_drawn_evenly():
    """Of 60 absent synapses 12 are grown in each of 400 exchanges: each 80 times, with a deviation of 8."""
    born = torch.zeros(100)
    for seed in range(400):
        weight = nn.Parameter(torch.cat([torch.ones(40), torch.zeros(60)]))
        options = {"drop": 0.3, "period": 1, "seed": seed, "base": torch.optim.SGD}
        optimizer = SET([weight], sparsity=0.6, schedule=constant(2), **options)
        weight.grad = torch.zeros(100)
        optimizer.step()
        born[40:] += weight[40:].detach() != 0
    assert born.sum() == 400 * 12
    assert (born[40:] - 80).abs().max() < 4 * 8


def test_the_weakest_go():
    weight = nn.Parameter(torch.tensor([0.5, -3.0, 2.0, -0.1, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    optimizer = SET([weight], sparsity=0.5, schedule=constant(4), drop=0.4, period=1, base=torch.optim.SGD)
    weight.grad = torch.zeros(10)
    optimizer.step()
    assert (weight[:5] != 0).tolist() == [False, True, True, False, True]


def test_budget_per_pattern():
    net = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    SET(net, sparsity={"0.*": 0.9, "*": 0.5}, schedule=cosine(1000))
    assert [int(torch.count_nonzero(layer.weight)) for layer in net] == [10, 50]


def test_ranking_all_layers_is_refused():
    with pytest.raises(UsageError, match="allocation='global' ranks what has been learned, and SET draws"):
        SET([nn.Parameter(torch.ones(4, 4))], sparsity=0.5, allocation="global", schedule=cosine(1000))
