from __future__ import annotations

import copy
import shutil

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor

from synaprune.errors import UsageError
from synaprune.models import MODELS, SpikingMLP


def lif() -> neuron.LIFNode:
    return neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(alpha=2.0), detach_reset=True)


def plain_loop(net: SpikingMLP, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One time step after the other: counts of hidden spikes, of output spikes, and the summed current."""
    hidden, output = lif(), lif()
    injected = F.linear(x.flatten(1), net.fc1.weight)
    hidden_count, count, total = 0, 0, 0
    for _ in range(net.T):
        spikes = hidden(injected)
        current = F.linear(spikes, net.fc2.weight)
        hidden_count, count, total = hidden_count + spikes, count + output(current), total + current
    return hidden_count, count, total


def images(count: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, *shape, dtype=dtype, generator=torch.Generator().manual_seed(5))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_the_mnist_net_has_635200_synapses() -> None:
    net = SpikingMLP()
    assert {name: p.numel() for name, p in net.named_parameters()} == {
        "fc1.weight": 627_200,
        "fc2.weight": 8_000,
    }
    assert sum(p.numel() for p in net.parameters()) == 635_200
    assert MODELS["mlp"] is SpikingMLP


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("sizes", "T"), [((784, 800, 10), 8), ((64, 30, 3), 5)])
def test_spike_counts_equal_a_plain_loop(sizes: tuple[int, int, int], T: int, fast: bool) -> None:
    net = SpikingMLP(*sizes, T=T, gain=5.0, fast=fast)
    hidden_spikes = []
    net.lif1.register_forward_hook(lambda _, __, spikes: hidden_spikes.append(spikes))
    x = images(64, 1, sizes[0])
    with torch.no_grad():
        readout = net(x)
        hidden_count, count, total = plain_loop(net, x)
    assert torch.equal(hidden_spikes[0].sum(0), hidden_count)
    assert torch.equal((readout.rate * T).round(), count)
    assert count.sum() > 20
    torch.testing.assert_close(readout.rate, count / T)
    torch.testing.assert_close(readout.current, total / T, rtol=1e-5, atol=1e-6)


def test_gradients_equal_a_plain_loop() -> None:
    net = SpikingMLP(64, 30, 10, gain=3.0).double()
    x = images(16, 64, dtype=torch.float64)
    readout = net(x)
    (readout.rate.square().sum() + readout.current.square().sum()).backward()
    ours = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    _, count, total = plain_loop(net, x)
    ((count / 8).square().sum() + (total / 8).square().sum()).backward()
    for mine, p in zip(ours, net.parameters()):
        torch.testing.assert_close(mine, p.grad, rtol=1e-9, atol=1e-12)


def test_every_forward_starts_from_rest() -> None:
    net = SpikingMLP(64, 30, 10, gain=3.0)
    x = images(16, 64)
    net.lif1.v = torch.full((16, 30), 0.9)  # left over by a pass that an error ended
    first, second = net(x), net(x)
    assert torch.equal(first.rate, second.rate)
    assert torch.equal(first.current, second.current)
    fresh = SpikingMLP(64, 30, 10)
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh(x).rate, first.rate)
    assert torch.equal(copy.deepcopy(net)(x).rate, first.rate)  # no graph is left in the neurons


def test_gain_multiplies_the_initial_weights() -> None:
    small = SpikingMLP(64, 30, 10)
    torch.manual_seed(0)
    large = SpikingMLP(64, 30, 10, gain=2.5)
    for a, b in zip(small.parameters(), large.parameters()):
        assert torch.equal(2.5 * a, b)


def test_bfloat16_autocast_trains_and_stays_close() -> None:
    net = SpikingMLP(64, 200, 10, gain=3.0)
    x = images(64, 64)
    exact = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(x)
    assert (rounded.rate - exact.rate).abs().mean() < 0.02
    assert (rounded.current - exact.current).abs().mean() < 0.02
    rounded.rate.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_equals_eager() -> None:
    net = SpikingMLP(64, 30, 10, T=3, gain=5.0)
    compiled = torch.compile(net, fullgraph=True)
    for batch in (32, 20):
        x = images(batch, 64)
        results = []
        for forward in (net, compiled):
            net.zero_grad()
            readout = forward(x)
            readout.rate.square().sum().backward()
            results.append((readout.rate, net.fc1.weight.grad.clone()))
        assert torch.equal(results[0][0], results[1][0])
        torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("setting", ["inputs", "hidden", "classes", "T"])
@pytest.mark.parametrize("value", [0, -3, 2.5])
def test_impossible_sizes_are_refused(setting: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"^{setting} must be a whole number of at least 1, not {value}\.$"):
        SpikingMLP(**{setting: value})
