"""Grad R against autograd, and against what its users rely on; beside its plain twins in `test_reference`."""

import itertools
import math

import numpy as np
import pytest
import torch
from common import state_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from synaprune.budget import cubic
from synaprune.errors import UsageError
from synaprune.optim import GradR
from synaprune.optim.prior import target


class SpikingNet(nn.Module):
    """Two layers of leaky integrate-and-fire neurons whose weights are functions of θ."""

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx, v):
            ctx.save_for_backward(v)
            return (v >= 0).to(v)

        @staticmethod
        def backward(ctx, grad):
            (v,) = ctx.saved_tensors
            return grad / (1 + (math.pi * v) ** 2)

    def loss(self, weights, x, target):
        v = [torch.zeros(x.shape[0], w.shape[0], dtype=x.dtype) for w in weights]
        counts = torch.zeros_like(v[-1])
        for _ in range(5):
            current = x
            for layer, w in enumerate(weights):
                v[layer] = v[layer] + (current @ w.T - v[layer]) / 2
                current = self.Spike.apply(v[layer] - 1)
                v[layer] = v[layer] * (1 - current.detach())
            counts = counts + current
        return (counts / 5 - target).square().mean()


def test_redefined_gradient_is_the_true_one_where_the_synapse_exists():
    """Eq. 2 and 3 of design: autograd through s·relu(θ) against what the base optimizer receives."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    weights = [nn.Parameter(2 * draw(16, 10)), nn.Parameter(draw(4, 16))]
    x, target = draw(8, 10), torch.eye(4, dtype=torch.float64).repeat(2, 1)
    optimizer = GradR(weights, lr=0.05, alpha=2.0, base=torch.optim.SGD)
    net = SpikingNet()
    for _ in range(12):
        optimizer.zero_grad()
        net.loss(weights, x, target).backward()
        optimizer.step()
    thetas = [optimizer.theta(w).requires_grad_() for w in weights]
    signs = [state_of(optimizer, w)["sign"] for w in weights]
    assert 0.2 < optimizer.connectivity() < 0.9

    true = torch.autograd.grad(net.loss([s * torch.relu(theta) for s, theta in zip(signs, thetas)], x, target), thetas)
    optimizer.zero_grad()
    net.loss(weights, x, target).backward()
    received = []
    optimizer._driver.optimizer.register_step_pre_hook(
        lambda base, *_: received.extend(p.grad.clone() for group in base.param_groups for p in group["params"])
    )
    optimizer.step()
    redefined = [s * g for s, g in zip(signs, received)]
    dead_hear = False
    for theta, exact, ours in zip(thetas, true, redefined):
        torch.testing.assert_close(ours[theta > 0], exact[theta > 0], rtol=1e-12, atol=1e-15)
        torch.testing.assert_close((ours * exact).sum(), exact.square().sum(), rtol=1e-12, atol=1e-15)
        assert (exact[theta <= 0] == 0).all()
        dead_hear |= bool((ours[theta <= 0] != 0).any())
    assert dead_hear


def one_synapse(value, **options):
    weight = nn.Parameter(torch.tensor([value, 5.0]))
    return weight, GradR([weight], **{"lr": 0.1, "alpha": 0.0, "base": torch.optim.SGD, **options})


def step(weight, optimizer, *gradient):
    weight.grad = torch.tensor(gradient, dtype=weight.dtype)
    optimizer.step()


def test_a_lost_synapse_comes_back_and_moves_at_the_next_step():
    weight, optimizer = one_synapse(0.25)
    step(weight, optimizer, 4.0, 0.0)
    assert weight[0] == 0
    torch.testing.assert_close(optimizer.theta(weight)[0].item(), 0.25 - 0.4)
    step(weight, optimizer, -2.0, 0.0)
    torch.testing.assert_close(weight[0].item(), 0.05)
    step(weight, optimizer, -1.0, 0.0)
    torch.testing.assert_close(weight[0].item(), 0.15)


def test_sign_never_changes():
    weight, optimizer = one_synapse(-0.25)
    for _ in range(5):
        step(weight, optimizer, -4.0, 0.0)
    assert weight[0] == 0
    for _ in range(6):
        step(weight, optimizer, 4.0, 0.0)
    assert weight[0] < 0


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam])
def test_20000_drifts_add_up(base):
    """θ = ±3 falls by 0.01, where float32 alone would not move at all."""
    weight = nn.Parameter(torch.tensor([3.0, -3.0]))
    optimizer = GradR([weight], lr=1e-4, alpha=1e-3, base=base)
    weight.grad = torch.zeros(2)
    for _ in range(20_000):
        optimizer.step()
    # Adam's bias correction adds Σ (1/(1−0.9ⁿ) − 1) steps to the prior.
    extra = sum(1 / (1 - 0.9**n) - 1 for n in range(1, 1000)) if base is torch.optim.Adam else 0.0
    expected = 3.0 - (20_000 + extra) * 1e-7
    assert (optimizer.theta(weight) - expected).abs().max() < 1e-9
    torch.testing.assert_close(weight.tolist(), [expected, -expected])


def test_all_zero_tensor_can_live():
    weight = nn.Parameter(torch.zeros(40, 50))
    optimizer = GradR([weight], lr=0.1, alpha=0.0, base=torch.optim.SGD)
    weight.grad = torch.ones(40, 50)
    optimizer.step()
    # A coin gave the signs; those that may be negative follow the gradient.
    assert 0.4 < optimizer.connectivity() < 0.6
    assert set(weight.unique().tolist()) <= {0.0, torch.tensor(-0.1).item()}


def test_pruned_network_keeps_its_connectivity_but_for_births_with_cause():
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(100, 100, generator=generator))
    with torch.no_grad():
        weight.mul_(torch.rand(100, 100, generator=generator) < 0.01)
    before = weight != 0
    optimizer = GradR([weight], lr=1e-3, alpha=1e-3)
    called = tuple((~before).nonzero()[0])
    optimizer.theta(weight)  # the latents start
    for _ in range(12):
        # Noise calls nobody; one absent synapse is called for at every step.
        weight.grad = torch.randn(100, 100, generator=generator)
        weight.grad[called] = -10.0 * state_of(optimizer, weight)["sign"][called]
        optimizer.step()
    newborn = (weight != 0) & ~before
    assert newborn[called]
    assert newborn.sum() <= 25  # a quarter of a percent; at the threshold itself it would be half of all
    assert (weight != 0)[before].all()


def test_margin_is_an_option():
    weight = nn.Parameter(torch.tensor([0.0, 1.0]))
    optimizer = GradR([weight], lr=1e-3, alpha=0.0, margin=0.5)
    torch.testing.assert_close(optimizer.theta(weight).tolist(), [-0.5, 1.0])
    weight = nn.Parameter(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(GradR([weight], lr=1e-3).theta(weight)[0].item(), -0.01)


def test_changed_alpha_acts_at_once():
    weight, optimizer = one_synapse(1.0, alpha=1.0)
    step(weight, optimizer, 0.0, 0.0)
    optimizer.param_groups[0]["alpha"] = 3.0
    step(weight, optimizer, 0.0, 0.0)
    torch.testing.assert_close(weight.tolist(), [1.0 - 0.1 - 0.3, 5.0 - 0.4])


def test_changed_sparsity_moves_the_centre_at_once():
    weight, optimizer = one_synapse(1.0, alpha=1.0, sparsity=0.95)
    step(weight, optimizer, 20.0, 0.0)  # θ = 1 − 2 − 0.1, above the centre at −2.3
    torch.testing.assert_close(optimizer.theta(weight)[0].item(), -1.1)
    optimizer.param_groups[0]["sparsity"] = 0.5  # centre 0: the prior now lifts θ
    step(weight, optimizer, 0.0, 0.0)
    torch.testing.assert_close(optimizer.theta(weight).tolist(), [-1.0, 4.8])


def test_no_gradient_no_step_no_drift():
    weight, optimizer = one_synapse(1.0, alpha=1.0)
    other = nn.Parameter(torch.ones(2))
    optimizer.add_param_group({"params": [other]})
    step(weight, optimizer, 0.0, 0.0)
    assert torch.equal(other, torch.ones(2))
    assert weight[0] < 1


def test_frozen_topology_keeps_absent_synapses_absent():
    weight = nn.Parameter(torch.tensor([0.0, 1.0, -1.0, 0.0]))
    optimizer = GradR([weight], lr=0.1, alpha=1.0, base=torch.optim.SGD, margin=0.05)
    optimizer.freeze_topology()
    for _ in range(5):
        sign = state_of(optimizer, weight)["sign"]
        weight.grad = -sign.clone()
        optimizer.step()
    torch.testing.assert_close(weight.tolist(), [0.0, 1.5, -1.5, 0.0])  # trained, without the prior's drift
    optimizer.freeze_topology(False)
    weight.grad = -sign.clone()
    optimizer.step()
    assert (weight != 0).tolist() == [False, True, True, False]  # 0.1 up, 0.1 of drift down: still at the threshold
    weight.grad = -2 * sign
    optimizer.step()
    assert (weight != 0).all()


@settings(max_examples=40, deadline=None)
@given(
    alpha=st.floats(0, 5),
    sparsity=st.floats(0.5, 0.99),
    lr=st.floats(1e-4, 0.3),
    seed=st.integers(0, 10_000),
    base=st.sampled_from([torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop]),
)
def test_weights_are_a_function_of_the_latents(alpha, sparsity, lr, seed, base):
    generator = torch.Generator().manual_seed(seed)
    weight = nn.Parameter(torch.randn(5, 7, generator=generator).mul_(torch.rand(5, 7, generator=generator) < 0.6))
    optimizer = GradR([weight], lr=lr, alpha=alpha, base=base)
    optimizer.param_groups[0]["sparsity"] = sparsity
    sign = None
    for _ in range(6):
        weight.grad = torch.randn(5, 7, generator=generator)
        optimizer.step()
        state = state_of(optimizer, weight)
        sign = state["sign"].clone() if sign is None else sign
        assert torch.equal(state["sign"], sign)
        assert abs(state["offset"]) < 2.0**-10
        theta = optimizer.theta(weight)
        torch.testing.assert_close(weight.double(), sign.double() * torch.relu(theta), rtol=0, atol=1e-6)
        assert torch.equal(optimizer.mask(weight), weight != 0)


def test_published_defaults():
    optimizer = GradR([nn.Parameter(torch.ones(2))])
    group = optimizer.param_groups[0]
    assert (group["lr"], group["alpha"], group["betas"]) == (1e-3, 1e-3, (0.9, 0.999))
    assert target(group) == 0.95
    assert optimizer.solved() == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": -1.0}, r"alpha=-1\.0"),
        ({"alpha": math.nan}, "alpha=nan"),
        ({"alpha": 0.1, "sparsity": 0.3}, r"sparsity=0.3 lies outside \[0.5, 1\)"),
        ({"alpha": 0.1, "sparsity": 1.0}, r"sparsity=1\.0"),
        ({"alpha": 0.1, "sparsity": {"*": 0.9}}, "must be numbers"),
        ({"alpha": 0.1, "schedule": cubic(steps=9)}, r"a schedule belongs to a budget, but alpha=0\.1"),
        ({"alpha": "auto", "sparsity": 0.9}, "give schedule=cubic"),
        ({"sparsity": 0.9}, "give schedule=cubic"),
        ({"schedule": cubic(steps=9)}, "sparsity=None"),
        ({"alpha": "auto"}, "sparsity=None"),
        ({"alpha": "Auto"}, "alpha='Auto'"),
    ],
)
def test_bad_values_are_named(options, words):
    with pytest.raises(UsageError, match=words):
        GradR([nn.Parameter(torch.ones(2))], **options)


def test_bad_alpha_in_a_group_changes_nothing():
    weight, optimizer = one_synapse(1.0)
    optimizer.param_groups[0]["alpha"] = -2.0
    with pytest.raises(UsageError, match=r"alpha=-2\.0"):
        step(weight, optimizer, 1.0, 1.0)
    assert weight.tolist() == [1.0, 5.0]


@pytest.mark.parametrize("theta", [-0.7, -3.0, -5.0, -20.0])
def test_drift_below_the_centre_is_exact_too(theta):
    """The prior lifts by 1e-7 per step what float32 alone could not move, or would move the wrong way."""
    weight = nn.Parameter(torch.tensor([1.0, 0.0]))
    optimizer = GradR([weight], lr=1e-4, alpha=1e-3, sparsity=0.5, base=torch.optim.SGD, margin=-theta)
    weight.grad = torch.zeros(2)
    for _ in range(10_000):
        optimizer.step()
    # One rounding of a latent of this size, not ten thousand.
    assert optimizer.theta(weight)[1].item() == pytest.approx(theta + 1e-3, abs=2.0**-24 * -theta * 2)


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop])
def test_a_step_at_rate_zero_does_not_switch_the_centre_off(base):
    weight = nn.Parameter(torch.tensor([0.5, 0.0]))
    optimizer = GradR([weight], lr=0.1, alpha=1.0, sparsity=0.5, base=base, margin=1.0)
    group = optimizer.param_groups[0]
    weight.grad = torch.zeros(2)
    group["lr"] = 0.0
    optimizer.step()
    group["lr"] = 0.1
    before = optimizer.theta(weight)[1].item()
    for _ in range(4):
        optimizer.step()
    assert optimizer.theta(weight)[1].item() > before + 0.3


def test_prior_switched_on_late_finds_its_centre():
    weight = nn.Parameter(torch.tensor([1.0, 0.0]))
    optimizer = GradR([weight], lr=0.1, alpha=0.0, sparsity=0.5, margin=1.0)
    weight.grad = torch.zeros(2)
    optimizer.step()
    optimizer.param_groups[0]["alpha"] = 1.0
    before = optimizer.theta(weight)[1].item()
    optimizer.step()
    assert optimizer.theta(weight)[1].item() > before


def test_lower_bound_holds():
    """`lowest` spares passes over the synapses; it may never lie above the lowest θ."""
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(50, generator=generator))
    optimizer = GradR([weight], lr=0.05, alpha=0.4, sparsity=0.8, base=torch.optim.AdamW, weight_decay=0.5)
    for n in range(300):
        if n % 60 == 0:
            optimizer.param_groups[0]["lr"] = float(torch.rand((), generator=generator)) / 5
            optimizer.freeze_topology(n % 120 == 0)
        push = torch.ones(50) if n % 3 else torch.randn(50, generator=generator)
        weight.grad = push * 10.0 ** (4 * torch.rand((), generator=generator) - 2)
        optimizer.step()
        assert state_of(optimizer, weight)["lowest"] <= optimizer.theta(weight).min() + 1e-6


@pytest.mark.parametrize("alpha", [np.float32(0.5), torch.tensor(0.5), 0.5])
def test_alpha_may_be_any_number(alpha):
    weight = nn.Parameter(torch.ones(2))
    optimizer = GradR([weight], lr=0.1, alpha=alpha, base=torch.optim.SGD)
    weight.grad = torch.zeros(2)
    optimizer.step()
    torch.testing.assert_close(weight.tolist(), [0.95, 0.95])


def test_a_warm_up_by_hand_keeps_a_pruned_network_pruned():
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(100, 100, generator=generator))
    with torch.no_grad():
        weight.mul_(torch.rand(100, 100, generator=generator) < 0.01)
    optimizer = GradR([weight], lr=1e-3)
    for n in range(10):
        optimizer.param_groups[0]["lr"] = 1e-3 * n / 100
        weight.grad = torch.randn(100, 100, generator=generator)
        optimizer.step()
    assert optimizer.connectivity() < 0.012


@pytest.mark.parametrize("sparsity", [0.0, 0.02, 0.5, 0.9])
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam])
def test_a_budget_does_not_undo_what_has_been_learned(base, sparsity):
    """Least squares: no solution throws the loss back, however many synapses are missing when it is due."""
    torch.manual_seed(0)
    x = torch.randn(200, 20)
    y = x @ torch.randn(20, 10)
    layer = torch.nn.Linear(20, 10, bias=False)
    optimizer = GradR(layer, lr=1e-2, base=base, sparsity=sparsity, schedule=cubic(steps=500, flat=0.5))
    losses = []
    for _ in range(500):
        optimizer.zero_grad()
        loss = (layer(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert max(losses) == losses[0]
    assert losses[-1] < 0.97 * losses[0]
    assert sparsity > 0.5 or all(b < 1.05 * a for a, b in itertools.pairwise(losses))


def test_living_weights_grow_at_a_solution_by_what_the_drift_has_taken_at_most():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(50, 40))
    optimizer = GradR([weight], lr=0.1, base=torch.optim.SGD, sparsity=0.5, schedule=cubic(steps=200, flat=0.5))
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        before = weight.detach().clone()
        drift = optimizer.state.get(weight, {}).get("alpha", 0.0) * 0.1 * 16
        weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()
        size = (before - 0.1 * weight.grad) * before.sign()  # as the base alone would leave it
        assert (weight.abs() - size)[(size > 0) & (weight != 0)].max() <= drift + 1e-5
    assert optimizer.connectivity() == 0.5
