"""RigL: SET with another growth score."""

import inspect

import pytest
import torch
from test_set import TWINS
from torch import nn

from synaprune.budget import constant, cosine
from synaprune.optim.reference.rigl import RigL as Reference
from synaprune.optim.rigl import RigL
from synaprune.optim.set import SET


def test_over_set_it_is_a_change_of_score_only():
    given, defaults = (inspect.signature(method).parameters for method in (RigL, SET))
    assert given.keys() == defaults.keys()
    assert [name for name in given if given[name].default != defaults[name].default] == ["growth"]
    runs = {}
    for method, options in ((SET, {"growth": "gradient"}), (RigL, {}), (SET, {}), (RigL, {"growth": "random"})):
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(10, 10))
        optimizer = method([weight], lr=0.01, sparsity=0.7, schedule=cosine(40), period=4, **options)
        for _ in range(20):
            weight.grad = torch.randn(10, 10)
            optimizer.step()
        runs[method, *options.values()] = weight.detach()
    assert torch.equal(runs[SET, "gradient"], runs[RigL,])
    assert torch.equal(runs[RigL, "random"], runs[SET,])
    assert not torch.equal(runs[RigL,], runs[SET,])


@pytest.mark.parametrize("base_name", TWINS)
def test_equals_plain_twin(base_name):
    base, options, direction = TWINS[base_name]
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(12, 10, generator=generator, dtype=torch.float64))
    optimizer = RigL([weight], lr=0.02, sparsity=0.7, schedule=cosine(200), period=5, base=base, **options)
    twin = Reference(weight.detach().clone(), weight != 0, 0.02, 0.3, 5, 150, direction())
    start = optimizer.mask(weight)
    for _ in range(200):
        weight.grad = torch.randn(12, 10, generator=generator, dtype=torch.float64)
        optimizer.step()
        twin.step(weight.grad)
        assert torch.equal(optimizer.mask(weight), twin.m)
        torch.testing.assert_close(weight.detach(), twin.theta, rtol=1e-9, atol=1e-12)
    assert (start & ~twin.m).sum() > 10


def test_the_largest_gradients_of_the_very_step_are_grown():
    weight = nn.Parameter(torch.tensor([3.0, 2.0, 1.0, 0.0, 0.0, 0.0]))
    options = {"drop": 0.5, "period": 2, "base": torch.optim.SGD, "momentum": 0.9}
    optimizer = RigL([weight], lr=0.01, sparsity=0.5, schedule=constant(100), **options)
    for gradient in ([0.0, 0.0, 0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.1, -0.3, -0.4]):
        weight.grad = torch.tensor(gradient)
        optimizer.step()
    assert (weight != 0).tolist() == [True, False, False, False, True, True]
