"""Synaptic operations of whole networks: against loops over every pair, NeuroBench and SpikingJelly."""

from __future__ import annotations

import copy

import norse.torch as norse
import pytest
import snntorch as snn
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from synaprune.errors import UsageError
from synaprune.measure import OperationCounter, operations
from synaprune.models import SpikingCNN, SpikingMLP

T, N = 6, 5


def drive(*size, scale=1.5):
    return torch.rand(*size, generator=torch.Generator().manual_seed(1)) * scale


def thin(module, share=0.4, scale=3.0):
    """Scale all weights, and leave a share of them."""
    generator = torch.Generator().manual_seed(2)
    for parameter in module.parameters():
        if parameter.ndim >= 2:
            mask = torch.rand(parameter.shape, generator=generator) < share
            parameter.data = parameter.data.abs() * mask * scale
    return module


def pairs(inputs, weight):
    """Count by a loop the pairs of a non-zero input [..., in] and a non-zero weight [out, in]."""
    count = 0
    for row in inputs.reshape(-1, inputs.shape[-1]).tolist():
        for outgoing in weight.tolist():
            count += sum(a != 0 and b != 0 for a, b in zip(row, outgoing))
    return count


def two_layers(step_mode):
    torch.manual_seed(0)
    net = thin(nn.Sequential(layer.Linear(4, 6), neuron.LIFNode(), layer.Linear(6, 3), neuron.IFNode()))
    functional.set_step_mode(net, step_mode)
    return net


@pytest.mark.parametrize("step_mode", ["m", "s"])
def test_spikingjelly_in_both_step_modes(step_mode):
    net, x = two_layers("m"), drive(T, N, 4)
    hidden = net[1](net[0](x))
    functional.reset_net(net)
    functional.set_step_mode(net, step_mode)
    found = operations(net, x, time_first=True, forward=net if step_mode == "m" else lambda x: [net(s) for s in x])
    first, second = found.layers["0.weight"], found.layers["2.weight"]
    assert 0 < hidden.mean() < 1
    assert (first.effective_macs, first.effective_acs) == (pairs(x, net[0].weight) / N, 0)
    assert (second.effective_macs, second.effective_acs) == (0, pairs(hidden, net[2].weight) / N)
    assert (second.weight_blind_acs, second.weight_blind_macs) == (int(hidden.sum()) * 3 / N, 0)
    assert (first.dense, second.dense) == (T * 24, T * 18)
    assert second.activation_sparsity == 1 - int(hidden.sum()) / hidden.numel()
    assert second.connection_sparsity == int((net[2].weight == 0).sum()) / 18
    assert second.weight_bytes == second.effective_acs * 4
    total = found.total
    assert (total.effective_acs, total.effective_macs) == (second.effective_acs, first.effective_macs)
    assert (total.sops, total.dense) == (second.sops, T * 42)


def test_where_spikingjelly_sees_no_difference():
    """Its counter gives one number at every connectivity, which is the weight-blind one."""
    net, x = two_layers("m"), (drive(T, N, 4) > 0.5).float()
    hidden = net[1](net[0](x)).detach()
    for share in (1.0, 0.1):
        net[2].weight.data = (torch.arange(18).reshape(3, 6) % 10 < 10 * share) * 1.5
        functional.reset_net(net)
        with torch.no_grad(), DispatchCounterMode([blind := SynOpCounter()]):
            net(x)
        found = operations(net, x, time_first=True)
        assert found.total.weight_blind_acs * N == blind.get_total() > 0
        assert found.layers["2.weight"].effective_acs * N == pairs(hidden, net[2].weight) > 0


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_the_papers_networks_compute_their_first_layer_once(model):
    torch.manual_seed(0)
    net = SpikingMLP(9, 6, 2, T=4) if model == "mlp" else SpikingCNN(1, 2, 2, T=4, image_size=4)
    x = drive(3, 9) if model == "mlp" else drive(3, 1, 4, 4)
    found = operations(thin(net, scale=4), x)
    first, *rest = found.layers.values()
    assert first.dense == (54 if model == "mlp" else 2 * 10 * 10)  # 4 × 4 places, of 3 × 3 taps 10 · 10 in the image
    assert first.effective_acs == 0 < first.effective_macs
    assert [each.effective_macs for each in rest] == [0] * len(rest)
    assert found.total.sops > 0
    assert found.unknown == found.unused == ()


def pattern(*size, step, modulus):
    return (torch.arange(torch.Size(size).numel()) * step % modulus).reshape(size)


class Recurrent(nn.Module):
    """snnTorch neurons; all values are multiples of a power of two, so that no machine rounds."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.lif1 = snn.Leaky(beta=0.5, threshold=0.5, init_hidden=True)
        self.fc = nn.Linear(4 * 3 * 3, 5)
        self.lif2 = snn.RLeaky(beta=0.5, threshold=0.25, linear_features=5, init_hidden=True, output=True)
        for weight in (self.conv.weight, self.fc.weight, self.lif2.recurrent.weight):
            values = (pattern(*weight.shape, step=7, modulus=11) - 4) / 4
            weight.data = values * (pattern(*weight.shape, step=5, modulus=7) < 3)
        for bias in (self.conv.bias, self.fc.bias, self.lif2.recurrent.bias):
            bias.data = torch.full_like(bias, 0.125)

    def forward(self, x):
        return self.lif2(self.fc(self.lif1(self.conv(x)).flatten(1)))


@pytest.mark.parametrize(
    ("coding", "effective_macs", "effective_acs"), [("spikes", 0.0, 471.0), ("pixels", 898.25, 321.0)]
)
def test_neurobench_counts_the_same(coding, effective_macs, effective_acs):
    """The figures are those of `SynapticOperations` and `ConnectionSparsity` in NeuroBench 2.3.0."""
    x = pattern(6, 4, 2, 5, 5, step=13, modulus=31) / 8
    x = (x < 1).float() if coding == "spikes" else x
    net = Recurrent()
    total = operations(net, x, time_first=True, forward=lambda x: [net(step) for step in x]).total
    assert (total.effective_macs, total.effective_acs, total.dense) == (effective_macs, effective_acs, 3582.0)
    assert round(total.connection_sparsity, 4) == 0.6137


def test_snntorch_lstm():
    torch.manual_seed(0)
    cell = thin(snn.SLSTM(4, 4, threshold=0.1))
    x = (drive(T, N, 4) > 1).float()
    found = operations(cell, x, time_first=True, forward=lambda x: [cell(step) for step in x])
    assert list(found.layers) == ["lstm_cell.weight_ih", "lstm_cell.weight_hh"]
    feed, back = found.layers.values()
    assert feed.effective_acs == pairs(x, cell.lstm_cell.weight_ih) / N
    assert back.effective_acs == 0 < back.effective_macs  # its state is analog


@pytest.mark.parametrize("form", ["cell", "sequence"])
def test_norse_recurrent(form):
    torch.manual_seed(0)
    net = thin((norse.LIFRecurrentCell if form == "cell" else norse.LIFRecurrent)(3, 4), share=0.6, scale=20)
    x = (drive(T, N, 3) > 1).float()

    def present(x):
        if form == "sequence":
            return net(x)[0]
        state, spikes = None, []
        for step in x:
            out, state = net(step, state)
            spikes.append(out)
        return torch.stack(spikes)

    with torch.no_grad():
        spikes = present(x)
    found = operations(net, x, time_first=True, forward=present)
    feed, back = found.layers["input_weights"], found.layers["recurrent_weights"]
    assert feed.effective_acs == pairs(x, net.input_weights) / N
    assert back.effective_acs == pairs(spikes[:-1], net.recurrent_weights) / N > 0
    assert back.dense == T * 16
    assert back.connection_sparsity >= 4 / 16  # no neuron excites itself
    assert found.unknown == ()


def test_norse_feed_forward():
    torch.manual_seed(0)
    net = thin(norse.SequentialState(nn.Linear(3, 4), norse.LIFCell(), norse.LILinearCell(4, 2)), scale=40)
    x, spikes = drive(T, N, 3), []

    def present(x):
        state = None
        for step in x:
            _, state = net(step, state)

    with net[1].register_forward_hook(lambda module, args, output: spikes.append(output[0].detach())):
        found = operations(net, x, time_first=True, forward=present)
    assert found.layers["0.weight"].effective_macs == pairs(x, net[0].weight) / N
    assert found.layers["2.input_weights"].effective_acs == pairs(torch.stack(spikes), net[2].input_weights) / N > 0


def test_zeroing_a_layer_shows_in_the_sops_alone():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(100, 60), nn.Linear(60, 10)), (drive(N, 100) > 1).float()
    before = operations(net, x).layers["0.weight"]
    net[0].weight.data *= torch.rand_like(net[0].weight) < 0.05
    after = operations(net, x).layers["0.weight"]
    assert before.effective_acs == before.weight_blind_acs == after.weight_blind_acs
    assert after.effective_acs == pairs(x, net[0].weight) / N
    assert 0.03 < after.effective_acs / before.effective_acs < 0.07


def test_a_layer_is_analog_for_all_calls_or_for_none():
    """An average that happens to be whole in one call would otherwise change kind with the batch size."""
    net = nn.Linear(2, 3)
    with OperationCounter(net) as counter, torch.inference_mode():
        net(torch.zeros(1, 2))
        net(torch.tensor([[1.0, -1.0]]))
    assert (counter.result(2).total.effective_acs, counter.result(2).total.effective_macs) == (3, 0)
    with counter:  # goes on counting, now outside inference_mode
        net(torch.tensor([[0.0, 0.5]]))
    assert (counter.result(3).total.effective_acs, counter.result(3).total.effective_macs) == (0, 3)


def test_batches_add_up():
    net, x = SpikingMLP(9, 6, 2, T=4), drive(12, 9)
    thin(net, scale=4)
    whole = operations(net, x)
    with torch.no_grad(), OperationCounter(net) as counter:
        for batch in x.split(5):
            net(batch)
    assert counter.result(12) == whole
    assert whole.total.sops > 0


def test_padding_that_is_no_zero_is_an_input_like_others():
    circular = nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", bias=False)
    zeros = nn.Conv1d(1, 1, 3, padding=1, bias=False)
    x = torch.tensor([[[1.0, 0, 0, 0]]])
    assert (operations(circular, x).total.effective_acs, operations(circular, x).total.dense) == (3, 12)
    assert (operations(zeros, x).total.effective_acs, operations(zeros, x).total.dense) == (2, 10)


class Masked(nn.Linear):
    def __init__(self, *size):
        super().__init__(*size)
        self.mask = torch.zeros_like(self.weight)
        self.mask[0, 0] = 1

    def forward(self, x):
        return F.linear(x, self.weight * self.mask, self.bias)


class Generated(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Parameter(torch.ones(2, 1)), nn.Parameter(torch.ones(1, 4))

    def forward(self, x):
        return F.linear(x, self.one * self.other)


@pytest.mark.parametrize(
    ("build", "name", "operations_done"),
    [
        (lambda: Masked(4, 3), "weight", 1),
        (lambda: nn.Sequential(prune.random_unstructured(nn.Linear(4, 3), "weight", 7)), "0.weight", 5),
        (lambda: parametrizations.weight_norm(nn.Linear(4, 3)), "weight", 12),
        (lambda: parametrizations.orthogonal(nn.Linear(4, 3)), "weight", 12),
        (lambda: layer.WSLinear(4, 3), "weight", 12),
        (lambda: Generated(), "computed weight", 8),
    ],
    ids=["masked", "pruned by torch", "weight norm", "orthogonal", "standardised", "generated"],
)
def test_the_weights_that_are_really_used_count(build, name, operations_done):
    torch.manual_seed(0)
    found = operations(build(), torch.ones(1, 4))
    assert (list(found.layers), found.unknown, found.unused) == ([name], (), ())
    assert found.total.effective_acs == operations_done


@pytest.mark.parametrize(
    "computed", [lambda net: prune.l1_unstructured(net, "weight", 7), parametrizations.weight_norm]
)
def test_a_weight_that_is_computed_has_the_same_name_in_a_block_of_several_calls(computed):
    net = nn.Sequential(computed(nn.Linear(4, 3)))
    with OperationCounter(net) as counter:
        net(torch.ones(1, 4))
    assert counter.result(1).layers == operations(net, torch.ones(1, 4)).layers


class Blur(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("kernel", torch.tensor([[[0.5, 0.0, 0.5]]]))

    def forward(self, x):
        return F.conv1d(x, self.kernel)


def test_a_fixed_kernel_counts_under_its_name():
    found = operations(nn.Sequential(Blur(), nn.Linear(2, 3)), torch.ones(1, 1, 4))
    assert {name: each.effective_acs for name, each in found.layers.items()} == {"0.kernel": 4, "1.weight": 6}


def test_parameters_that_no_rule_knows_and_tied_ones_count_too():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.mine = nn.Parameter(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
            self.tied = nn.Linear(2, 2)
            self.tied.weight = self.mine

        def forward(self, x):
            return self.tied(F.linear(x, self.mine).clamp(0, 1))

    found = operations(Own(), torch.ones(2, 2))
    assert {name: each.effective_acs for name, each in found.layers.items()} == {"mine": 6}


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.memory = nn.LSTM(4, 4)
        self.frozen = nn.Sequential(torch.jit.script(nn.Linear(4, 4)))
        self.spare = nn.Linear(4, 4)
        self.place = nn.Parameter(torch.zeros(3, 4))

    def forward(self, x):
        x = self.fc(x + self.place)
        x = self.frozen(self.memory(self.attention(x, x, x)[0])[0])
        return x @ x.transpose(-1, -2)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_what_cannot_be_counted_is_named():
    found = operations(Attentive(), torch.ones(2, 3, 4))
    assert list(found.layers) == ["fc.weight"]
    assert found.unknown == (
        ("attention", "multi_head_attention_forward"),
        ("memory", "lstm"),
        ("Attentive", "matmul"),
        ("place", "in no product that is known"),
        ("frozen.0.weight", "in no product that is known"),
    )
    assert found.unused == ("spare.weight",)


def test_neurons_that_multiply_matrices_and_sparse_inputs_are_named():
    time_mixing = operations(nn.Sequential(layer.Linear(3, 2), neuron.PSN(T=4)), torch.ones(4, 2, 3), time_first=True)
    assert time_mixing.unknown == (("1", "addmm"),)
    decay = operations(snn.LinearLeaky(0.9, 3, 2), torch.ones(4, 2, 3), time_first=True)
    assert (list(decay.layers), decay.unknown) == (["linear.weight"], (("LinearLeaky", "conv1d"),))
    cell = norse.LIFRecurrentCell(3, 2)
    found = operations(cell, torch.ones(4, 3), forward=lambda x: cell(x.to_sparse()))
    assert found.unknown == (
        ("LIFRecurrentCell", "_sparse_mm"),
        ("input_weights", "in no product that is known"),
        ("recurrent_weights", "in no product that is known"),
    )
    assert found.total.dense == 0


def test_the_model_is_left_as_it_was():
    net = two_layers("m").append(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), snn.Leaky(beta=0.9)))
    net[1](net[0](drive(T, 2, 4)))  # states that a smaller batch left behind, one with its graph
    net[4](torch.ones(2, 3))
    net[2].eval()
    potential, membrane, state = net[1].v, net[4][2].mem, copy.deepcopy(net.state_dict())
    first = operations(net, drive(T, N, 4), time_first=True, forward=lambda x: [net[4](step) for step in net[:4](x)])
    assert first == operations(
        net, drive(T, N, 4), time_first=True, forward=lambda x: [net[4](step) for step in net[:4](x)]
    )
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        operations(net, drive(T, N, 7))
    assert net[1].v is potential
    assert net[4][2].mem is membrane
    assert [module.training for module in net] == [True, True, False, True, True]
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_dropout_is_off_and_products_outside_the_model_do_not_count():
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(50, 2))
    assert operations(net, torch.ones(1, 50)).total.effective_acs == 100
    with OperationCounter(net.eval()) as counter:
        net(torch.ones(1, 50)) @ torch.ones(2, 2)
    assert counter.result().unknown == ()


@pytest.mark.slow
def test_a_compiled_model_runs_uncompiled():
    net = thin(SpikingMLP(9, 6, 2, T=4), scale=4)
    compiled, x = torch.compile(net, backend="eager"), drive(3, 9)
    expected = operations(net, x)
    with torch.no_grad():
        compiled(x)
        with OperationCounter(net) as counter:
            compiled(x)
    assert counter.result() == expected
    assert operations(compiled, x).total == expected.total


class Looped(nn.Module):
    """As most snnTorch networks: the time steps [T, N, ...] are walked inside."""

    def __init__(self):
        super().__init__()
        self.fc, self.lif = nn.Linear(4, 3), snn.Leaky(beta=0.9)

    def forward(self, x):
        return [self.lif(self.fc(step)) for step in x]


def test_time_and_samples_are_not_mixed_up():
    for net in (Looped(), two_layers("m")):
        x = torch.ones(T, N, 4)
        with pytest.raises(UsageError, match=r"dimension 0 .* 6 samples, but the neurons saw 5, .* time_first=True"):
            operations(net, x)
        assert operations(net, x, time_first=True).samples == N
        assert operations(net, x, samples=3).samples == 3
    net, x = SpikingMLP(4, 3, 2), torch.ones(N, 4)
    with pytest.raises(UsageError, match=r"dimension 1 .* 4 samples, but the neurons saw 5, .* time_first=False"):
        operations(net, x, time_first=True)
    with OperationCounter(net) as counter:
        net(x)
        assert counter.result().samples == N
        net(x)
        with pytest.raises(UsageError, match=r"called 2 times, for batches or for time steps: .* result\(samples="):
            counter.result()


def test_bad_input_is_refused_in_a_sentence():
    with pytest.raises(UsageError, match="ReLU has no weights of two or more dimensions"):
        operations(nn.ReLU(), torch.ones(1, 2))
    net = nn.Linear(2, 2)
    with OperationCounter(net) as counter:
        pass
    with pytest.raises(UsageError, match="no product of Linear was seen: call the model inside"):
        counter.result(1)
    with pytest.raises(UsageError, match="an input to 'weight' is NaN or infinite"):
        operations(net, torch.tensor([[1.0, torch.nan]]))
    with pytest.raises(UsageError, match="cannot be read from the model's input; say samples="):
        operations(net, [torch.ones(2)], forward=lambda x: net(x[0]))
    with pytest.raises(UsageError, match="samples must be a whole number of at least 1, not 0"):
        operations(net, torch.ones(0, 2))
    net.weight.data[0, 0] = torch.nan
    with pytest.raises(UsageError, match="a value of 'weight' is NaN or infinite"):
        operations(net, torch.ones(1, 2))
