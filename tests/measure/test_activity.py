"""Firing rates against a plain loop over every sample, time step and neuron."""

from __future__ import annotations

import norse.torch as norse
import pytest
import snntorch as snn
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from synaprune.errors import UsageError
from synaprune.measure import FiringRates

T, N = 6, 5


def drive(*size, scale=1.5):
    return torch.rand(*size, generator=torch.Generator().manual_seed(1)) * scale


def brute_force(spikes):
    """Count over spikes [T, N, ...]: the rate, and (silent neurons, neurons)."""
    per_neuron = [0] * spikes[0, 0].numel()
    for step in spikes:
        for sample in step:
            for index, value in enumerate(sample.flatten().tolist()):
                per_neuron[index] += value != 0
    lived = spikes.shape[0] * spikes.shape[1] * len(per_neuron)
    return sum(per_neuron) / lived, (per_neuron.count(0), len(per_neuron))


def deaf_linear(inputs, outputs):
    """A linear layer whose first output never gets any current."""
    linear = layer.Linear(inputs, outputs, bias=False)
    with torch.no_grad():
        linear.weight.copy_(drive(outputs, inputs))
        linear.weight[0] = 0
    return linear


def test_literal_counts():
    class Parrot(neuron.LIFNode):
        def forward(self, x):
            return x

    net = Parrot(step_mode="m")
    spikes = torch.tensor([[[1, 0, 0], [1, 0, 1]], [[1, 0, 0], [0, 0, 0]]]).float()  # [T=2, N=2, 3]
    with FiringRates(net) as activity:
        net(spikes)
    assert activity.rates() == {"": 4 / 12}
    assert activity.silent() == {"": (1, 3)}


@pytest.mark.parametrize("step_mode", ["m", "s"])
def test_spikingjelly_in_both_step_modes(step_mode):
    net = nn.Sequential(deaf_linear(4, 3), neuron.LIFNode(), deaf_linear(3, 2), neuron.ParametricLIFNode())
    functional.set_step_mode(net, step_mode)
    x = drive(T, N, 4, scale=2)
    with FiringRates(net) as activity:
        out = net(x) if step_mode == "m" else torch.stack([net(step) for step in x])
    functional.reset_net(net)
    functional.set_step_mode(net, "m")
    hidden, expected = net[1](net[0](x)), brute_force(out)
    assert 0 < expected[0] < 1
    assert activity.rates() == {"1": brute_force(hidden)[0], "3": expected[0]}
    assert activity.silent() == {"1": brute_force(hidden)[1], "3": expected[1]}
    assert activity.silent()["1"] == (1, 3)


def test_images_and_several_calls_add_up():
    net = nn.Sequential(layer.Conv2d(1, 2, 3, step_mode="m"), neuron.IFNode(step_mode="m"))
    batches = [drive(T, N, 1, 5, 5, scale=4), drive(T, 2, 1, 5, 5, scale=2)]
    outputs = []
    with FiringRates(net) as activity, torch.inference_mode():
        for batch in batches:
            functional.reset_net(net)
            outputs.append(net(batch))
    with activity:  # goes on counting, now outside inference_mode
        functional.reset_net(net)
        outputs.append(net(batches[0]))
    rate, silent = brute_force(torch.cat(outputs, dim=1))
    assert activity.rates() == {"1": rate}
    assert activity.silent() == {"1": silent}
    assert silent[1] == 2 * 3 * 3


@pytest.mark.parametrize(
    "node",
    [neuron.PSN(T=T), neuron.MaskedPSN(k=2, T=T, step_mode="m"), neuron.SlidingPSN(k=2, step_mode="m")],
    ids=lambda node: type(node).__name__,
)
def test_parallel_spiking_neurons(node):
    with FiringRates(node) as activity:
        out = node(drive(T, N, 3, scale=4))
    assert (activity.rates()[""], activity.silent()[""]) == brute_force(out)


def test_a_subclass_that_makes_its_own_time_steps():
    class Static(neuron.LIFNode):
        """Takes the constant input of all steps, [N, ...], and returns [T, N, ...]."""

        def forward(self, x):
            return super().forward(x.expand(T, *x.shape))

    node = Static(step_mode="m")
    with FiringRates(node) as activity:
        out = node(drive(N, 3, scale=3))
    assert out.shape == (T, N, 3)
    assert (activity.rates()[""], activity.silent()[""]) == brute_force(out)


def test_signed_and_graded_spikes_count_once_each():
    ternary = neuron.TernaryIFNode(step_mode="m")
    graded = snn.Leaky(beta=0.9, graded_spikes_factor=2.5)
    with FiringRates(nn.ModuleList([ternary, graded])) as activity:
        out = ternary(drive(T, N, 3, scale=4) - 2)
        spikes, _ = graded(drive(N, 3, scale=2))
    assert (out < 0).any()
    assert 2.5 in spikes
    assert activity.rates() == {"0": brute_force(out)[0], "1": brute_force(spikes[None])[0]}


@pytest.mark.parametrize(
    "build",
    [
        lambda: snn.Leaky(beta=0.9, init_hidden=True),
        lambda: snn.Leaky(beta=0.9, init_hidden=True, output=True),
        lambda: snn.RLeaky(beta=0.9, linear_features=3, init_hidden=True, output=True),
        lambda: snn.SLSTM(3, 4, threshold=0.05, init_hidden=True, output=True),
    ],
    ids=["spikes", "spikes and membrane", "recurrent", "LSTM"],
)
def test_snntorch_step_by_step(build):
    torch.manual_seed(0)
    node = build()
    with FiringRates(node) as activity:
        outputs = [node(x) for x in drive(T, N, 3)]
    spikes = torch.stack([out[0] if isinstance(out, tuple) else out for out in outputs])
    assert (activity.rates()[""], activity.silent()[""]) == brute_force(spikes)
    assert activity.rates()[""] > 0


def test_snntorch_over_whole_sequences():
    nodes = nn.ModuleList(
        [
            snn.StateLeaky(beta=0.9, channels=3),
            snn.LeakyParallel(3, 4, beta=0.9),
            snn.StateLeaky(beta=0.9, channels=3, output=False),  # voltages
        ]
    )
    x = drive(T, N, 3)
    with FiringRates(nodes) as activity:
        spikes, parallel = nodes[0](x)[0], nodes[1](x)
        nodes[2](x)
    assert activity.rates() == {"0": brute_force(spikes)[0], "1": brute_force(parallel)[0]}


def test_norse_cells_sequences_and_leaky_integrators():
    net = nn.ModuleDict(
        {
            "cell": norse.LIFCell(),
            "recurrent": norse.LIFRecurrentCell(3, 4),
            "sequence": norse.LIF(),
            "adaptive": norse.LSNNRecurrent(3, 4),
            "readout": norse.LICell(),
        }
    )
    x = drive(T, N, 3, scale=40)
    with FiringRates(net) as activity:
        state, cell = None, []
        for step in x:
            spikes, state = net["cell"](step, state)
            net["readout"](spikes)
            cell.append(spikes)
        recurrent, _ = net["recurrent"](x[0])
        sequence, _ = net["sequence"](x)
        adaptive, _ = net["adaptive"](x)
    assert activity.rates() == {
        "cell": brute_force(torch.stack(cell))[0],
        "recurrent": brute_force(recurrent[None])[0],
        "sequence": brute_force(sequence)[0],
        "adaptive": brute_force(adaptive)[0],
    }
    assert activity.rates()["sequence"] == activity.rates()["cell"] > 0


def test_hooks_are_gone_after_the_block_even_after_an_error():
    net = neuron.LIFNode(step_mode="m")
    activity = FiringRates(net)
    with activity:
        net(drive(T, N, 3))
    functional.reset_net(net)
    with pytest.raises(IndexError), activity:
        net(torch.empty(0))
    assert not net._forward_hooks
    before = activity.rates()
    functional.reset_net(net)
    net(torch.zeros(T, N, 3))
    assert activity.rates() == before


def test_modules_that_do_not_spike_or_were_never_called_are_left_out():
    net = nn.ModuleList([neuron.LIFNode(), neuron.LIFNode(), neuron.NonSpikingLIFNode()])
    with FiringRates(net) as activity:
        net[0](drive(N, 3))
        net[2](drive(T, N, 3))
    assert list(activity.rates()) == ["0"]


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(UsageError, match=r"no spiking neuron .* in Linear"):
        FiringRates(nn.Linear(2, 2))
    with FiringRates(neuron.LIFNode()) as activity:
        pass
    with pytest.raises(UsageError, match="no firing was recorded: call the network inside"):
        activity.rates()
    node = neuron.LIFNode()
    with FiringRates(node):
        node(drive(N, 3))
        functional.reset_net(node)
        with pytest.raises(UsageError, match=r"had \(3,\) neurons and now has \(4,\)"):
            node(drive(N, 4))
