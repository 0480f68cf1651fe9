from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from synaprune import GradR
from synaprune.errors import UsageError
from synaprune.measure import connections, connectivities, connectivity, layer_connectivity
from synaprune.models import SpikingCNN
from synaprune.synapses import find_synapses


def small_net():
    """Two tensors of synapses: 3 of 6 and 1 of 2 are left."""
    net = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm([2]), nn.Linear(2, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.0, 1.0, -0.0], [2.0, -3.0, 0.0]]))
        net[2].weight.copy_(torch.tensor([[0.0, 1e-30]]))
    return net


def test_of_a_module():
    assert connectivity(small_net()) == 4 / 8


def test_of_tensors_given_directly():
    assert connectivity([torch.tensor([0.0, 1.0]), torch.tensor([[1.0, 1.0]])]) == 3 / 4
    assert connectivity(tensor for tensor in [torch.zeros(3)]) == 0.0
    assert connectivity(find_synapses(small_net(), exclude=["2.*"]).parameters) == 3 / 6


def test_per_layer():
    assert layer_connectivity(small_net()) == {"0.weight": (3, 6), "2.weight": (1, 2)}


def test_biases_normalisation_and_freezing_change_nothing():
    net = small_net().requires_grad_(False)
    nn.init.zeros_(net[0].bias)
    nn.init.zeros_(net[1].weight)
    assert connectivity(net) == 4 / 8


def test_a_tied_tensor_counts_once():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    assert layer_connectivity(net) == {"0.weight": (4, 4)}


@pytest.mark.parametrize("nothing", [nn.ReLU(), []])
def test_without_synapses_there_is_no_connectivity(nothing):
    with pytest.raises(UsageError, match=r"no synapses in (ReLU|list)"):
        connectivity(nothing)


def test_three_definitions():
    net = small_net()  # 6 + 2 weights; 15 parameters with biases and normalisation
    with torch.no_grad():
        net[0].weight[0] = 0  # the neuron whose outgoing weight is absent anyway
    measured = connectivities(net, torch.zeros(1, 3))
    assert measured.weights == 3 / 8
    assert measured.parameters == 1 - 5 / 15
    assert measured.connections == 3 / 8
    assert measured.layers == {"0.weight": (2, 6), "2.weight": (1, 2)}
    with torch.no_grad():
        net[0].weight[1] = 0  # the other one takes its outgoing weight with it
    assert connectivities(net, torch.zeros(1, 3))[:3] == (1 / 8, 1 - 7 / 15, 0.0)


def test_the_parameter_definition_of_the_paper_counts_normalisation_in_the_denominator_alone():
    net = SpikingCNN(channels=2, image_size=4)
    with torch.no_grad():
        net.fc1.weight.zero_()
        net.stem[1].bias.zero_()
    weights = sum(parameter.numel() for parameter in find_synapses(net).parameters)
    measured = connectivities(net, torch.zeros(1, 3, 4, 4))
    assert measured.parameters == 1 - net.fc1.weight.numel() / (weights + 2 * 2 * 6)
    assert measured.weights == connectivity(net) == 1 - net.fc1.weight.numel() / weights
    assert measured.layers["fc2.weight"] == (0, 1600)


def test_definitions_differ_most_where_convolutions_do():
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(64, 1, bias=False))
    with torch.no_grad():
        net[2].weight.fill_(1)[:, :32] = 0
    measured = connectivities(net, torch.zeros(1, 1, 8, 8))
    assert measured[:3] == (41 / 73, 41 / 73, (22**2 + 32) / (22**2 + 64))


def test_include_and_exclude_hold_for_all_three():
    net = small_net()
    measured = connectivities(net, torch.zeros(1, 3), exclude=["2.*"])
    assert measured[:3] == (3 / 6, 1 - 3 / 15, 3 / 6)
    assert measured.layers == connections(net, torch.zeros(1, 3), exclude=["2.*"])
    with pytest.raises(UsageError, match=r"no synapses in Sequential"):
        connectivities(net, torch.zeros(1, 3), exclude=["*"])


@pytest.mark.parametrize("multi_avg_fn", [None, get_ema_multi_avg_fn(0.9)], ids=["SWA", "EMA"])
def test_an_average_of_weights_holds_every_synapse_that_ever_was(multi_avg_fn):
    net = nn.Linear(4, 1, bias=False)
    averaged = AveragedModel(net, multi_avg_fn=multi_avg_fn)
    for weights in ([1.0, 1, 0, 0], [0.0, 1, 1, 0], [0.0, 1, 0, 0]):
        with torch.no_grad():
            net.weight.copy_(torch.tensor([weights]))
        averaged.update_parameters(net)
    assert connectivity(net) == 1 / 4
    assert connectivity(averaged) == 3 / 4
    kept = averaged.module.weight * (net.weight != 0)
    assert connectivity([kept]) == 1 / 4


def test_after_training_average_the_latents_or_what_is_left_instead_of_the_weights():
    torch.manual_seed(0)
    net, inputs = nn.Linear(50, 8, bias=False), torch.randn(200, 50)
    targets = inputs[:, :8] + 0.5 * torch.randn(200, 8)
    optimizer = GradR(net, lr=1e-2, alpha=0.3)
    averaged, latents = AveragedModel(net), []
    for step in range(300):
        batch = torch.randint(200, (20,))
        optimizer.zero_grad()
        nn.functional.mse_loss(net(inputs[batch]), targets[batch]).backward()
        optimizer.step()
        if step >= 200:
            averaged.update_parameters(net)
            latents.append(optimizer.theta(net.weight))
    of_latents = torch.stack(latents).mean(0).relu()  # the size of each weight; its sign is fixed
    of_survivors = averaged.module.weight * (net.weight != 0)
    assert connectivity(averaged) > 1.4 * connectivity(net)
    assert connectivity([of_latents]) < 1.1 * connectivity(net)
    assert connectivity([of_survivors]) == connectivity(net)
