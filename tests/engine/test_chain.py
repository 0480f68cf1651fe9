import numpy as np
import pytest
import torch
from networks import inputs, random_network

from synaprune import GradR, find_synapses
from synaprune.engine import Engine, Linear, Network, Neuron, Weight, from_torch, to_torch


@pytest.mark.parametrize("seed", range(30))
def test_to_torch_and_back(seed):
    network = random_network(seed)
    model = to_torch(network).eval()
    again = from_torch(model)
    plain, arrays = network.plain()
    plain_again, arrays_again = again.plain()
    for entry, found in zip(plain["layers"], plain_again["layers"]):
        del entry["name"], found["name"]
        if entry["kind"] == "neuron" and entry["tau"] is None:
            del entry["decay_input"], found["decay_input"]  # an IF node has no such setting
    assert plain_again == plain
    assert all((arrays_again[name] == array).all() for name, array in arrays.items())

    x = inputs(network, 3)
    with torch.no_grad():
        votes = model(torch.from_numpy(x).float()).rate.numpy()
    assert np.isclose(Engine(network)(x), votes, atol=1e-6).mean() > 0.99


def test_training_goes_on():
    rng = np.random.default_rng(0)
    weight = Weight.from_dense((rng.random((30, 20)) < 0.2) * rng.normal(size=(30, 20)))
    model = to_torch(Network((Linear("fc", weight=weight), Neuron("lif")), (20,), T=4))
    assert find_synapses(model).names == ("layers.fc.weight",)
    optimizer = GradR(model, lr=1e-3, alpha=1e-2)
    before = int((model.layers.fc.weight != 0).sum())
    model(torch.randn(8, 20)).current.square().sum().backward()
    optimizer.step()
    assert 0 < int((model.layers.fc.weight != 0).sum()) <= before == len(weight)
