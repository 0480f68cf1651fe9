"""What reads the last spikes out without neurons, compared with torch to the last bit."""

import numpy as np
import pytest
import torch
from exact import T, assert_exact, lif, pruned, shown
from spikingjelly.activation_based import layer
from torch import nn

from synaprune.engine import AvgPool, Conv, Engine, Flatten, Linear, Network, Neuron, Weight, from_torch, to_torch
from synaprune.engine.tail import read_out
from synaprune.errors import UsageError
from synaprune.export import read, sparse, write

every_coding = pytest.mark.parametrize("coding", ["static", "spikes"])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def pooled(kind, *settings):
    return getattr(layer, kind)(*settings, step_mode="m")


def maps(*tail):
    """One convolution with neurons, maps of 6 × 8 × 8, and what follows."""
    return nn.Sequential(layer.Conv2d(2, 6, 3, padding=1, step_mode="m"), lif(), *tail)


def flat():
    return layer.Flatten(step_mode="m")


ENDS = {
    "Linear": lambda: maps(flat(), layer.Linear(384, 7, step_mode="m")),
    "Linear without bias": lambda: maps(flat(), layer.Linear(384, 7, bias=False, step_mode="m")),
    "Linear behind an average": lambda: maps(pooled("AdaptiveAvgPool2d", 1), flat(), layer.Linear(6, 7, step_mode="m")),
    "Linear behind two": lambda: maps(
        pooled("AvgPool2d", 2), pooled("AvgPool2d", 2), flat(), layer.Linear(24, 7, step_mode="m")
    ),
    "Linear behind a largest": lambda: maps(pooled("MaxPool2d", 2), flat(), layer.Linear(96, 7, step_mode="m")),
    "convolution": lambda: maps(layer.Conv2d(6, 3, 3, stride=2, padding=1, step_mode="m")),
    "convolution in groups": lambda: maps(
        layer.Conv2d(6, 4, (2, 3), dilation=(1, 2), padding=(0, 2), groups=2, bias=False, step_mode="m")
    ),
    "convolution, average": lambda: maps(
        layer.Conv2d(6, 10, 1, step_mode="m"), pooled("AvgPool2d", 4, 2, 1), flat(), nn.Dropout(0.5)
    ),
    "convolution, normalised": lambda: maps(layer.Conv2d(6, 10, 1, step_mode="m"), pooled("BatchNorm2d", 10)),
    "average": lambda: maps(pooled("AdaptiveAvgPool2d", 1), flat()),
    "largest": lambda: maps(pooled("MaxPool2d", 3, 2, 1)),
    "nothing but another form": lambda: maps(flat()),
    "vote behind another form": lambda: maps(flat(), layer.VotingLayer(4, step_mode="m")),
}


@every_coding
@pytest.mark.parametrize("end", ENDS)
def test_ends(end, coding):
    network = assert_exact(pruned(ENDS[end]()), coding, 2, 8, 8, samples=5)
    assert sum(isinstance(each, Neuron) for each in network.layers) == 1
    assert bool(network.tail) == (end not in ("largest", "nothing but another form", "vote behind another form"))


def test_a_convolution_of_one_dimension():
    net = nn.Sequential(layer.Conv1d(2, 6, 3, step_mode="m"), lif(), layer.Conv1d(6, 3, 5, 2, 2, step_mode="m"))
    assert_exact(pruned(net), "static", 2, 20)


@every_coding
def test_between_linear_layers(coding):
    net = nn.Sequential(layer.Linear(30, 40, step_mode="m"), lif(), nn.Identity(), layer.Linear(40, 7, step_mode="m"))
    network = assert_exact(pruned(net), coding, 30, samples=70)  # side by side
    assert (network.outputs, network.counted) == (7, 40)
    assert network.synapses == sum(int(net[i].weight.count_nonzero()) for i in (0, 3))


def test_the_rate_is_the_mean_over_time():
    net, (x, trains) = pruned(ENDS["Linear"]()), shown("static", 2, 8, 8)
    count, rate = (
        Engine(from_torch(net, T=T, input_shape=(2, 8, 8), readout=readout))(x.numpy()) for readout in ("count", "rate")
    )
    assert np.array_equal(rate, (count.astype(np.float64) / T).astype(np.float32))
    with torch.no_grad():
        assert np.allclose(rate, net(trains).mean(0), atol=1e-6)


@pytest.mark.parametrize("end", ENDS)
def test_to_a_file_and_back_to_torch(end, tmp_path):
    network = from_torch(pruned(ENDS[end]()), T=T, input_shape=(2, 8, 8), readout="count")
    write(network, tmp_path / "net.safetensors")
    assert sparse._open(tmp_path / "net.safetensors")[0]["format"] == 2
    x = shown("static", 2, 8, 8)[0]
    expected = Engine(network)(x.numpy())
    assert np.array_equal(Engine(read(tmp_path / "net.safetensors"))(x.numpy()), expected)
    model = to_torch(network)
    with torch.no_grad():
        answer = model(x)
    assert np.array_equal(answer.rate.numpy(), expected)
    assert torch.equal(answer.current * T, answer.rate) or not model.reads_out
    assert from_torch(model).plain()[0]["layers"][2:] == network.plain()[0]["layers"][2:]


def test_one_sample_and_many_give_the_same_bits():
    rng = np.random.default_rng(0)
    fc, conv = (Weight.from_dense(rng.normal(size=shape)) for shape in ((10, 800), (8, 1, 3, 3)))
    layers = (Conv(weight=conv, padding=(1, 1)), Neuron(), AvgPool(kernel=(1, 1), stride=(1, 1)))
    last = Conv(weight=Weight.from_dense(rng.normal(size=(10, 8, 10, 10))))
    for tail in (last,), (Flatten(), Linear(weight=fc)):
        engine = Engine(Network((*layers, *tail), (1, 10, 10), T))
        x = rng.normal(size=(9, 1, 10, 10))
        assert np.array_equal(engine(x), np.concatenate([engine(x[n : n + 1]) for n in range(9)]))


def test_no_samples():
    for end in ENDS.values():
        network = from_torch(pruned(end()), T=T, input_shape=(2, 8, 8))
        assert Engine(network)(np.zeros((0, 2, 8, 8))).shape == (0, network.outputs)


def test_memory_goes_with_the_synapses():
    """A few bytes may ask for a weight tensor of 2 GiB; nothing of that size is made."""
    wide = Linear(weight=Weight((2**15, 2**16 - 1), np.array([5]), np.ones(1, np.float32)))
    found = read_out((wide,), np.ones((1, 2**16 - 1)), T)
    assert (found.shape, found.sum()) == ((1, 2**15), 1.0)


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        (AvgPool(kernel=(256, 256), stride=(256, 256), padding=(128, 128)), "2 GiB of working memory"),
        (Conv(weight=Weight((1, 2**12, 1, 1), np.array([0]), np.ones(1)), padding=(1000, 1000)), "2 GiB of working"),
    ],
)
def test_padding_that_takes_too_much_memory(tail, words):
    first = Conv(weight=Weight((2**12, 1, 1, 1), np.array([0]), np.ones(1)))
    with pytest.raises(UsageError, match=words):
        Engine(Network((first, Neuron(), tail), (1, 3, 3), T=1))


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ([nn.Linear(4, 3)], "must be followed by neurons"),
        ([nn.Linear(4, 5), lif(), nn.Linear(5, 3), layer.VotingLayer(3)], "linear '2' must be followed by neurons"),
        ([nn.Linear(4, 5), lif(), nn.Linear(5, 3), nn.Linear(3, 3)], "linear '2' must be followed by neurons"),
        ([nn.Flatten()], "must have neurons"),
    ],
)
def test_other_ends_are_refused(modules, words):
    with pytest.raises(UsageError, match=words):
        from_torch(nn.Sequential(*modules), T=2, input_shape=(4,))


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ([nn.AvgPool2d(2), nn.Flatten(), layer.VotingLayer(6)], "vote '4' must follow neurons, whose spikes it counts"),
        ([nn.Conv2d(6, 6, 1), nn.MaxPool2d(2)], "conv '2' must be followed by neurons, not by max_pool '3'"),
    ],
)
def test_other_ends_of_maps_are_refused(tail, words):
    with pytest.raises(UsageError, match=words):
        from_torch(maps(*tail), T=2, input_shape=(2, 8, 8))
