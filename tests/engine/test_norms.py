"""Normalisation before synapses, folded into them, compared with torch to the last spike."""

import pytest
import torch
from exact import assert_exact, lif, pruned
from spikingjelly.activation_based import layer
from torch import nn

from synaprune.engine import from_torch
from synaprune.errors import UsageError

every_coding = pytest.mark.parametrize("coding", ["static", "spikes"])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(kind, *settings, **more):
    return getattr(layer, kind)(*settings, **more, step_mode="m")


def first():
    return make("Conv2d", 2, 6, 3, padding=1), lif(), make("BatchNorm2d", 6)


def second(*settings, **more):
    return make("Conv2d", 6, 4, *settings, **more), lif()


CHAINS = {
    "Linear": lambda: [
        *(make("Linear", 30, 40), lif(), make("BatchNorm1d", 40), make("Dropout"), make("Linear", 40, 10), lif())
    ],
    "the input": lambda: [make("BatchNorm1d", 30), make("Linear", 30, 10, bias=False), lif()],
    "what reads out": lambda: [make("Linear", 30, 40), lif(), make("BatchNorm1d", 40), make("Linear", 40, 10)],
    "both sides": lambda: [make("BatchNorm1d", 30), make("Linear", 30, 10), make("BatchNorm1d", 10), lif()],
    "images": lambda: [make("BatchNorm2d", 2), make("Conv2d", 2, 4, 3, bias=False), lif()],
    "convolution in groups": lambda: [*first(), *second(3, groups=2)],
    "flattening": lambda: [*first(), make("Flatten"), make("Linear", 384, 10), lif()],
    "flat": lambda: [*first()[:2], make("Flatten"), make("BatchNorm1d", 384), make("Linear", 384, 10), lif()],
    "an average": lambda: [*first(), make("AvgPool2d", 2), *second(3)],
    "all averages": lambda: [*first(), make("AdaptiveAvgPool2d", 1), make("Flatten"), make("Linear", 6, 10)],
    "the largest": lambda: [*first(), make("MaxPool2d", 3, 2, 1), *second(3)],
    "padding": lambda: [*first(), *second(3, padding=1)],
    "an average with padding": lambda: [*first(), make("AvgPool2d", 2, 1, 1), *second(3)],
}


@every_coding
@pytest.mark.parametrize("kind", CHAINS)
def test_a_normalisation_before_synapses_is_folded_into_them(kind, coding):
    net = pruned(nn.Sequential(*CHAINS[kind]()))
    if "padding" in kind:  # without a shift
        net[2].bias.data.zero_()
        net[2].running_mean.zero_()
    lost = None
    if kind == "the largest":  # one channel is not wanted at all
        net[2].weight.data[0] = 0.0
        lost = "4.weight"
    before = {name: int((weight != 0).sum()) for name, weight in net.named_parameters() if name.endswith("weight")}
    network = assert_exact(net, coding, *((30,) if "30" in str(net) else (2, 8, 8)))
    found = {f"{each.name}.weight": len(each.weight) for each in network.layers if hasattr(each, "weight")}
    assert all((count < before[name]) if name == lost else (count == before[name]) for name, count in found.items())


def test_a_factor_of_0_takes_synapses_away():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2), lif()).eval()
    net[0].weight.data[1] = 0.0
    assert from_torch(net, T=2, input_shape=(3,)).synapses == 4


CONV = [nn.Conv2d(2, 3, 3), lif()]


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ([nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3, padding=1), lif()], "'0': it would shift the zeros that conv '1' pads"),
        ([*CONV, nn.BatchNorm2d(3)], "'2': no synapses follow it"),
        ([*CONV, nn.BatchNorm2d(3), nn.AvgPool2d(2), nn.Flatten()], "'2': no synapses follow it"),
        ([*CONV, nn.BatchNorm2d(3), nn.AvgPool2d(2, padding=1)], "'2': between it and synapses lies avg_pool"),
        ([*CONV, nn.BatchNorm2d(3), nn.MaxPool2d(2)], "'2': between it and synapses lies max_pool '3'"),
        ([*CONV, nn.BatchNorm2d(3), lif()], "'2': between it and synapses lies neuron '3'"),
        ([nn.BatchNorm2d(2), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), lif()], "'1': it follows '0'"),
        ([nn.BatchNorm2d(4), nn.Conv2d(2, 3, 3), lif()], "'0' normalises 4 channels, but conv '1' reads 2"),
    ],
)
def test_normalisation_that_cannot_be_folded(modules, words):
    net = nn.Sequential(*modules).eval()
    for module in net:
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.fill_(-1.0)
            module.bias.data.fill_(0.5)
    with pytest.raises(UsageError, match=words):
        from_torch(net, T=2, input_shape=(2, 8, 8))
