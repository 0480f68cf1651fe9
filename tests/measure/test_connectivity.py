from __future__ import annotations

import pytest
import torch
from torch import nn

from synaprune.errors import UsageError
from synaprune.measure import connectivity, layer_connectivity
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
