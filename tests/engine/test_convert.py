import copy

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.nn.utils import parametrizations, prune

from synaprune.engine import Conv, Linear, Neuron, Vote, compile, from_torch
from synaprune.errors import UsageError
from synaprune.models import LIF, SpikingCNN, SpikingMLP

T = 6


def lif(kind=neuron.LIFNode, **settings):
    return kind(step_mode="m", surrogate_function=surrogate.ATan(), **settings)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def current_into(module, net, present):
    currents = []
    hook = module.register_forward_pre_hook(lambda _, inputs: currents.append(inputs[0]))
    functional.reset_net(net)
    present(net)
    hook.remove()
    return currents[0]


@torch.no_grad()
def trained(net, present, density=0.5):
    """Make weights and statistics look trained: sparse, none at its initial value, every neuron layer active."""
    net.eval()
    last = None
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            module.weight.mul_(torch.rand_like(module.weight) < density)
            last = module
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.3, 1)
            module.weight.uniform_(0.7, 1.5)
            module.bias.normal_(0, 0.2)
            last = module
        elif isinstance(module, neuron.BaseNode):
            scale = 1.5 / current_into(module, net, present).std()
            last.weight.mul_(scale)
            if last.bias is not None:
                last.bias.mul_(scale)
    return net


@torch.no_grad()
def rates(net, trains):
    functional.reset_net(net)
    return net(trains).mean(0).flatten(1).numpy()


MODELS = {
    "fully connected": (
        lambda: nn.Sequential(
            layer.Linear(30, 40, step_mode="m"),
            layer.BatchNorm1d(40, step_mode="m"),
            lif(tau=3.0),
            layer.Dropout(0.5, step_mode="m"),
            nn.Linear(40, 20, bias=False),
            lif(neuron.IFNode, v_reset=None),
            layer.VotingLayer(5, step_mode="m"),
        ),
        (30,),
    ),
    "two dimensions": (
        lambda: nn.Sequential(
            nn.Sequential(
                layer.Conv2d(2, 6, 3, padding=1, bias=False, step_mode="m"),
                layer.BatchNorm2d(6, step_mode="m"),
                lif(tau=1.5, v_reset=-0.1),
            ),
            layer.Conv2d(6, 6, 1, bias=False, step_mode="m"),
            layer.ThresholdDependentBatchNorm2d(1.0, 1.0, 6),
            lif(neuron.ParametricLIFNode, init_tau=2.7, decay_input=False),
            layer.MaxPool2d(2, step_mode="m"),
            layer.Conv2d(6, 12, (3, 2), stride=(2, 1), padding="valid", groups=3, step_mode="m"),
            lif(tau=2.0, decay_input=False, v_reset=None, v_threshold=0.8),
            layer.AvgPool2d((2, 3), stride=(1, 2), padding=(0, 1), step_mode="m"),
            layer.Conv2d(12, 5, 3, dilation=1, padding="same", step_mode="m"),
            LIF(step_mode="m", tau=2.0),
            layer.Flatten(step_mode="m"),
            layer.Linear(5 * 1 * 6, 10, step_mode="m"),
            lif(),
        ),
        (2, 12, 24),
    ),
    "one dimension": (
        lambda: nn.Sequential(
            layer.Conv1d(3, 8, 5, stride=2, padding=2, step_mode="m"),
            layer.BatchNorm1d(8, step_mode="m"),
            lif(neuron.IFNode),
            layer.AvgPool1d(2, step_mode="m"),
            layer.Conv1d(8, 8, 3, groups=8, step_mode="m"),
            lif(),
            layer.MaxPool1d(3, 2, 1, step_mode="m"),
            layer.Flatten(step_mode="m"),
            layer.Linear(8 * 7, 10, step_mode="m"),
            lif(),
        ),
        (3, 60),
    ),
}


@pytest.mark.parametrize("coding", ["static", "spikes"])
@pytest.mark.parametrize("name", MODELS)
def test_the_engine_computes_what_the_model_does(name, coding):
    make, shape = MODELS[name]
    x = torch.randn(20, *shape) if coding == "static" else (torch.rand(T, 20, *shape) < 0.3).float()
    trains = x.expand(T, *x.shape) if coding == "static" else x
    net = trained(make(), lambda net: net(trains))
    engine = compile(net, T=T, input_shape=shape, coding=coding)
    expected = rates(net, trains)
    assert 0.02 < expected.mean() < 0.9
    # Another order of additions: one spike in some thousands may differ.
    assert np.isclose(engine(x.numpy()), expected, atol=1e-6).mean() > 0.99


def agreement(net, x):
    """Return the share of samples with the same class, and the relative difference in the number of spikes."""
    engine, counted = compile(net), [0]

    def count(module, inputs, spikes):
        counted[0] += int(spikes.sum(dtype=torch.float64))

    hooks = [module.register_forward_hook(count) for module in net.modules() if isinstance(module, LIF)]
    with torch.no_grad():
        expected = net(x).rate.numpy()
    for hook in hooks:
        hook.remove()
    same = (engine(x.numpy()).argmax(1) == expected.argmax(1)).mean()
    return same, abs(sum(engine.spikes.values()) / counted[0] - 1), engine.firing_rates


@pytest.mark.parametrize("density", [0.05, 1.0])
def test_spiking_mlp(density):
    x = torch.randn(2000, 1, 28, 28)
    net = trained(SpikingMLP(), lambda net: net(x[:100]), density)
    same, spikes, firing = agreement(net, x)
    assert all(0.01 < rate < 0.5 for rate in firing.values())
    assert same >= 0.9995
    assert spikes <= 1e-4


def test_spiking_cnn():
    x = torch.randn(200, 3, 16, 16)
    net = trained(SpikingCNN(channels=24, image_size=16, T=4), lambda net: net(x[:20]))
    same, spikes, firing = agreement(net, x)
    assert all(rate > 0.01 for rate in firing.values())
    assert same >= 0.9995
    assert spikes <= 1e-4


def test_layers_and_names():
    network = from_torch(SpikingMLP(inputs=6, hidden=5, classes=2, T=3))
    assert [str(each) for each in network.layers] == [
        *("flatten 'flatten'", "linear 'fc1'", "neuron 'lif1'", "linear 'fc2'", "neuron 'lif2'")
    ]
    assert (network.T, network.input_shape, network.coding) == (3, (6,), "static")
    network = from_torch(SpikingCNN(channels=4, image_size=8, in_channels=1))
    assert (network.T, network.input_shape, network.outputs) == (8, (1, 8, 8), 10)
    assert isinstance(network.layers[-1], Vote)
    assert [each.bias is not None for each in network.layers if isinstance(each, Conv | Linear)] == [True] * 6 + [
        False
    ] * 2


def test_readout_and_inputs_that_are_known():
    net = nn.Sequential(nn.Linear(3, 2), lif(tau=4.0, v_threshold=0.5, v_reset=None, decay_input=False))
    network = from_torch(net, T=2, readout="count", coding="spikes")
    assert (network.input_shape, network.readout, network.coding) == ((3,), "count", "spikes")
    found = network.layers[1]
    assert isinstance(found, Neuron)
    assert (found.tau, found.threshold, found.reset, found.decay_input) == (4.0, 0.5, None, False)


def leaking(w):
    """A neuron whose time constant is learned."""
    found = lif(neuron.ParametricLIFNode)
    found.w.data.fill_(w)
    return found


def test_a_learned_time_constant():
    found = from_torch(nn.Sequential(nn.Linear(3, 2), leaking(0.0)), T=2).layers[1]
    assert (found.tau, found.decay_input, found.reset) == (2.0, True, 0.0)


class Own(nn.Linear):
    """A subclass may compute anything."""


class Block(nn.Module):
    """Nothing tells in which order its parts act."""


FC = nn.Linear(4, 4)


@pytest.mark.parametrize(
    ("modules", "complaint"),
    [
        ([nn.Linear(4, 4), nn.ReLU()], r"cannot run '1', a torch\.nn\.modules\.activation\.ReLU"),
        ([nn.Sequential(Own(4, 4)), lif()], r"cannot run '0\.0', a .*Own"),
        ([nn.Linear(4, 4), neuron.QIFNode()], "cannot run '1', a .*QIFNode"),
        ([nn.Linear(4, 4), leaking(-1000.0)], "tau of neuron '1' must be a finite number, not inf"),
        ([layer.WSLinear(4, 4), lif()], "cannot run '0', a .*WSLinear"),
        ([FC, lif(), FC, lif()], "'2' is the same module as '0'"),
        ([nn.Linear(4, 4), lif(), nn.BatchNorm1d(4)], "'2': no synapses follow it"),
        ([nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False), lif()], "'1': it normalises by the batch"),
        ([nn.Linear(4, 4), nn.BatchNorm1d(3), lif()], "'1' normalises 3 channels, but linear '0' has 4"),
        ([nn.Conv2d(1, 1, 2, padding="same"), lif()], "'0': its padding is not the same on both sides"),
        ([nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), lif()], "'0' with padding_mode='reflect'"),
        ([nn.Conv2d(1, 1, 1), lif(), nn.AvgPool2d(3, ceil_mode=True)], "'2' with ceil_mode=True"),
        ([nn.Conv2d(1, 1, 1), lif(), nn.MaxPool2d(2, dilation=2)], "'2' with dilation=2"),
        (
            [nn.Conv2d(1, 1, 1), lif(), nn.AvgPool2d(2, padding=1, count_include_pad=False)],
            "'2' with count_include_pad",
        ),
        ([nn.Conv2d(1, 1, 1), lif(), nn.AvgPool2d(2, divisor_override=3)], "'2' with divisor_override=3"),
        ([nn.Flatten(0), nn.Linear(4, 4), lif()], "'0' with start_dim=0"),
        ([nn.Linear(4, 4), nn.Linear(4, 4), lif()], "linear '0' must be followed by neurons, not by linear '1'"),
        ([nn.Linear(4, 4), neuron.LIFNode(surrogate_function=surrogate.ATan(spiking=False))], "'1': its surrogate"),
        ([], "must have 1 to"),
    ],
)
def test_what_the_engine_cannot_run(modules, complaint):
    with pytest.raises(UsageError, match=complaint):
        from_torch(
            nn.Sequential(*modules),
            T=4,
            input_shape=(1, 4, 4) if any(isinstance(m, nn.Conv2d) for m in modules) else (4,),
        )


def test_models_the_engine_does_not_know():
    with pytest.raises(UsageError, match="does not know the model Block; it takes SpikingMLP"):
        from_torch(Block())
    with pytest.raises(UsageError, match="T cannot be read from this Sequential; give T="):
        from_torch(nn.Sequential(nn.Linear(4, 4), lif()))
    with pytest.raises(UsageError, match="input_shape cannot be read"):
        from_torch(nn.Sequential(nn.Conv2d(1, 1, 1), lif()), T=2)


def test_the_model_stays_as_it_is():
    net = SpikingMLP(inputs=4, hidden=4, classes=2)
    before = copy.deepcopy(net.state_dict())
    from_torch(net)
    assert all((value == before[name]).all() for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    "computed",
    [lambda m: prune.l1_unstructured(m, "weight", 0.5), parametrizations.weight_norm],
    ids=["pruned", "norm"],
)
def test_weights_that_are_computed_are_those_of_now(computed):
    net = nn.Sequential(computed(layer.Linear(6, 4, step_mode="m")), lif())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2.0)
    found = from_torch(net, T=T).layers[0].weight.dense()  # before a call has computed them
    net(torch.zeros(T, 1, 6))
    assert np.array_equal(found, net[0].weight.detach().numpy())
    assert "parametrizations" in dict(net[0].named_children()) or "weight_orig" in dict(net[0].named_parameters())
