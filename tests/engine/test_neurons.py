"""Neurons of snnTorch and Norse, each spike compared with their own forward pass."""

import norse.torch as norse
import numpy as np
import pytest
import snntorch
import torch
from exact import T, assert_exact, lif, pruned, shown
from norse.torch.functional.iaf import IAFParameters
from norse.torch.functional.lif import LIFParameters
from norse.torch.functional.lif_box import LIFBoxParameters
from norse.torch.functional.reset import reset_subtract
from torch import nn

from synaprune.engine import Engine, Linear, Network, Neuron, Weight, from_torch, to_torch
from synaprune.errors import UsageError
from synaprune.export import read, sparse, write

every_coding = pytest.mark.parametrize("coding", ["static", "spikes"])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def leaky(**settings):
    return snntorch.Leaky(**{"beta": 0.9, "init_hidden": True, **settings})


LEAKY = {
    "as it is": {},
    "hard": {"reset_mechanism": "zero"},
    "hard, at once": {"reset_mechanism": "zero", "reset_delay": False},
    "never reset": {"reset_mechanism": "none"},
    "never reset, at once": {"reset_mechanism": "none", "reset_delay": False},
    "another threshold": {"threshold": 0.6, "beta": 0.5},
    "threshold of 0": {"threshold": 0.0},
    "threshold below 0": {"threshold": -0.25},
    "no leak": {"beta": 1.0},
    "no leak, hard": {"beta": 1.0, "reset_mechanism": "zero"},
    "no memory": {"beta": 0.0},
    "learned": {"beta": torch.tensor(0.7), "learn_beta": True, "threshold": torch.tensor(0.9), "learn_threshold": True},
    "beta above 1": {"beta": 1.2},
    "of one number": {"beta": torch.tensor([0.3])},
    "potential beside spikes": {"output": True},
    "another surrogate": {"spike_grad": snntorch.surrogate.fast_sigmoid()},
    "no surrogate": {"surrogate_disable": True},
}


@every_coding
@pytest.mark.parametrize("kind", LEAKY)
def test_leaky(kind, coding):
    net = nn.Sequential(nn.Linear(30, 40), leaky(), nn.Linear(40, 10, bias=False), leaky(**LEAKY[kind]))
    assert_exact(pruned(net), coding, 30)


@pytest.mark.parametrize("beta", [0.5, 0.75, 0.95])
def test_currents_that_bring_leaky_to_its_threshold(beta):
    """A constant current near (1 − β)·θ, and what a soft reset leaves of larger ones, approach θ itself."""
    net = nn.Sequential(nn.Linear(1, 64, bias=False), leaky(beta=beta))
    with torch.no_grad():
        net[0].weight.copy_(torch.arange(1, 65)[:, None] / 16)
    x, steps = torch.tensor([[1.0], [1 - beta], [(1 - beta) / 2]]), 60
    with torch.no_grad():
        counts = sum(net(x) for _ in range(steps))
    found = Engine(from_torch(net, T=steps, readout="count"))(x.numpy())
    assert np.array_equal(found, counts.numpy())


def test_leaky_without_hidden_state_is_that_of_a_loop_by_hand():
    fc1, lif1, fc2, lif2 = nn.Linear(30, 40), snntorch.Leaky(beta=0.8), nn.Linear(40, 10), snntorch.Leaky(beta=0.9)
    net, (x, trains) = pruned(nn.Sequential(fc1, lif1, fc2, lif2)), shown("spikes", 30)
    first, second, counts = lif1.reset_mem(), lif2.reset_mem(), 0
    with torch.no_grad():
        for step in trains:
            spikes, first = lif1(fc1(step), first)
            spikes, second = lif2(fc2(spikes), second)
            counts = counts + spikes
    assert np.array_equal(Engine(from_torch(net, T=T, coding="spikes", readout="count"))(x.numpy()), counts.numpy())


@every_coding
def test_leaky_between_convolutions(coding):
    net = nn.Sequential(
        *(nn.Conv2d(1, 6, 3, padding=1), leaky(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 8, 3), leaky(reset_mechanism="zero"), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        *(nn.Linear(32, 10), leaky(output=True)),
    )
    assert_exact(pruned(net), coding, 1, 12, 12)


def assigned(**settings):
    found = leaky()
    for name, value in settings.items():
        setattr(found, name, value)
    return found


@pytest.mark.parametrize(
    ("neurons", "words"),
    [
        (lambda: leaky(inhibition=True), "'1' with inhibition=True"),
        (lambda: leaky(reset_delay=False), "resets some spikes twice; leave reset_delay out"),
        (lambda: leaky(reset_delay=False, reset_mechanism="zero", threshold=-1.0), "threshold=-1 and reset_delay=F"),
        (lambda: leaky(beta=torch.rand(10)), "its beta is another for each neuron"),
        (lambda: leaky(threshold=torch.rand(10)), "its threshold is another for each neuron"),
        (lambda: leaky(graded_spikes_factor=2.0), "graded_spikes_factor"),
        (lambda: leaky(state_quant=torch.round), "state_quant"),
        (lambda: leaky(spike_grad=torch.sigmoid), "its spike_grad does not spike just above the threshold"),
        (lambda: assigned(reset_mechanism="zero"), "'1' with reset_mechanism='zero'; it needs .*'subtract'"),
        (lambda: snntorch.Synaptic(alpha=0.9, beta=0.8, init_hidden=True), "cannot run '1', a snntorch.*Synaptic"),
        (lambda: snntorch.Alpha(alpha=0.9, beta=0.8, init_hidden=True), "cannot run '1', a snntorch.*Alpha"),
        (lambda: snntorch.Lapicque(beta=0.8, init_hidden=True), "cannot run '1', a snntorch.*Lapicque"),
    ],
)
@pytest.mark.filterwarnings("ignore:Inhibition")
def test_what_snntorch_has_no_exact_form_for(neurons, words):
    with pytest.raises(UsageError, match=words):
        from_torch(nn.Sequential(nn.Linear(5, 10), neurons()), T=2)


def some(**parameters):
    return {name: value if callable(value) else torch.tensor(value) for name, value in parameters.items()}


NORSE = {
    "LIFBoxCell as it is": norse.LIFBoxCell(),
    "another rate": norse.LIFBoxCell(LIFBoxParameters(**some(tau_mem_inv=300.0, v_th=0.4))),
    "another time step": norse.LIFBoxCell(dt=0.004),
    "below 0": norse.LIFBoxCell(LIFBoxParameters(**some(v_leak=-0.25, v_reset=-0.25, v_th=0.25, tau_mem_inv=125.0))),
    "soft": norse.LIFBoxCell(LIFBoxParameters(**some(reset_method=reset_subtract, tau_mem_inv=300.0, v_th=0.4))),
    "another surrogate": norse.LIFBoxCell(LIFBoxParameters(method="heaviside", v_th=torch.tensor(0.3))),
    "IAFCell": norse.IAFCell(IAFParameters(**some(v_th=2.0))),
    "IAFCell, another reset": norse.IAFCell(IAFParameters(**some(v_th=0.75, v_reset=-0.5))),
}


@every_coding
@pytest.mark.parametrize("kind", NORSE)
def test_norse(kind, coding):
    slow = norse.LIFBoxCell(LIFBoxParameters(**some(tau_mem_inv=200.0, v_th=0.5)))
    net = norse.SequentialState(nn.Linear(30, 40), slow, nn.Linear(40, 10), NORSE[kind])
    assert_exact(pruned(net, scale=1.5), coding, 30)


def test_norse_lifts_layers_over_time():
    net = norse.SequentialState(norse.Lift(nn.Conv2d(1, 2, 3)), norse.IAF(), nn.Flatten(2), nn.Linear(72, 5))
    with pytest.raises(UsageError, match="'2' with start_dim=2"):
        from_torch(net, T=3, input_shape=(1, 8, 8))
    net = pruned(norse.SequentialState(norse.Lift(nn.Conv2d(1, 2, 3)), norse.IAF(), norse.Lift(nn.MaxPool2d(2))))
    x, trains = shown("spikes", 1, 8, 8)
    with torch.no_grad():
        answer, _ = net(trains)
    network = from_torch(net, T=T, input_shape=(1, 8, 8), coding="spikes", readout="count")
    assert np.array_equal(Engine(network)(x.numpy()), answer.sum(0).flatten(1).numpy())


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (norse.LIFBoxCell(LIFBoxParameters(**some(v_leak=-0.1))), "'1' with v_leak=-0.1"),
        (norse.LIFBoxCell(LIFBoxParameters(**some(v_leak=0.1, reset_method=reset_subtract))), "'1' with v_leak=0.1"),
        (norse.LIFBoxCell(LIFBoxParameters(v_th=torch.rand(4))), "its v_th is another for each neuron"),
        (norse.LIFBoxCell(LIFBoxParameters(tau_mem_inv=torch.rand(4))), "its tau_mem_inv is another for each"),
        (norse.LIFBoxCell(dt=0.02), "rate of neuron '1' must be from 0 to 1, not 2.0"),
        (norse.LIFCell(LIFParameters()), "cannot run '1', a norse.torch.module.lif.LIFCell"),
        (norse.LIBoxCell(), "cannot run '1', a norse.torch.module.leaky_integrator_box.LIBoxCell"),
    ],
)
def test_what_norse_has_no_exact_form_for(cell, words):
    with pytest.raises(UsageError, match=words):
        from_torch(norse.SequentialState(nn.Linear(3, 4), cell), T=2)


OWN = {
    "drop": Neuron(tau=2.0, reset=None, drop=0.7),
    "rate": Neuron(tau=None, rate=0.3),
    "rate, undecayed input": Neuron(tau=None, rate=0.3, reset=-0.25, decay_input=False),
    "keep": Neuron(tau=None, keep=0.8),
    "late": Neuron(tau=3.0, reset=None, late=True),
    "all": Neuron(tau=None, keep=0.8, reset=None, drop=0.9, late=True),
}


@pytest.mark.parametrize("own", OWN)
def test_what_spikingjelly_has_not_is_kept_by_files_and_refused_by_to_torch(own, tmp_path):
    weight = Weight.from_dense(np.array([[0.3, 1.5], [0.9, 0.0]]))
    network = Network((Linear(weight=weight), OWN[own]), (2,), T)
    write(network, tmp_path / "net.safetensors")
    assert sparse._open(tmp_path / "net.safetensors")[0]["format"] == 2
    assert read(tmp_path / "net.safetensors").plain()[0] == network.plain()[0]
    with pytest.raises(UsageError, match=f"neuron has {own.split(',')[0] if own != 'all' else 'drop'}="):
        to_torch(network)


def test_a_file_that_needs_nothing_new_is_read_by_older_versions(tmp_path):
    write(Network((Linear(weight=Weight.from_dense(np.eye(2))), Neuron()), (2,), T), tmp_path / "net")
    header = sparse._open(tmp_path / "net")[0]
    assert header["format"] == 1
    assert set(header["network"]["layers"][1]) == {"kind", "name", "tau", "threshold", "reset", "decay_input"}


def test_soft_resets_of_spikingjelly_take_the_threshold():
    net = nn.Sequential(nn.Linear(3, 2), lif(v_reset=None, v_threshold=0.7))
    found = from_torch(net, T=2).layers[1]
    assert (found.drop, found.taken) == (None, 0.7)
