"""LATS against its plain twin, the published closed forms, and Grad R."""

import itertools
import math

import pytest
import torch
from torch import nn

from synaprune.budget import cubic, linear
from synaprune.errors import UsageError
from synaprune.optim import GradR
from synaprune.optim.lats import LATS, strength
from synaprune.optim.reference import soft_threshold as reference


def cosine(x):
    return (1 + math.cos(math.pi * x)) / 2


def thresholds(rates, D=2.0, beta=1.0):
    """The threshold before the first step and after each, at a strength that ends at D."""
    weight = nn.Parameter(torch.ones(2))
    schedule = None if beta == 1.0 else linear(len(rates))
    alpha = strength(D, rates, beta)
    optimizer = LATS([weight], lr=1.0, alpha=alpha, beta=beta, schedule=schedule, base=torch.optim.SGD)
    seen = [0.0]
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.zeros(2)
        optimizer.step()
        seen.append(optimizer.state[weight]["threshold"])
    return seen


@pytest.mark.parametrize("beta", [1.0, 0.2])
def test_equals_plain_twin(beta):
    generator = torch.Generator().manual_seed(7)
    start, push = torch.randn(2, 12, 10, generator=generator)
    weight = nn.Parameter(0.2 * start)
    schedule = None if beta == 1.0 else linear(400)
    optimizer = LATS([weight], lr=1e-3, alpha=0.4, beta=beta, schedule=schedule)
    twin = reference.LATS(0.2 * start.double(), 1e-3, reference.Adam(), 0.4, beta, 400)
    for n in range(400):
        turn = 1.0 if n < 200 else -1.0
        weight.grad = 0.1 * turn * push.sign() * (1 + 0.2 * torch.randn(12, 10, generator=generator))
        optimizer.param_groups[0]["lr"] = twin.eta = 1e-3 * cosine(n / 400)
        twin.step(weight.grad.double())
        optimizer.step()
    assert optimizer.state[weight]["threshold"] == pytest.approx(twin.d, abs=1e-12)
    assert 0.1 < optimizer.connectivity() < 0.9
    torch.testing.assert_close(optimizer.theta(weight), twin.theta.abs() - twin.d, rtol=0, atol=1e-5)
    torch.testing.assert_close(weight.double(), twin.w, rtol=0, atol=1e-5)


def test_closed_form_of_lats():
    """A cosine that falls once per epoch: the sum is the published piecewise linear curve, to rounding."""
    epochs, each = 7, 5
    seen = thresholds([0.3 * cosine(n // each / epochs) for n in range(epochs * each)])
    for e in range(epochs):
        base, slope = reference.lats(2.0, e, epochs), 2.0 * (1 + math.cos(math.pi * e / epochs)) / (each * (epochs + 1))
        for i in range(each):
            assert seen[e * each + i] == pytest.approx(base + slope * i, abs=1e-12)
    assert reference.lats(2.0, 0, epochs) == pytest.approx(0.0, abs=1e-12)
    assert seen[-1] == pytest.approx(reference.lats(2.0, epochs, epochs), abs=1e-12) == pytest.approx(2.0, abs=1e-12)


def test_closed_form_of_s_lats():
    """Up to a step of it with a rate as it is when a step begins; exactly with its mean over each step."""
    for steps in (50, 500):
        seen = thresholds([0.3 * cosine(n / steps) for n in range(steps)])
        gap = max(abs(d - reference.s_lats(2.0, n / steps)) for n, d in enumerate(seen))
        assert 0.1 / steps < gap < 2.0 / steps
    integral = [reference.s_lats(0.5, n / 50) for n in range(51)]
    seen = thresholds([50 * (b - a) for a, b in itertools.pairwise(integral)])
    assert seen == pytest.approx([reference.s_lats(2.0, n / 50) for n in range(51)], abs=1e-12)


def test_warm_up_is_included():
    """The released schedule ignores it and presses hard while nothing is learned yet."""
    rates = [0.01 * n for n in range(10)] + [0.1 * cosine(n / 40) for n in range(40)]
    seen = thresholds(rates)
    assert seen[10] == pytest.approx(2.0 * sum(rates[:10]) / sum(rates))
    assert seen[-1] == pytest.approx(2.0)
    alphas = [(after - before) / rate for before, after, rate in zip(seen, seen[1:], rates) if rate]
    assert alphas == pytest.approx([2.0 / sum(rates)] * len(alphas))


@pytest.mark.parametrize("beta", [0.01, 0.5, 10.0])
def test_closed_form_of_pgh(beta):
    steps = 2000
    seen = thresholds([0.3 * cosine(n / steps) for n in range(steps)], beta=beta)
    grid = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    integral = torch.cumulative_trapezoid(beta**grid * (1 + torch.cos(math.pi * grid)), grid)
    for x in (0.1, 0.5, 0.9, 1.0):
        true = 2.0 * (integral[round(x * 100_000) - 1] / integral[-1]).item()
        assert reference.pgh(2.0, x, beta) == pytest.approx(true, abs=1e-8)
        assert seen[round(x * steps)] == pytest.approx(true, abs=5e-3)
    assert seen[-1] == pytest.approx(2.0, abs=1e-12)


@pytest.mark.parametrize("rates", ["constant", "one cycle"])
def test_is_grad_r_while_no_latent_crosses_0(rates):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(40, 30, generator=generator)
    start = start.sign() * (0.5 + start.abs())
    rewired, shrunk = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    grad_r = GradR([rewired], lr=0.01, alpha=0.5, base=torch.optim.SGD)
    lats = LATS([shrunk], lr=0.01, alpha=0.5, base=torch.optim.SGD)
    for n in range(200):
        for optimizer in (grad_r, lats):
            optimizer.param_groups[0]["lr"] = 0.01 if rates == "constant" else 0.02 * math.sin(math.pi * n / 200)
        rewired.grad = 0.5 * torch.randn(40, 30, generator=generator)
        shrunk.grad = rewired.grad.clone()
        grad_r.step()
        lats.step()
        assert (rewired - shrunk).abs().max() < 1e-5
    assert torch.equal(lats.state[shrunk]["latent"].sign(), start.sign())
    assert 0.2 < lats.connectivity() < 0.8
    torch.testing.assert_close(lats.theta(shrunk), grad_r.theta(rewired), rtol=0, atol=1e-5)


def test_between_two_solutions_the_threshold_rises_with_the_learning_rate():
    weight = nn.Parameter(torch.randn(1000))
    optimizer = LATS([weight], lr=1e-2, sparsity=0.9, schedule=cubic(400), period=4)
    seen = []
    for n in range(8):
        optimizer.param_groups[0]["lr"] = 1e-2 if n < 6 else 0.0
        weight.grad = 0.1 * torch.randn(1000)
        optimizer.step()
        seen.append(optimizer.state[weight]["threshold"])
    assert seen[:3] == [0.0] * 3
    alpha = seen[3] / 0.04
    assert seen[4:7] == pytest.approx([seen[3] + 0.01 * alpha, seen[3] + 0.02 * alpha, seen[3] + 0.02 * alpha])
    solved = optimizer.solved()["tensor 0"]
    assert solved.alpha == pytest.approx(seen[7] / 0.06)
    assert 0 < solved.excess < 1
    assert optimizer.solved() == {}


def test_strength_of_the_rates():
    assert strength(2.0, [0.1, 0.2, 0.1]) == pytest.approx(5.0)
    assert strength(1.0, [0.1, 0.1], beta=0.25) == pytest.approx(1.0 / 0.15)
    with pytest.raises(UsageError, match="sum up to nothing"):
        strength(1.0, [0.0, 0.0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": 0.1, "beta": 0.0}, r"beta=0\.0 is not a finite number above 0"),
        ({"alpha": 0.1, "beta": -1.0}, r"beta=-1\.0 is not a finite number above 0"),
        ({"alpha": 0.1, "beta": 0.5}, r"give schedule=linear\(steps=…\)"),
        ({"alpha": 0.1, "schedule": linear(5)}, "a schedule belongs to a budget or to a beta"),
        ({"alpha": 0.1, "beta": 0.5, "schedule": "linear"}, "is no schedule"),
        ({"sparsity": 0.5, "beta": 0.5, "schedule": linear(5)}, "leave out one"),
    ],
)
def test_bad_values_are_named(options, words):
    with pytest.raises(UsageError, match=words):
        LATS([nn.Parameter(torch.ones(5))], **options)
