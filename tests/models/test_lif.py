"""The fast neuron against SpikingJelly's own loop: equal spikes, equal gradients."""

from __future__ import annotations

import copy
import shutil
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor

from synaprune.models import LIF

T = 6
PLAIN: dict[str, Any] = {"tau": 2.0, "v_threshold": 1.0, "detach_reset": True, "step_mode": "m"}


def pair(**changes: Any) -> tuple[LIF, neuron.LIFNode]:
    """The fast neuron and SpikingJelly's, with the same settings."""
    settings = {**PLAIN, "surrogate_function": surrogate.ATan(alpha=2.0), **changes}
    return LIF(**settings), neuron.LIFNode(**copy.deepcopy(settings))


def current(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(3)) * 2 + 0.5


def assert_same_gradient(ours: Tensor, theirs: Tensor) -> None:
    largest = theirs.abs().max().item()
    rounding = 1e-6 if ours.dtype == torch.float32 else 1e-14
    assert largest > 0.1
    assert (ours - theirs).abs().max().item() <= rounding * largest


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [0.3, 1.0])
@pytest.mark.parametrize("tau", [1.1, 2.0, 3.7])
def test_sequence_equals_spikingjelly(tau: float, threshold: float, dtype: torch.dtype) -> None:
    ours, theirs = pair(tau=tau, v_threshold=threshold)
    x = current(T, 16, 50, dtype=dtype)
    x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
    s1, s2 = ours(x1), theirs(x2)
    assert torch.equal(s1, s2)
    assert 0.05 < s1.mean() < 0.7
    assert torch.equal(ours.v, theirs.v)
    weight = current(T, 16, 50, dtype=dtype)
    (s1 * weight).sum().backward()
    (s2 * weight).sum().backward()
    assert_same_gradient(x1.grad, x2.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [1, 2.0, 5.0])
def test_constant_current_equals_copies_of_it(alpha: float, dtype: torch.dtype) -> None:
    ours, theirs = pair(tau=1.5, surrogate_function=surrogate.ATan(alpha=alpha))
    x = current(16, 5, 3, 3, dtype=dtype)
    x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
    s1, s2 = ours(x1, steps=T), theirs(x2.expand(T, *x2.shape))
    assert torch.equal(s1, s2)
    assert torch.equal(ours.v, theirs.v)
    weight = current(T, 16, 5, 3, 3, dtype=dtype)
    (s1 * weight).sum().backward()
    (s2 * weight).sum().backward()
    assert_same_gradient(x1.grad, x2.grad)


def test_potential_carries_over_with_its_gradient_until_reset() -> None:
    ours, theirs = pair()
    gradients = []
    for node in (ours, theirs):
        x = current(T, 8, 20, dtype=torch.float64).requires_grad_()
        first, second = node(x), node(0.5 * x)
        (second.sum() + first[-1].sum() + node.v.square().sum()).backward()
        gradients.append(x.grad)
        functional.reset_net(node)
        assert node.v == 0.0
        assert torch.equal(node(x), first)
    assert_same_gradient(*gradients)


def test_without_gradient_the_spikes_are_the_same() -> None:
    ours, theirs = pair()
    x = current(T, 8, 20)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.v, theirs.v)
    assert not ours.v.requires_grad


def test_input_is_left_alone() -> None:
    ours, _ = pair()
    x = current(T, 8, 20)
    ours.v = v = torch.full((8, 20), 0.25)
    ours(x)
    assert torch.equal(x, current(T, 8, 20))
    assert torch.equal(v, torch.full((8, 20), 0.25))


@pytest.mark.parametrize(
    "changes",
    [
        {"v_reset": None},
        {"v_reset": -0.5},
        {"surrogate_function": surrogate.Sigmoid(alpha=4.0)},
        {"surrogate_function": surrogate.ATan(alpha=2.0, spiking=False)},
        {"detach_reset": False},
        {"decay_input": False},
        {"store_v_seq": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_any_other_node_takes_spikingjellys_loop(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synaprune.models.lif._AllSteps", None)
    ours, theirs = pair(**changes)
    gradients = []
    for node in (ours, theirs):
        x = current(8, 20).requires_grad_()
        spikes = node(x, steps=T) if node is ours else node(x.expand(T, 8, 20))
        spikes.square().sum().backward()
        gradients.append((spikes, node.v, node.v_seq, x.grad))
    for mine, other in zip(*gradients):
        assert mine is other is None or torch.equal(mine, other)


def test_fast_false_takes_spikingjellys_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synaprune.models.lif._AllSteps", None)
    slow = LIF(**PLAIN, surrogate_function=surrogate.ATan(), fast=False)
    assert torch.equal(slow(current(T, 8, 20)), pair()[1](current(T, 8, 20)))
    with pytest.raises(AttributeError):
        pair()[0](current(T, 8, 20))


def test_one_step_at_a_time_equals_all_at_once() -> None:
    ours, _ = pair()
    single, _ = pair(step_mode="s")
    x = current(T, 8, 20)
    assert torch.equal(torch.stack([single(step) for step in x]), ours(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_currents_keep_a_float32_potential(dtype: torch.dtype) -> None:
    ours, exact = pair()[0], pair()[0]
    x = current(T, 8, 20).to(dtype).requires_grad_()
    spikes = ours(x)
    assert spikes.dtype == dtype
    assert ours.v.dtype == torch.float32
    assert torch.equal(spikes.float(), exact(x.detach().float()))
    spikes.sum().backward()
    assert x.grad.dtype == dtype
    assert x.grad.abs().sum() > 0


def test_second_derivatives_are_refused() -> None:
    ours, _ = pair()
    x = current(T, 8, 20).requires_grad_()
    (grad,) = torch.autograd.grad(ours(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("steps", [None, T])
def test_compiled_equals_eager(steps: int | None) -> None:
    ours, compiled = pair(tau=1.5)[0], torch.compile(pair(tau=1.5)[0])
    weight = current(T, 16, 50)
    results = []
    for node in (ours, compiled):
        x = current(*(16, 50) if steps else (T, 16, 50)).requires_grad_()
        spikes = node(x, steps=steps)
        (spikes * weight).sum().backward()
        results.append((spikes, x.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert_same_gradient(results[1][1], results[0][1])
