"""Nothing is tied to two networks: a deep spiking network with shortcuts, and a recurrent one on events."""

from __future__ import annotations

import copy
import io
import runpy
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import nn

import synaprune
from synaprune.budget import cubic
from synaprune.measure import FiringRates

EXAMPLES = Path(__file__).parent.parent / "examples"


def sew_resnet():
    """SEW-ResNet-18 at its published shape, a batch of one image, and how many synapses it has."""
    net = runpy.run_path(str(EXAMPLES / "sew_resnet.py"))["SEWResNet18"](T=4)
    return net, torch.randn(1, 3, 224, 224), 11_678_912


def recurrent():
    """A recurrent network at the shape of the Spiking Heidelberg Digits, 100 time steps of 700 channels."""
    net = runpy.run_path(str(EXAMPLES / "recurrent_events.py"))["Recurrent"](700, 256, 20)
    with torch.no_grad():
        net.input.weight.mul_(10)
    return net, (torch.rand(100, 4, 700) < 0.05).float(), 700 * 256 + 256 * 256 + 256 * 20


@pytest.fixture(scope="module", params=[sew_resnet, recurrent], ids=lambda make: make.__name__)
def trained(request):
    """A network after two steps, with its optimizer, input and number of synapses."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net, x, synapses = request.param()
        optimizer = synaprune.GradR(net, lr=1e-3, sparsity=0.5, schedule=cubic(2))
        for _ in range(2):
            step(net, optimizer, x)
    return net, optimizer, x, synapses


def step(net, optimizer, x):
    functional.reset_net(net)
    labels = torch.arange(net(x).shape[0])
    functional.reset_net(net)
    loss = nn.functional.cross_entropy(net(x), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def test_all_synapses_are_found_and_learn(trained):
    net, _, _, synapses = trained
    found = synaprune.find_synapses(net)
    assert sum(synapse.parameter.numel() for synapse in found) == synapses
    assert not found.unknown
    assert all(synapse.parameter.grad.any() for synapse in found)


def test_memory_of_a_step(trained, record_property):
    net, optimizer, x, synapses = trained
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    functional.reset_net(net)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = net(x).sum()  # which holds on to all that is kept
    for parameter in net.parameters():
        storages.pop(parameter.untyped_storage().data_ptr(), None)
    activations = sum(storages.values())
    states = [state | state.get("base", {}) for state in optimizer.state.values()]
    state = sum(value.nbytes for state in states for value in state.values() if isinstance(value, torch.Tensor))
    for name, size in (("activations", activations), ("optimizer state", state)):
        record_property(f"{name} [MiB]", size / 2**20)
        print(f"{name} of {type(net).__name__}: {size / 2**20:.1f} MiB")
    assert loss.requires_grad
    assert 0 < activations < 2**30
    assert 16 * synapses <= state < 17 * synapses  # latents, signs, two moments, in float32


def test_the_budget_is_met_to_the_synapse(trained):
    net, optimizer, _, synapses = trained
    left = round(0.5 * synapses)
    assert sum(int(s.parameter.count_nonzero()) for s in synaprune.find_synapses(net)) == left
    assert optimizer.connectivity() == left / synapses


def test_measures(trained):
    net, _, x, synapses = trained
    functional.reset_net(net)
    events = x.dim() == 3
    counted = synaprune.operations(net, x, time_first=events)
    assert not counted.unknown
    total = counted.to_mapping()["total"]
    assert 0 < total["effective_acs"] + total["effective_macs"] < total["weight_blind_acs"] + total["weight_blind_macs"]
    assert set(counted.to_mapping()["layers"]) == set(synaprune.find_synapses(net).names)
    three = synaprune.connectivities(net, x)
    assert three.weights == round(0.5 * synapses) / synapses
    assert three.weights <= three.parameters < 0.51
    assert 0 < three.connections < 1
    with FiringRates(net) as activity, torch.no_grad():
        functional.reset_net(net)
        net(x)
    assert all(0 <= rate <= 1 for rate in activity.rates().values())
    assert sum(activity.rates().values()) > 0


def test_a_saved_state_goes_on_as_the_original(trained):
    net, optimizer, x, _ = trained
    functional.reset_net(net)
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = copy.deepcopy(net)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    loaded = synaprune.GradR(other, lr=1e-3, sparsity=0.5, schedule=cubic(2))
    other.load_state_dict(saved["net"])
    loaded.load_state_dict(saved["optimizer"])
    assert step(other, loaded, x) == step(net, optimizer, x)
    for name, tensor in net.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
