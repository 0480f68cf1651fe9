"""Connections against explicit loops over every neuron, position and kernel weight."""

from __future__ import annotations

import copy
import itertools

import norse.torch as norse
import pytest
import snntorch as snn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from norse.torch.module.coba_lif import CobaLIFCell
from snntorch._neurons.leakykernel import LeakyKernel
from spikingjelly.activation_based import encoding, functional, layer, neuron, surrogate
from torch import nn
from torch.nn.utils import parametrizations

from synaprune.errors import UsageError
from synaprune.measure import connections
from synaprune.measure.connections import CELLS, LAYERS
from synaprune.models import SpikingCNN
from synaprune.synapses import find_synapses, rules_for


def links(conv, shape):
    """Yield (channel, *position) of both ends of every connection that a convolution makes of maps of a shape."""
    turned = isinstance(conv, nn.modules.conv._ConvTransposeNd)
    outputs = conv.out_channels // conv.groups
    for sender, k, out in itertools.product(
        itertools.product(*map(range, shape)), itertools.product(*map(range, conv.kernel_size)), range(outputs)
    ):
        group = sender[0] // (conv.in_channels // conv.groups)
        within = sender[0] % (conv.in_channels // conv.groups)
        weight = conv.weight[(sender[0], out, *k)] if turned else conv.weight[(group * outputs + out, within, *k)]
        target = [group * outputs + out]
        for at, j, size, extent, step, pad, spread in zip(
            sender[1:], k, shape[1:], conv.kernel_size, conv.stride, conv.padding, conv.dilation
        ):
            reach = spread * (extent - 1)
            if turned:
                place, places = at * step - pad + j * spread, (size - 1) * step - 2 * pad + reach + 1
            else:
                place, rest = divmod(at + pad - j * spread, step)
                places = -1 if rest else (size + 2 * pad - reach - 1) // step + 1
            if 0 <= place < places:
                target.append(place)
        if len(target) == len(shape) and weight != 0:
            yield sender, tuple(target)


def follow(edges, alive):
    """Return the number of edges that start at a living neuron, and where they end."""
    ends = [target for sender, target in edges if sender in alive]
    return len(ends), set(ends)


def gate(alive):
    """A layer that lets nothing pass where `alive` is 0."""
    gate = nn.Linear(alive.numel(), alive.numel(), bias=False)
    with torch.no_grad():
        gate.weight.copy_(torch.diag(alive.flatten()))
    return nn.Sequential(nn.Flatten(), gate, nn.Unflatten(1, alive.shape))


def weighted(module, weights):
    with torch.no_grad():
        module.weight.copy_(torch.as_tensor(weights, dtype=torch.float).reshape(module.weight.shape))
    return module


def thin(module, keep, seed=0):
    """Zero all but a fraction of the weights of each tensor of synapses."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in find_synapses(module).parameters:
            parameter.mul_(torch.rand(parameter.shape, generator=generator) < keep)
    return module


@st.composite
def geometries(draw):
    """A sparse convolution of one or two dimensions, and which of its inputs are alive."""
    dims = draw(st.integers(1, 2))
    number = st.integers(1, 3)
    groups, kernel, dilation = draw(st.integers(1, 2)), draw(st.tuples(*[number] * dims)), draw(st.integers(1, 2))
    kinds = [nn.Conv1d, nn.ConvTranspose1d] if dims == 1 else [nn.Conv2d, nn.ConvTranspose2d]
    conv = draw(st.sampled_from(kinds))(
        groups * draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 2)),
        kernel,
        stride=draw(number),
        padding=draw(st.integers(0, dilation * (min(kernel) - 1))),
        dilation=dilation,
        groups=groups,
    )
    shape = (conv.in_channels, *(dilation * (k - 1) + draw(number) for k in kernel))
    seed, keep = draw(st.integers(0, 999)), draw(st.sampled_from([0.2, 0.6, 1.0]))
    alive = (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < keep).float()
    return thin(conv, keep, seed), alive


@settings(deadline=None, max_examples=40)
@given(geometries())
def test_any_convolution_against_loops(geometry):
    conv, alive = geometry
    whole = weighted(copy.deepcopy(conv), torch.ones_like(conv.weight))
    left, ends = follow(links(conv, alive.shape), set(map(tuple, alive.nonzero().tolist())))
    every, reachable = follow(links(whole, alive.shape), set(map(tuple, torch.ones_like(alive).nonzero().tolist())))
    net = nn.Sequential(gate(alive), conv, nn.ReLU(), nn.Flatten(), nn.LazyLinear(2, bias=False))
    net(torch.zeros(1, *alive.shape))
    counted = connections(net, torch.zeros(2, *alive.shape))
    assert counted["1.weight"] == (left, every)
    assert counted["4.weight"] == (2 * len(ends), 2 * len(reachable))


def test_the_cifar_network_of_the_paper():
    """6,786,048 = 256 × 3 × (3 × 32 − 2)²; two thirds of all connections are those of two convolutions."""
    net = SpikingCNN(T=1)
    counted = connections(net, torch.zeros(1, 3, 32, 32))
    assert {name: every for name, (_, every) in counted.items()} == {
        "stem.0.weight": 6_786_048,
        "features.0.weight": 579_076_096,
        "features.3.weight": 579_076_096,
        "features.7.weight": 138_674_176,
        "features.10.weight": 138_674_176,
        "features.13.weight": 138_674_176,
        "fc1.weight": 33_554_432,
        "fc2.weight": 204_800,
    }
    assert sum(every for _, every in counted.values()) == 1_614_720_000


@pytest.mark.parametrize("T", [1, 3])
def test_a_spiking_network_with_dead_neurons_against_loops(T):
    net = thin(SpikingCNN(channels=4, image_size=8, T=T), 0.08)
    with torch.no_grad():
        net.features[0].weight[1] = 0  # a map without input
        net.features[0].weight[2, :, :, 1:] = 0  # a map whose last column lies beyond the padding
        net.features[0].weight[2, :, :, 0] = 1
    functional.reset_net(net)
    counted = connections(net, torch.rand(2, 3, 8, 8))

    alive, expected = set(itertools.product(range(3), range(8), range(8))), {}
    size = 8
    for name, module in [("stem.0", net.stem[0]), *((f"features.{i}", m) for i, m in enumerate(net.features))]:
        if isinstance(module, nn.Conv2d):
            expected[f"{name}.weight"], alive = follow(links(module, (module.in_channels, size, size)), alive)
        if isinstance(module, nn.MaxPool2d):
            alive, size = {(c, i // 2, j // 2) for c, i, j in alive}, size // 2
    alive = {(c * size + i) * size + j for c, i, j in alive}
    for name, module in [("fc1", net.fc1), ("fc2", net.fc2)]:
        expected[f"{name}.weight"], alive = follow(((j, i) for i, j in module.weight.nonzero().tolist()), alive)
    assert {name: left for name, (left, _) in counted.items()} == expected
    assert 0 < expected["fc2.weight"] < int(net.fc2.weight.count_nonzero())


NODES = [neuron.LIFNode(), snn.Leaky(beta=0.5, init_hidden=True), nn.ReLU(inplace=True), nn.PReLU(), surrogate.ATan()]
NORMS = [nn.BatchNorm2d(2), nn.LayerNorm([2, 3, 3]), nn.GroupNorm(1, 2), nn.InstanceNorm2d(2), layer.BatchNorm2d(2)]
POOLS = [nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1), nn.AdaptiveMaxPool2d(3), nn.AdaptiveAvgPool2d(3)]
DROPS = [nn.Dropout(0.9), nn.Dropout2d(0.9), layer.Dropout(0.9), nn.AlphaDropout(0.9)]


@pytest.mark.parametrize("between", NODES + NORMS + POOLS + DROPS, ids=lambda module: type(module).__name__)
def test_a_map_without_inputs_is_dead_whatever_follows_and_for_all_its_bias(between):
    first = weighted(nn.Conv2d(1, 2, 3, padding=1), [*[1.0] * 9, *[0.0] * 9])
    net = nn.Sequential(first, between, nn.Flatten(), nn.Linear(18, 5))
    assert connections(net, torch.zeros(2, 1, 3, 3)) == {"0.weight": (49, 98), "3.weight": (45, 90)}


def test_pooling_revives_what_has_one_living_neuron_in_its_window():
    net = nn.Sequential(gate(torch.tensor([[0.0, 1, 0, 0, 0, 0]])), nn.MaxPool1d(2), nn.Linear(3, 7))
    assert connections(net, torch.zeros(1, 1, 6))["2.weight"] == (7, 21)


class Functional(nn.Module):
    """Two branches, of which the first has lost its second neuron, joined by `join`."""

    def __init__(self, join, width=3):
        super().__init__()
        self.a = weighted(nn.Linear(3, 3), torch.diag(torch.tensor([1.0, 0, 1])))
        self.b = weighted(nn.Linear(3, 3), torch.diag(torch.tensor([1.0, 0, 0])))
        self.join, self.out = join, nn.Linear(width, 1)

    def forward(self, x):
        x = (x.flatten(1) - 0.5) / 0.25
        return self.out(self.join(self.a(x), self.b(x)))


@pytest.mark.parametrize(
    ("join", "width", "alive"),
    [
        (lambda a, b: a + b, 3, 2),
        (lambda a, b: a - b, 3, 2),
        (lambda a, b: 1 - a, 3, 2),
        (lambda a, b: torch.relu(-a), 3, 2),
        (lambda a, b: torch.stack([a, b]).mean(0), 3, 2),
        (lambda a, b: torch.cat([a, b], 1), 6, 3),
        (lambda a, b: nn.functional.pad(b, (2, 2)), 7, 1),
        (lambda a, b: a.flip(1)[:, :2] * 0.1, 2, 1),
        (lambda a, b: torch.zeros_like(a, dtype=torch.bool) + b, 3, 1),
        (lambda a, b: a.repeat(1, 2).clamp_(0, 1).sqrt(), 6, 4),
    ],
)
def test_what_stands_in_a_forward_function_is_followed(join, width, alive):
    counted = connections(Functional(join, width), torch.ones(2, 1, 3))
    assert counted == {"a.weight": (2, 9), "b.weight": (1, 9), "out.weight": (alive, counted["out.weight"][1])}


@pytest.mark.parametrize(
    ("conv", "shape", "expected"),
    [
        (nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular"), (1, 4), 12),
        (nn.Conv1d(1, 1, 3, padding=1, padding_mode="replicate"), (1, 4), 12),
        (nn.Conv1d(1, 1, 3, padding="same", dilation=2), (1, 4), 8),
        (nn.Conv3d(1, 2, 3, padding=1), (1, 2, 2, 2), 128),
        (norse.LConv2d(1, 2, 3, padding=1), (5, 3, 1, 3, 3), 98),
        (layer.Conv2d(1, 2, 3, padding=1, step_mode="m"), (5, 3, 1, 3, 3), 98),
        (layer.ConvTranspose2d(1, 2, 2, stride=2, step_mode="m"), (5, 3, 1, 3, 3), 72),
        (layer.Linear(4, 2, step_mode="m"), (5, 3, 4), 8),
        (layer.DropConnectLinear(4, 2), (3, 4), 8),
        (nn.Conv2d(1, 1, 3), (1, 5, 5), 81),  # one sample alone
    ],
)
def test_kinds_of_layers(conv, shape, expected):
    nn.init.ones_(conv.weight)
    assert connections(conv, torch.zeros(shape)) == {"weight": (expected, expected)}
    nn.init.zeros_(conv.weight)
    assert connections(conv, torch.zeros(shape)) == {"weight": (0, expected)}


def test_a_transposed_convolution_with_gaps_that_is_told_its_output_size():
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.out = weighted(nn.ConvTranspose1d(1, 1, 2, stride=3), [1.0, 1.0]), nn.Linear(9, 2)

        def forward(self, x):
            return self.out(self.up(input=x, output_size=[9]))

    assert connections(Decoder(), torch.zeros(2, 1, 3)) == {"up.weight": (6, 6), "out.weight": (12, 12)}


# Of four hidden neurons one hears the input, the second hears the first, the third the second, the fourth itself.
FEED = torch.tensor([[0.0, 2], [0, 0], [0, 0], [0, 0]])
BACK = torch.tensor([[0.0, 0, 0, 1], [3, 0, 0, 0], [0, 4, 0, 0], [0, 0, 0, 5]])
RECURRENT = {
    "RNNCell": (lambda: nn.RNNCell(2, 4), "weight_ih", "weight_hh", 1),
    "GRUCell": (lambda: nn.GRUCell(2, 4), "weight_ih", "weight_hh", 3),
    "LSTMCell": (lambda: nn.LSTMCell(2, 4), "weight_ih", "weight_hh", 4),
    "SLSTM": (lambda: snn.SLSTM(2, 4), "lstm_cell.weight_ih", "lstm_cell.weight_hh", 4),
    "LIFRecurrentCell": (lambda: norse.LIFRecurrentCell(2, 4), "input_weights", "recurrent_weights", 1),
    "LSNNRecurrentCell": (lambda: norse.LSNNRecurrentCell(2, 4), "input_weights", "recurrent_weights", 1),
    "CobaLIFCell": (lambda: CobaLIFCell(2, 4), "input_weights", "recurrent_weights", 1),
}


class First(nn.Module):
    """Hands the first output of a cell on to the next layer."""

    def __init__(self, cell, *layers):
        super().__init__()
        self.cell, self.layers = cell, nn.Sequential(*layers)

    def forward(self, x):
        out = self.cell(x)
        return self.layers(out[0] if isinstance(out, tuple) else out)


@pytest.mark.parametrize("case", RECURRENT)
def test_neurons_that_wake_one_another(case):
    build, feed, back, gates = RECURRENT[case]
    net = First(build(), nn.Linear(4, 5))
    with torch.no_grad():  # the connections of a gated cell are those of its last gate
        for name, weights in ((feed, FEED), (back, BACK)):
            net.cell.get_parameter(name).zero_()[-4:] = weights
    assert connections(net, torch.zeros(4, 2)) == {
        f"cell.{feed}": (1, 8 * gates),
        f"cell.{back}": (2, 16 * gates),
        "layers.0.weight": (15, 20),
    }


def test_recurrent_neurons_of_snntorch():
    net = nn.Sequential(weighted(nn.Linear(2, 4), FEED), snn.RLeaky(0.5, linear_features=4, init_hidden=True))
    weighted(net[1].recurrent, BACK)
    net.append(nn.Linear(4, 5))
    counted = connections(net, torch.zeros(7, 2))
    assert counted == {"0.weight": (1, 8), "1.recurrent.weight": (2, 16), "2.weight": (15, 20)}
    net[1] = snn.RLeaky(0.5, all_to_all=False, V=torch.rand(4), init_hidden=True)
    assert connections(net, torch.zeros(7, 2)) == {"0.weight": (1, 8), "2.weight": (5, 20)}
    conv = snn.RLeaky(0.5, conv2d_channels=2, kernel_size=3)
    assert connections(conv, torch.zeros(1, 2, 3, 3)) == {"recurrent.weight": (196, 196)}


@pytest.mark.parametrize(
    ("cell", "shape"),
    [
        (snn.LinearLeaky(0.9, 4, 3, output=True), (5, 2, 4)),
        (snn.LeakyParallel(4, 3, beta=0.9), (5, 2, 4)),
        (LeakyKernel(4, 3, beta=0.9), (5, 2, 4)),
        (snn.RSynaptic(0.9, 0.8, linear_features=4), (2, 4)),
        (norse.LIFRecurrent(4, 3), (5, 2, 4)),
        (norse.LILinearCell(4, 3), (2, 4)),
        (norse.IzhikevichRecurrentCell(4, 3, spiking_method=norse.tonic_spiking), (2, 4)),
    ],
    ids=lambda case: type(case).__name__,
)
def test_cells_have_as_many_connections_as_weights(cell, shape):
    counted = connections(cell, torch.zeros(shape))
    assert counted == {s.name: (int(s.parameter.count_nonzero()), s.parameter.numel()) for s in find_synapses(cell)}


def test_every_rule_names_a_class_that_exists():
    cells = [cell() for cell, *_ in RECURRENT.values()]
    cells += [snn.RLeaky(0.5, linear_features=3), snn.RSynaptic(0.5, 0.5, linear_features=3), norse.LILinearCell(2, 3)]
    cells += [snn.LinearLeaky(0.9, 4, 3), snn.LeakyParallel(4, 3), LeakyKernel(4, 3), nn.Conv1d(1, 1, 1)]
    cells += [norse.LConv2d(1, 1, 1), layer.DropConnectLinear(1, 1), nn.Conv2d(1, 1, 1), nn.Conv3d(1, 1, 1)]
    for rules in (CELLS, LAYERS):
        assert {key for cell in cells for m in cell.modules() for key, _ in rules_for(type(m), rules)} == set(rules)


def test_a_loop_over_time_with_a_recurrence_of_its_own():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.back = weighted(nn.Linear(2, 4), FEED), weighted(nn.Linear(4, 4), BACK)
            self.lif, self.out = snn.Leaky(beta=0.5), nn.Linear(4, 5)

        def forward(self, x):
            spikes, potential = torch.zeros(len(x), 4), self.lif.init_leaky()
            for _ in range(4):
                spikes, potential = self.lif(self.fc(x) + self.back(spikes), potential)
                output = self.out(spikes)
            return output

    assert connections(Net(), torch.rand(2, 2)) == {
        "fc.weight": (1, 8),
        "back.weight": (2, 16),
        "out.weight": (15, 20),
    }


def test_norse_in_sequence_and_an_encoder():
    net = norse.SequentialState(
        norse.PoissonEncoder(4), norse.Lift(nn.Conv2d(1, 2, 3)), norse.LIF(), nn.Flatten(2), norse.LIFRecurrent(8, 3)
    )
    counted = connections(net, torch.rand(2, 1, 4, 4))
    assert counted["1.lifted_module.weight"] == (72, 72)
    assert counted["4.input_weights"] == (24, 24)
    net = nn.Sequential(encoding.LatencyEncoder(4, step_mode="m"), nn.Linear(5, 2), neuron.LIFNode(step_mode="m"))
    assert connections(net, torch.rand(2, 5)) == {"1.weight": (10, 10)}


def test_one_weight_in_two_layers_connects_twice():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    assert connections(net, torch.zeros(1, 3)) == {"0.weight": (18, 18)}


def test_one_layer_called_twice_connects_once_with_all_inputs_that_it_gets():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = gate(torch.tensor([1.0, 1, 0, 0])), gate(torch.tensor([0.0, 1, 1, 0]))
            self.fc = nn.Linear(4, 5)

        def forward(self, x):
            return self.fc(self.a(x)) + self.fc(self.b(x))

    assert connections(Twice(), torch.zeros(2, 4))["fc.weight"] == (15, 20)


def test_weights_that_are_standardised_before_use_carry_on_but_are_not_counted():
    net = nn.Sequential(weighted(layer.WSLinear(2, 2), [0.0, 0, 0, 1]), weighted(nn.Linear(2, 2), [1.0, 0, 0, 0]))
    assert connections(net, torch.zeros(1, 2)) == {"1.weight": (1, 4)}
    assert connections(net, torch.zeros(1, 2), include=["0.weight"]) == {"0.weight": (1, 4), "1.weight": (0, 4)}


@pytest.mark.parametrize(("inputs", "outputs"), [(2**24 + 3, 1), (4099, 4099)])
def test_counts_are_exact_beyond_the_integers_of_float32(inputs, outputs):
    net = weighted(nn.Linear(inputs, outputs, bias=False), torch.ones(outputs, inputs))
    assert connections(net, torch.zeros(1, inputs)) == {"weight": (inputs * outputs, inputs * outputs)}


def test_counts_are_exact_in_bfloat16_under_autocast_and_for_a_compiled_network():
    net = nn.Sequential(nn.Conv2d(301, 1, 3, padding=1), nn.Flatten(), nn.Linear(25, 1)).bfloat16()
    for parameter in find_synapses(net).parameters:
        nn.init.ones_(parameter)
    compiled, x = torch.compile(net, backend="eager"), torch.zeros(1, 301, 5, 5, dtype=torch.bfloat16)
    compiled(x)
    with torch.autocast("cpu", torch.bfloat16):
        counted = connections(compiled, x)
    assert list(counted.values()) == [(301 * 13 * 13, 301 * 13 * 13), (25, 25)]


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_it_was(fails):
    nodes = [neuron.ParametricLIFNode(), neuron.SlidingPSN(k=2), snn.Leaky(beta=0.5, init_hidden=True)]
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), *nodes, nn.Linear(3, 4))
    x = torch.rand(5, 3)
    net(x).sum().backward()  # potentials and a queue with a graph behind them
    before = {key: value.clone() for key, value in net.state_dict().items()}
    held, queue = [dict(vars(module)) for module in net.modules()], list(net[3].queue)
    if fails:
        with pytest.raises(RuntimeError):
            connections(nn.Sequential(net, nn.Linear(9, 1)), x)
    else:
        assert connections(net, x[:2])["5.weight"] == (12, 12)
    for module, attributes in zip(net.modules(), held):
        assert vars(module).keys() == attributes.keys()
        assert all(vars(module)[key] is value for key, value in attributes.items())
    assert len(queue) == 1
    assert net[3].queue[0] is queue[0]
    assert net[2].v.grad_fn is not None
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


class Homemade(nn.Module):
    """A neuron of the user's own."""

    def forward(self, x):
        return (x * 0.5 - 1 > 0).float()


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.heaviside(x, x)


class Loop(nn.Module):
    """Thresholds in the middle of a forward function."""

    def __init__(self, spike):
        super().__init__()
        self.spike, self.fc, self.out = spike, nn.Linear(2, 3), nn.Linear(3, 1)

    def forward(self, x):
        return self.out(self.spike(self.fc(x)))


def test_a_neuron_of_ones_own_is_refused_until_it_is_named():
    net = nn.Sequential(weighted(nn.Linear(2, 4), FEED), nn.Sequential(Homemade()), nn.Linear(4, 1))
    with pytest.raises(UsageError, match=r"through '1.0' \(Homemade\), which calls 'gt' on a signal; neurons= names"):
        connections(net, torch.rand(4, 2))
    assert connections(net, torch.rand(4, 2), neurons="1.*") == {"0.weight": (1, 8), "2.weight": (1, 4)}
    with pytest.raises(UsageError, match=r"neurons: no module's name matches '1.1'; did you mean '1.0'\?"):
        connections(net, torch.rand(4, 2), neurons=["1.1"])
    with pytest.raises(
        UsageError, match=r"'1' \(Flatten\), which made \(4, 3\) of \(4, 1, 3\) and not an output for each"
    ):
        connections(nn.Sequential(nn.Conv1d(1, 1, 1), nn.Flatten()), torch.rand(4, 1, 3), neurons=["1"])


@pytest.mark.parametrize(
    ("spike", "function"),
    [
        (Spike.apply, "heaviside"),
        (snn.surrogate.atan(), "gt"),
        (lambda v: torch.ge(v, 1.0, out=torch.empty(v.shape)), "ge"),
        (lambda v: v.clone().gt_(1.0), "gt"),
        (lambda v: v.sign().relu(), "sign"),
        (lambda v: v.round().int().float(), "int"),
        (lambda v: v if v.max() > 1 else -v, "gt"),
        (lambda v: v / v.max().item(), "item"),
        (lambda v: torch.bernoulli(v), "bernoulli"),
        (lambda v: nn.functional.one_hot(v.argmax(1), 3).float(), "argmax"),
        (lambda v: v.nan_to_num(), "nan_to_num"),
    ],
)
def test_thresholds_and_decisions_outside_a_neuron_are_refused(spike, function):
    with pytest.raises(UsageError, match=f"through Loop, which calls '{function}' on a signal"):
        connections(Loop(spike), torch.rand(4, 2))


@pytest.mark.parametrize(
    ("net", "shape", "message"),
    [
        (nn.Bilinear(2, 2, 2), (1, 2), "no rule knows 'weight' of Bilinear, .* exclude='weight' says"),
        (parametrizations.weight_norm(nn.Bilinear(2, 2, 2)), (1, 2), "no rule knows 'weight' of Bilinear"),
        (nn.LSTM(2, 2), (1, 1, 2), "was not seen to reach 'weight_ih_l0' of LSTM .* exclude='weight_ih_l0' leaves"),
        (nn.TransformerEncoderLayer(4, 2, 4), (3, 2, 4), "was not seen to reach 'self_attn.in_proj_weight' of Multi"),
        (nn.Linear(2, 2), (1, 4, 4, 2), r"through Linear, which got \(1, 4, 4, 2\): 1 dimensions and in front"),
        (nn.Conv2d(1, 1, 1), (2, 2), r"through Conv2d, which got \(2, 2\)"),
    ],
    ids=lambda case: type(case).__name__,
)
def test_what_cannot_be_followed_is_refused(net, shape, message):
    with pytest.raises(UsageError, match=message):
        connections(net, torch.rand(shape))


def test_a_layer_that_is_never_called_or_called_on_two_sizes_is_refused():
    net = nn.Sequential(nn.Linear(2, 2))
    net[0].auxiliary = nn.Linear(2, 2)
    with pytest.raises(UsageError, match=r"was not seen to reach '0.auxiliary.weight' of Linear"):
        connections(net, torch.rand(1, 2))
    assert connections(net, torch.rand(1, 2), exclude=["*auxiliary*"]) == {"0.weight": (4, 4)}
    conv = nn.Conv1d(1, 1, 3)
    with pytest.raises(UsageError, match=r"'0' \(Conv1d\), which was given \(1, 8\) and \(1, 6\)"):
        connections(nn.Sequential(conv, conv), torch.rand(1, 1, 8))


def test_inputs_that_cannot_carry_a_signal_are_refused():
    with pytest.raises(UsageError, match=r"from floating-point inputs, not torch.uint8; convert x first"):
        connections(nn.Linear(2, 2), torch.ones(1, 2, dtype=torch.uint8))
