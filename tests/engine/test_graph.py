import json

import numpy as np
import pytest
from networks import inputs, random_network

from synaprune.engine import AvgPool, Conv, Engine, Flatten, Linear, MaxPool, Network, Neuron, Vote, Weight
from synaprune.errors import UsageError

FC = Linear("fc", weight=Weight.from_dense(np.array([[0.0, 1.0], [2.0, 0.0]])))
CONV = Conv("conv", weight=Weight.from_dense(np.ones((1, 1, 1, 1))))
LIF = Neuron("lif")


def test_sizes_of_a_network():
    network = Network((FC, LIF, FC, LIF, Vote(group=2)), (2,), T=4)
    assert list(network.shapes()) == [(2,), (2,), (2,), (2,), (1,)]
    assert (network.outputs, network.synapses, network.connectivity) == (1, 4, 0.5)


@pytest.mark.parametrize(
    ("layers", "shape", "settings", "complaint"),
    [
        ((), (2,), {}, "1 to 1,000 layers"),
        ((FC,), (2,), {}, "linear 'fc' must be followed by neurons, not by the end"),
        ((FC, FC, LIF), (2,), {}, "must be followed by neurons"),
        ((LIF,), (2,), {}, "neuron 'lif' must follow"),
        ((Flatten(),), (2,), {}, "must have neurons"),
        ((FC, LIF, FC, Flatten(), FC), (2,), {}, "linear 'fc' must be followed by neurons, not by flatten"),
        ((CONV, LIF, CONV, MaxPool("m")), (1, 2, 4), {}, "'conv' must be followed by neurons, not by max_pool 'm'"),
        ((CONV, LIF, AvgPool(), Flatten(), Vote("v", group=2)), (1, 2, 4), {}, "vote 'v' must follow neurons"),
        ((FC, LIF, Vote(group=2), Vote(group=1)), (2,), {}, "vote must be the last layer"),
        ((FC, LIF), (3,), {}, "takes 2 inputs"),
        ((FC, LIF), (2,), {"T": 0}, "T must be whole"),
        ((FC, LIF), (2,), {"T": 2.0}, "T must be whole"),
        ((FC, LIF), (2,), {"T": 2**27}, "too large"),
        ((FC, LIF), (2,), {"coding": "rate"}, "coding must be 'static' or 'spikes'"),
        ((FC, LIF), (2,), {"readout": "max"}, "readout must be"),
        ((MaxPool(), Flatten(), FC, LIF), (1, 2, 4), {}, "not analog input"),
        (
            (CONV, LIF, AvgPool("a"), MaxPool("m"), Flatten(), FC, LIF),
            (1, 2, 4),
            {},
            "not the averages of avg_pool 'a'",
        ),
        (
            (CONV, LIF, *[AvgPool("a", kernel=(256, 256), padding=(128, 128))] * 2, CONV, LIF),
            (1, 8, 8),
            {},
            r"avg_pool 'a' averages 4\.29e\+09 spikes, counted from the last neurons; too many to be exact",
        ),
        ((CONV, LIF), (1, 2, 2, 2), {}, "more than three"),
        ((CONV, LIF), (1, 2**12, 2**12), {}, "too large"),
        (("fc", LIF), (2,), {}, "str is no layer"),
    ],
)
def test_layers_that_make_no_network(layers, shape, settings, complaint):
    with pytest.raises(UsageError, match=complaint):
        Network(layers, shape, **({"T": 4} | settings))


@pytest.mark.parametrize("seed", range(10))
def test_plain_and_back(seed):
    network = random_network(seed)
    plain, arrays = network.plain()
    again = Network.from_plain(json.loads(json.dumps(plain)), arrays)
    assert again.plain()[0] == plain
    x = inputs(network, 3)
    assert (Engine(again)(x) == Engine(network)(x)).all()


def change(entry, value):
    """Return a network's plain form with one entry, a path of keys, set to a value, or left out where that is ..."""
    plain, arrays = Network((FC, LIF), (2,), T=4).plain()
    plain = json.loads(json.dumps(plain))
    *path, last = entry
    inner = plain
    for key in path:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return plain, arrays


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        (("layers",), ...),
        (("layers",), 3),
        (("layers",), ["linear"]),
        (("layers", 0, "kind"), "attention"),
        (("layers", 0, "kind"), ["linear"]),
        (("layers", 0, "kind"), ...),
        (("layers", 0, "shape"), [2, 10**30]),
        (("layers", 0, "shape"), "22"),
        (("layers", 0, "colour"), "red"),
        (("layers", 1, "tau"), "2"),
        (("layers", 1, "reset"), 10**400),
        (("T",), "4"),
        (("T",), True),
        (("input_shape",), 2),
        (("input_shape",), [[2]]),
        (("seed",), 1),
    ],
)
def test_a_description_that_is_none(entry, value):
    with pytest.raises(UsageError):
        Network.from_plain(*change(entry, value))


def test_missing_arrays():
    plain, arrays = Network((FC, LIF), (2,), T=4).plain()
    with pytest.raises(UsageError, match=r"0\.values"):
        Network.from_plain(plain, {"0.positions": arrays["0.positions"]})
