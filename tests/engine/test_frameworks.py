"""Layers of other frameworks, and of torch beyond synapses and neurons, compared with their own forward pass."""

import norse.torch as norse
import numpy as np
import pytest
import snntorch
import torch
from norse.torch.functional.lif import LIFParameters
from norse.torch.functional.lif_box import LIFBoxParameters
from norse.torch.functional.reset import reset_subtract
from spikingjelly.activation_based import layer, neuron
from test_convert import lif, rates, trained
from torch import nn

from synaprune.engine import Engine, compile, from_torch, to_torch
from synaprune.engine.reference import spike_trains
from synaprune.errors import UsageError
from synaprune.export import read, write

T = 12
BACKENDS = ["c", "torch"]
every_backend = pytest.mark.parametrize("backend", BACKENDS)
every_coding = pytest.mark.parametrize("coding", ["static", "spikes"])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def shown(coding, *shape, samples=20):
    """Return what a network is shown, and its trains."""
    x = 2 * torch.randn(samples, *shape) if coding == "static" else (torch.rand(T, samples, *shape) < 0.4).float()
    return x, x.expand(T, *x.shape) if coding == "static" else x


def sparse(net, density=0.5, scale=3.0):
    """Make half of the weights absent and the others strong, so that neurons fire."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.weight.mul_(scale * (torch.rand_like(module.weight) < density))
    return net.eval()


# snnTorch


def leaky(**settings):
    return snntorch.Leaky(**{"beta": 0.8, "init_hidden": True, **settings})


LEAKY = {
    "as it is": {},
    "hard": {"reset_mechanism": "zero"},
    "hard, at once": {"reset_mechanism": "zero", "reset_delay": False},
    "another threshold": {"threshold": 0.6, "beta": 0.5},
    "no leak": {"beta": 1.0},
    "no leak, hard": {"beta": 1.0, "reset_mechanism": "zero"},
    "no memory": {"beta": 0.0, "reset_mechanism": "zero"},
    "learned": {"beta": torch.tensor(0.7), "learn_beta": True, "threshold": torch.tensor(0.9), "learn_threshold": True},
    "beta above 1": {"beta": 1.2},
    "potential beside spikes": {"output": True},
}


def snntorch_counts(net, trains):
    """Return the spikes of the last layer, and how often each layer of neurons fired."""
    fired = [0] * sum(isinstance(module, snntorch.Leaky) for module in net)
    counts = 0
    for module in net:
        if isinstance(module, snntorch.Leaky):
            module.reset_mem()
    with torch.no_grad():
        for x in trains:
            place = 0
            for module in net:
                x = module(x)
                if isinstance(module, snntorch.Leaky):
                    x = x[0] if isinstance(x, tuple) else x
                    fired[place] += int(x.sum())
                    place += 1
            counts = counts + x
    return counts.numpy(), fired


@every_coding
@every_backend
@pytest.mark.parametrize("kind", LEAKY)
def test_leaky(kind, backend, coding):
    x, trains = shown(coding, 30)
    net = sparse(nn.Sequential(nn.Linear(30, 40), leaky(), nn.Linear(40, 10, bias=False), leaky(**LEAKY[kind])))
    engine = compile(net, T=T, coding=coding, readout="count", backend=backend)
    counts, fired = snntorch_counts(net, trains)
    found = engine(x.numpy())
    assert 0.02 < counts.mean() / T < 0.9
    assert (found == counts).mean() > 0.99  # another order of additions: one spike in some thousands may differ
    assert np.allclose(list(engine.spikes.values()), fired, rtol=2e-3)


def test_leaky_between_convolutions():
    x, trains = shown("static", 1, 12, 12)
    net = nn.Sequential(
        *(nn.Conv2d(1, 6, 3, padding=1), leaky(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 8, 3), leaky(reset_mechanism="zero"), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        *(nn.Linear(32, 10), leaky(output=True)),
    )
    engine = compile(sparse(net), T=T, input_shape=(1, 12, 12), readout="count")
    counts, fired = snntorch_counts(net, trains)
    assert (engine(x.numpy()) == counts).mean() > 0.98
    assert np.allclose(list(engine.spikes.values()), fired, rtol=5e-3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"inhibition": True}, "'1' with inhibition=True"),
        ({"reset_mechanism": "none"}, "'1' with reset_mechanism='none'"),
        ({"reset_delay": False}, "resets some spikes twice; leave reset_delay out"),
        ({"beta": 0.0}, "with beta=0"),
        ({"beta": torch.rand(10)}, "its beta is another for each neuron"),
        ({"threshold": torch.rand(10)}, "its threshold is another for each neuron"),
        ({"graded_spikes_factor": 2.0}, "graded_spikes_factor"),
        ({"state_quant": torch.round}, "state_quant"),
    ],
)
def test_what_leaky_has_no_exact_form_for(settings, words):
    with pytest.raises(UsageError, match=words):
        from_torch(nn.Sequential(nn.Linear(5, 10), leaky(**settings)), T=2)


@pytest.mark.parametrize("kind", [snntorch.Synaptic, snntorch.Alpha])
def test_neurons_with_a_current_of_their_own_are_refused(kind):
    settings = {"alpha": 0.9, "beta": 0.8, "init_hidden": True}
    with pytest.raises(UsageError, match="cannot run '1', a snntorch"):
        from_torch(nn.Sequential(nn.Linear(5, 10), kind(**settings)), T=2)


# Norse

BOXES = {
    "as it is": LIFBoxParameters(),
    "slow": LIFBoxParameters(tau_mem_inv=torch.tensor(200.0), v_th=torch.tensor(0.5)),
    "below 0": LIFBoxParameters(v_leak=torch.tensor(-0.2), v_reset=torch.tensor(-0.2), v_th=torch.tensor(0.3)),
    "soft": LIFBoxParameters(reset_method=reset_subtract, tau_mem_inv=torch.tensor(300.0), v_th=torch.tensor(0.4)),
}


@every_coding
@every_backend
@pytest.mark.parametrize("kind", BOXES)
def test_lif_box(kind, backend, coding):
    x, trains = shown(coding, 30)
    cell = norse.LIFBoxCell(BOXES[kind])
    net = norse.SequentialState(nn.Linear(30, 40), norse.LIFBoxCell(BOXES["slow"]), nn.Linear(40, 10), cell)
    engine = compile(sparse(net, scale=20.0), T=T, coding=coding, readout="count", backend=backend)
    counts, state = 0, None
    with torch.no_grad():
        for step in trains:
            spikes, state = net(step, state)
            counts = counts + spikes
    assert 0.02 < float(counts.mean()) / T < 0.9
    assert (engine(x.numpy()) == counts.numpy()).mean() > 0.99


def test_norse_lifts_layers_over_time():
    net = norse.SequentialState(norse.Lift(nn.Conv2d(1, 2, 3)), norse.LIFBoxCell(), nn.Flatten(), nn.Linear(72, 5))
    network = from_torch(net, T=3, input_shape=(1, 8, 8))
    assert [layer.kind for layer in network.layers] == ["conv", "neuron", "flatten", "linear"]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (norse.LIFBoxCell(LIFBoxParameters(v_leak=torch.tensor(-0.1))), "'1' with v_leak=-0.1"),
        (
            norse.LIFBoxCell(LIFBoxParameters(v_leak=torch.tensor(0.1), reset_method=reset_subtract)),
            "'1' with v_leak=0.1",
        ),
        (norse.LIFBoxCell(LIFBoxParameters(v_th=torch.rand(4))), "its v_th is another for each neuron"),
        (norse.LIFCell(LIFParameters()), "cannot run '1', a norse.torch.module.lif.LIFCell"),
    ],
)
def test_what_norse_has_no_exact_form_for(cell, words):
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        from_torch(norse.SequentialState(nn.Linear(3, 4), cell), T=2)


# A neuron whose soft reset takes another amount than its threshold


def test_it_is_kept_by_a_file_and_not_by_spikingjelly(tmp_path):
    net = sparse(nn.Sequential(nn.Linear(30, 40), leaky(), nn.Linear(40, 10), leaky()))
    network = from_torch(net, T=T)
    write(network, tmp_path / "net.safetensors")
    copied = read(tmp_path / "net.safetensors")
    x = shown("static", 30)[0].numpy()
    assert network.layers[1].drop == pytest.approx(1 / 0.8)
    assert (Engine(copied)(x) == Engine(network)(x)).all()
    with pytest.raises(UsageError, match=r"neuron '1' takes 1\.25 from a neuron that fires"):
        to_torch(network)


def test_all_ways_of_running_it_agree():
    net = sparse(nn.Sequential(nn.Linear(30, 40), leaky(), nn.Linear(40, 10), leaky()))
    network, x = from_torch(net, T=T), shown("static", 30)[0].numpy()
    for found, expected in zip(Engine(network).trains(x), spike_trains(network, x)):
        assert (found == expected).all()


# A last Linear without neurons


def currents(net, trains):
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, neuron.BaseNode):
                module.reset()
        return net(trains)


def reading_out(bias=True):
    return trained(
        nn.Sequential(
            *(layer.Conv2d(2, 6, 3, padding=1, step_mode="m"), lif(), layer.Flatten(step_mode="m")),
            *(layer.Linear(6 * 64, 20, step_mode="m"), lif(tau=3.0), layer.Linear(20, 7, bias=bias, step_mode="m")),
        ),
        lambda net: net(shown("static", 2, 8, 8)[1]),
    )


@every_coding
@every_backend
@pytest.mark.parametrize("bias", [True, False])
def test_a_last_linear_reads_out_its_currents(bias, backend, coding):
    x, trains = shown(coding, 2, 8, 8)
    net = reading_out(bias)
    expected = currents(net, trains)
    for readout, values in (("rate", expected.mean(0)), ("count", expected.sum(0))):
        engine = compile(net, T=T, input_shape=(2, 8, 8), coding=coding, readout=readout, backend=backend, threads=2)
        found = engine(x.numpy())
        assert found.dtype == np.float32
        assert np.isclose(found, values.numpy(), rtol=1e-4, atol=1e-5 * T).mean() > 0.98
        assert list(engine.spikes) == ["1", "4"]


def test_a_read_out_goes_to_a_file_and_back_to_torch(tmp_path):
    network = from_torch(reading_out(), T=T, input_shape=(2, 8, 8))
    write(network, tmp_path / "net.safetensors")
    copied = read(tmp_path / "net.safetensors")
    x = shown("static", 2, 8, 8)[0]
    assert (Engine(copied)(x.numpy()) == Engine(network)(x.numpy())).all()
    with torch.no_grad():
        answer = to_torch(network)(x)
    assert np.allclose(answer.rate.numpy(), Engine(network)(x.numpy()), rtol=1e-4, atol=1e-4)
    assert torch.equal(answer.rate, answer.current)
    assert (network.outputs, network.counted) == (7, 20)
    assert network.synapses == sum(len(each.weight) for each in network.layers if hasattr(each, "weight"))


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ([nn.Linear(4, 3)], "must be followed by neurons"),
        ([nn.Linear(4, 5), lif(), nn.Linear(5, 3), layer.VotingLayer(3)], "linear '2' must be followed by neurons"),
        ([nn.Linear(4, 5), lif(), nn.Linear(5, 3), nn.Linear(3, 3)], "linear '2' must be followed by neurons"),
    ],
)
def test_other_ends_are_refused(last, words):
    with pytest.raises(UsageError, match=words):
        from_torch(nn.Sequential(*last), T=2)


# Normalisation before synapses


def normalising(kind):
    first = {
        "linear": lambda: [
            *(layer.Linear(30, 40, step_mode="m"), lif(), layer.BatchNorm1d(40, step_mode="m")),
            *(layer.Linear(40, 10, step_mode="m"), lif()),
        ],
        "the input": lambda: [layer.BatchNorm1d(30, step_mode="m"), layer.Linear(30, 10, step_mode="m"), lif()],
        "convolution": lambda: [
            *(layer.Conv2d(2, 6, 3, step_mode="m"), lif(), layer.BatchNorm2d(6, step_mode="m")),
            *(layer.Conv2d(6, 4, 3, groups=2, step_mode="m"), lif()),
        ],
        "before flattening": lambda: [
            *(layer.Conv2d(2, 6, 3, step_mode="m"), lif(), layer.BatchNorm2d(6, step_mode="m")),
            *(layer.Flatten(step_mode="m"), layer.Linear(6 * 36, 10, step_mode="m"), lif()),
        ],
        "padding without shift": lambda: [
            *(layer.Conv2d(2, 6, 3, step_mode="m"), lif(), layer.BatchNorm2d(6, step_mode="m")),
            *(layer.Conv2d(6, 4, 3, padding=1, step_mode="m"), lif()),
        ],
    }[kind]
    return nn.Sequential(*first()), (30,) if kind in ("linear", "the input") else (2, 8, 8)


@every_coding
@pytest.mark.parametrize("kind", ["linear", "the input", "convolution", "before flattening", "padding without shift"])
def test_a_normalisation_before_synapses_is_folded_into_them(kind, coding):
    net, shape = normalising(kind)
    x, trains = shown(coding, *shape)
    trained(net, lambda net: net(trains))
    if kind == "padding without shift":
        norm = net[2]
        norm.bias.data.copy_(norm.running_mean / (norm.running_var + norm.eps).sqrt() * norm.weight.data)
        norm.running_mean.zero_()
        norm.bias.data.zero_()
    before = sum(int(module.weight.count_nonzero()) for module in net if isinstance(module, nn.Linear | nn.Conv2d))
    engine = compile(net, T=T, input_shape=shape, coding=coding)
    assert engine.network.synapses == before
    assert np.isclose(engine(x.numpy()), rates(net, trains), atol=1e-6).mean() > 0.99


def test_a_factor_of_0_takes_synapses_away():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2), lif()).eval()
    net[0].weight.data[1] = 0.0
    assert from_torch(net, T=2, input_shape=(3,)).synapses == 4


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ([nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3, padding=1), lif()], "'0': it would shift the zeros that conv '1' pads"),
        ([nn.Conv2d(2, 3, 3), lif(), nn.BatchNorm2d(3)], "'2': no synapses follow it"),
        ([nn.Conv2d(2, 3, 3), lif(), nn.BatchNorm2d(3), nn.MaxPool2d(2)], "'2': between it and synapses lies max_pool"),
        ([nn.BatchNorm2d(2), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), lif()], "'1': it follows '0'"),
    ],
)
def test_normalisation_that_cannot_be_folded(modules, words):
    net = nn.Sequential(*modules).eval()
    for module in net:
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.fill_(0.5)
    with pytest.raises(UsageError, match=words):
        from_torch(net, T=2, input_shape=(2, 8, 8))


# Pools


POOLS = {
    "adaptive, all": nn.AdaptiveAvgPool2d(1),
    "adaptive, divides": nn.AdaptiveAvgPool2d((2, 3)),
    "adaptive, one side": nn.AdaptiveAvgPool2d((None, 2)),
    "adaptive, largest": nn.AdaptiveMaxPool2d((4, 3)),
    "adaptive, SpikingJelly's": layer.AdaptiveAvgPool2d((2, 2), step_mode="m"),
    "ceil, fits": nn.MaxPool2d(2, ceil_mode=True),
    "ceil, fits with padding": nn.AvgPool2d(2, padding=1, ceil_mode=True),
}


@every_coding
@pytest.mark.parametrize("pool", POOLS)
def test_pools(pool, coding):
    x, trains = shown(coding, 2, 10, 14)
    inner = POOLS[pool] if "Jelly" in pool else layer.SeqToANNContainer(POOLS[pool])
    net = nn.Sequential(
        *(layer.Conv2d(2, 5, 3, step_mode="m"), lif(), inner, layer.Flatten(step_mode="m")),
        *(nn.LazyLinear(10), lif()),
    )
    net(trains)
    for module in net.modules():
        if isinstance(module, neuron.BaseNode):
            module.reset()
    trained(net, lambda net: net(trains))
    engine = compile(net, T=T, input_shape=(2, 10, 14), coding=coding)
    assert np.isclose(engine(x.numpy()), rates(net, trains), atol=1e-6).mean() > 0.99


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        (nn.AdaptiveAvgPool2d(5), r"'2': windows of one size do not make \(5, 5\) of \(8, 12\)"),
        (nn.AdaptiveMaxPool2d(2, return_indices=True), "return_indices"),
        (nn.MaxPool2d(3, ceil_mode=True), r"'2' with ceil_mode=True, which here makes windows that hang over"),
        (nn.AdaptiveAvgPool1d(2), r"'2': windows of one size do not make"),
    ],
)
def test_pools_without_an_exact_form(pool, words):
    with pytest.raises(UsageError, match=words):
        from_torch(
            nn.Sequential(nn.Conv2d(2, 5, 3), lif(), pool, nn.Flatten(), nn.Linear(9, 2), lif()),
            T=2,
            input_shape=(2, 10, 14),
        )


def test_soft_resets_of_spikingjelly_take_the_threshold():
    net = nn.Sequential(nn.Linear(3, 2), lif(v_reset=None, v_threshold=0.7))
    found = from_torch(net, T=2).layers[1]
    assert (found.drop, found.taken) == (None, 0.7)
