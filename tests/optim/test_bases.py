"""What may be a base, and what is known of it."""

import math

import pytest
import torch
from common import BASES
from torch import nn

from synaprune.errors import UsageError
from synaprune.optim import GradR, bases


@pytest.mark.parametrize("name", BASES)
def test_redefined_gradient_on_theta_equals_plain_gradient_on_z(name):
    """The base commutes with sign flips: run on θ = |w| with s·g it takes the mirrored steps, bit for bit."""
    torch.manual_seed(1)
    start = torch.randn(6, 5)
    sign = start.sign()
    z, theta = nn.Parameter(start.clone()), nn.Parameter(start.abs())
    on_z, on_theta = BASES[name]([z], lr=1e-2), BASES[name]([theta], lr=1e-2)
    for _ in range(20):
        z.grad = torch.randn(6, 5)
        theta.grad = sign * z.grad
        on_z.step()
        on_theta.step()
    assert torch.equal(sign * z, theta)


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (torch.optim.LBFGS, "LBFGS cannot be the base"),
        (torch.optim.SparseAdam, "SparseAdam cannot be the base"),
        (torch.optim.Muon, "Muon cannot be the base"),
        ("Adam", "not a torch optimizer class"),
        (nn.Linear, "not a torch optimizer class"),
    ],
)
def test_bases_that_cannot_serve_are_refused_in_one_sentence(base, words):
    with pytest.raises(UsageError, match=words) as error:
        GradR([nn.Parameter(torch.ones(2, 2))], base=base)
    assert "\n" not in str(error.value)


def test_unknown_option_of_the_base_is_named():
    with pytest.raises(UsageError, match="momentum"):
        GradR([nn.Parameter(torch.ones(2))], momentum=0.9)


def test_longest_move_bounds_adam():
    """Gradients made to move Adam as far as they can stay under the bound (Cauchy-Schwarz on the moments)."""
    beta1, beta2 = 0.9, 0.999
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.Adam([weight], lr=1.0)
    bound = bases.longest_move(optimizer, optimizer.param_groups[0])
    farthest = 0.0
    for n in range(200):
        before = weight.item()
        weight.grad = torch.tensor([(beta2 / beta1) ** n], dtype=torch.float64)  # the extremal sequence
        optimizer.step()
        farthest = max(farthest, abs(weight.item() - before))
    assert 1.5 < farthest < bound / 3 * 1.01


def test_no_bound_is_no_bound():
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))])
    assert bases.longest_move(sgd, sgd.param_groups[0]) == math.inf
    adam = torch.optim.Adam([nn.Parameter(torch.zeros(1))], betas=(0.99, 0.9))
    assert bases.longest_move(adam, adam.param_groups[0]) == math.inf


def test_fused_where_torch_has_it_and_nobody_objects():
    weight = nn.Parameter(torch.zeros(1))
    assert GradR([weight]).param_groups[0]["fused"] is True
    assert not GradR([weight], foreach=True).param_groups[0]["fused"]
    assert "fused" not in GradR([weight], base=torch.optim.Rprop).param_groups[0]


@pytest.mark.parametrize("base", [torch.optim.RMSprop, torch.optim.ASGD])
def test_option_that_method_and_base_both_have(base):
    weight = nn.Parameter(torch.ones(2))
    optimizer = GradR([weight], alpha=0.5, base=base, base_alpha=0.9)
    seen = []
    optimizer._driver.optimizer.register_step_pre_hook(lambda inner, *_: seen.append(inner.param_groups[0]["alpha"]))
    weight.grad = torch.ones(2)
    optimizer.step()
    assert seen == [0.9]
    assert optimizer.param_groups[0]["alpha"] == 0.5


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_reset_and_flush_reach_what_the_base_knows_of_each_latent(layout):
    latent = torch.zeros(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    moment = torch.full((2, 3, 2, 2), 1e-36).contiguous(memory_format=layout)
    state = {"step": torch.tensor(7.0), "sum": moment, "row": torch.ones(2, 1), "exp_avg": moment + 5.0}
    # The place 4 in channels-last memory: channel 1 of the second pixel in the first row.
    bases.reset(state, torch.tensor([4]), latent, {"initial_accumulator_value": 0.5})
    assert state["sum"][0, 1, 0, 1] == 0.5
    assert state["exp_avg"][0, 1, 0, 1] == 0.0
    assert torch.count_nonzero(state["exp_avg"]) == 23
    bases.flush(state, latent)
    assert torch.count_nonzero(state["sum"]) == 1
    assert torch.count_nonzero(state["exp_avg"]) == 23
    assert state["step"] == 7.0
    assert state["row"].all()
