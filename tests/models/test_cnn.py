from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

from synaprune.errors import UsageError
from synaprune.models import LIF, MODELS, SpikingCNN


def plain_loop(net: SpikingCNN, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """One time step after the other, in evaluation mode: votes, and spikes per neuron of each layer."""
    nodes = [neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(alpha=2.0), detach_reset=True) for _ in range(8)]
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(convolutions) == len(norms) == 6

    def convolve(i: int, x: Tensor) -> Tensor:
        x, norm = F.conv2d(x, convolutions[i].weight, padding=1), norms[i]
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    injected = convolve(0, x)
    counts: list[Tensor] = [torch.zeros(())] * 8
    for _ in range(net.T):
        spikes = [nodes[0](injected)]
        for i in range(1, 6):
            below = F.max_pool2d(spikes[-1], 2) if i == 3 else spikes[-1]
            spikes.append(nodes[i](convolve(i, below)))
        flat = F.max_pool2d(spikes[-1], 2).flatten(1)
        spikes.append(nodes[6](F.linear(flat, net.fc1.weight)))
        spikes.append(nodes[7](F.linear(spikes[-1], net.fc2.weight)))
        counts = [count + step for count, step in zip(counts, spikes)]
    return counts[-1].view(len(x), -1, 10).sum(-1), counts


def lively(net: SpikingCNN) -> SpikingCNN:
    """Make all layers fire: strong normalisation, whose running statistics are those of the last batch."""
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0
            nn.init.constant_(norm.weight, 2.0)
            nn.init.constant_(norm.bias, 0.5)
    return net


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def images(count: int, channels: int = 3, size: int = 16) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(5))


def test_the_cifar10_net_has_36715264_synapses() -> None:
    with torch.device("meta"):
        net = SpikingCNN()
    synapses = [p.numel() for p in net.parameters() if p.ndim > 1]
    assert synapses == [6_912, *[589_824] * 5, 33_554_432, 204_800]
    assert sum(synapses) == 36_715_264
    assert sum(p.numel() for p in net.parameters() if p.ndim == 1) == 3_072  # of batch normalisation
    assert net.fc1.weight.shape == (2048, 16384)
    assert net.fc2.weight.shape == (100, 2048)
    assert MODELS["cnn"] is SpikingCNN


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    ("sizes", "size"),
    [({"channels": 6}, 16), ({"channels": 4, "in_channels": 1, "classes": 3, "T": 5}, 8)],
)
def test_spike_counts_equal_a_plain_loop(sizes: dict[str, int], size: int, fast: bool) -> None:
    net = lively(SpikingCNN(**sizes, image_size=size, gain=6.0, fast=fast))
    x = images(8, sizes.get("in_channels", 3), size)
    with torch.no_grad():
        net(x)
        net.eval()
        seen: list[Tensor] = []
        nodes = [m for m in net.modules() if isinstance(m, neuron.LIFNode)]
        for node in nodes:
            node.register_forward_hook(lambda _, __, spikes: seen.append(spikes.sum(0)))
        rate = net(x).rate
        votes, counts = plain_loop(net, x)
    assert len(seen) == len(counts) == 8
    for ours, theirs in zip(seen, counts):
        assert torch.equal(ours, theirs)
        assert theirs.sum() > 20
    assert torch.equal((rate * net.T * 10).round(), votes)


def test_readout_averages_time_steps_and_groups_of_ten() -> None:
    net = lively(SpikingCNN(channels=4, classes=3, image_size=8, T=4, gain=6.0))
    outputs: list[Tensor] = []
    net.fc2.register_forward_hook(lambda _, __, current: outputs.append(current))
    net.lif3.register_forward_hook(lambda _, __, spikes: outputs.append(spikes))
    rate, current = net(images(5, size=8))
    assert rate.shape == current.shape == (5, 3)
    for averaged, of in ((current, outputs[0]), (rate, outputs[1])):
        assert of.shape == (4, 5, 30)
        for k in range(3):
            torch.testing.assert_close(averaged[:, k], of[:, :, 10 * k : 10 * k + 10].mean((0, 2)))
    assert outputs[1].sum() > 20


def test_dropout_holds_one_mask_per_image_over_all_time_steps() -> None:
    net = lively(SpikingCNN(channels=8, image_size=16))
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    dropout = net.features[-1]
    dropout.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    dropout.register_forward_hook(lambda _, __, output: outputs.append(output))
    x = images(6)
    net(x)
    net(x)
    fired = inputs[0] > 0  # [T, N, features]
    dropped = fired & (outputs[0] == 0)
    passed = fired & (outputs[0] == 2)
    assert torch.equal(dropped | passed, fired)
    assert not (dropped.any(0) & passed.any(0)).any()  # never both, at any two time steps
    assert 0.4 < dropped.sum() / fired.sum() < 0.6
    assert (dropped.any(0)[0] != dropped.any(0)[1]).any()  # another mask for another image
    assert (outputs[0] != outputs[1]).any()  # and at the next presentation
    net.eval()
    net(x)
    assert torch.equal(inputs[2], outputs[2])


def test_gain_leaves_batch_normalisation_alone() -> None:
    small = SpikingCNN(channels=4, image_size=8)
    torch.manual_seed(0)
    large = SpikingCNN(channels=4, image_size=8, gain=2.5)
    for a, b in zip(small.parameters(), large.parameters()):
        assert torch.equal(2.5 * a if a.ndim > 1 else a, b)


def test_fast_and_slow_train_alike() -> None:
    gradients = []
    for fast in (True, False):
        torch.manual_seed(0)
        net = lively(SpikingCNN(channels=4, image_size=8, gain=3.0, dropout=0.0, fast=fast)).double()
        readout = net(images(6, size=8).double())
        (readout.rate.square().sum() + readout.current.square().sum()).backward()
        gradients.append([p.grad for p in net.parameters()])
    for ours, theirs in zip(*gradients):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)
        assert theirs.abs().sum() > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"T": 0}, "T must be a whole number of at least 1, not 0."),
        ({"channels": 0}, "channels must be a whole number of at least 1, not 0."),
        ({"image_size": 30}, "image_size must be a multiple of 4, not 30: it is halved twice."),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0."),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        SpikingCNN(**settings)


def test_recomputed_maps_change_nothing_but_the_memory() -> None:
    nets = [lively(SpikingCNN(channels=8, T=4, gain=3.0, image_size=16, recompute=again)) for again in (False, True)]
    nets[1].load_state_dict(nets[0].state_dict())
    kept = []
    for net in nets:
        stored = {}

        def remember(tensor: Tensor, stored: dict[int, int] = stored) -> Tensor:
            stored[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        torch.manual_seed(1)
        for _ in range(2):
            with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
                loss = net(images(16)).current.square().sum()
            loss.backward()
        kept.append(sum(stored.values()))
    for ours, again in zip(nets[0].parameters(), nets[1].parameters()):
        assert again.grad.abs().max() > 0
        assert torch.equal(ours.grad, again.grad)
    for name, buffer in nets[0].named_buffers():
        assert torch.equal(buffer, nets[1].get_buffer(name)), name
    assert kept[1] < 0.7 * kept[0]


def test_maps_lie_channels_last() -> None:
    net = lively(SpikingCNN(channels=8, T=2, image_size=16))
    seen = []
    for module in net.modules():
        if isinstance(module, LIF):
            module.register_forward_hook(lambda module, inputs, spikes: seen.append(spikes))
    net(images(3))
    maps = [spikes for spikes in seen if spikes.dim() == 5]
    assert len(maps) == 6
    assert all(spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last) for spikes in maps)
