"""The rules against the real classes of torch, SpikingJelly, snnTorch and Norse, with literal answers."""

from __future__ import annotations

import subprocess
import sys

import norse.torch as norse
import pytest
import snntorch as snn
import torch
from norse.torch.module.coba_lif import CobaLIFCell
from norse.torch.module.lif_mc import LIFMCRecurrentCell
from snntorch._neurons.leakykernel import LeakyKernel
from spikingjelly.activation_based import encoding, layer, neuron, rnn
from spikingjelly.activation_based.ann2snn.operators import TDConv2d, TDLayerNorm, TDLinear
from torch import nn
from torch.nn.utils import parametrizations, prune

from synaprune.errors import UsageError
from synaprune.synapses import RULES, find_synapses, rules_for


def names(module, **patterns):
    return list(find_synapses(module, **patterns).names)


def unknown(module):
    return list(find_synapses(module).unknown)


def excluded(module):
    return [name for name, _ in find_synapses(module).excluded]


TORCH = {
    "Linear": (lambda: nn.Linear(4, 3), ["weight"]),
    "Conv1d": (lambda: nn.Conv1d(2, 3, 3), ["weight"]),
    "Conv2d": (lambda: nn.Conv2d(2, 4, 3, groups=2), ["weight"]),
    "Conv3d": (lambda: nn.Conv3d(2, 3, 3), ["weight"]),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(2, 3, 3), ["weight"]),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 3, 3), ["weight"]),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(2, 3, 3), ["weight"]),
    "RNN": (
        lambda: nn.RNN(4, 3, num_layers=2),
        ["weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"],
    ),
    "GRU": (
        lambda: nn.GRU(4, 3, bidirectional=True),
        ["weight_ih_l0", "weight_hh_l0", "weight_ih_l0_reverse", "weight_hh_l0_reverse"],
    ),
    "LSTM": (lambda: nn.LSTM(4, 3, proj_size=2), ["weight_ih_l0", "weight_hh_l0", "weight_hr_l0"]),
    "RNNCell": (lambda: nn.RNNCell(4, 3), ["weight_ih", "weight_hh"]),
    "GRUCell": (lambda: nn.GRUCell(4, 3), ["weight_ih", "weight_hh"]),
    "LSTMCell": (lambda: nn.LSTMCell(4, 3), ["weight_ih", "weight_hh"]),
    "MultiheadAttention": (
        lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True),
        ["in_proj_weight", "out_proj.weight"],
    ),
    "MultiheadAttention, other sizes": (
        lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
        ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"],
    ),
    "Embedding": (lambda: nn.Embedding(5, 4), []),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(5, 4), []),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), []),
    "LayerNorm": (lambda: nn.LayerNorm([2, 3, 3]), []),
    "RMSNorm": (lambda: nn.RMSNorm([3, 3]), []),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), []),
    "PReLU": (lambda: nn.PReLU(3), []),
}

SPIKINGJELLY = {
    "Linear": (lambda: layer.Linear(4, 3), ["weight"]),
    "Conv2d": (lambda: layer.Conv2d(2, 3, 3), ["weight"]),
    "ConvTranspose2d": (lambda: layer.ConvTranspose2d(2, 3, 3), ["weight"]),
    "DropConnectLinear": (lambda: layer.DropConnectLinear(4, 3), ["weight"]),
    "LinearRecurrentContainer": (
        lambda: layer.LinearRecurrentContainer(neuron.IFNode(), 4, 4, bias=True),
        ["rc.weight"],
    ),
    "TDLinear": (lambda: TDLinear(4, 3), ["weight"]),
    "TDConv2d": (lambda: TDConv2d(2, 3, 3), ["weight"]),
    "TDLayerNorm": (lambda: TDLayerNorm([3, 3]), []),
    "NeuNorm": (lambda: layer.NeuNorm(2, 3, 3), []),
    "WSLinear": (lambda: layer.WSLinear(4, 3), []),
    "WSConv2d": (lambda: layer.WSConv2d(2, 3, 3), []),
    "SynapseFilter": (lambda: layer.SynapseFilter(tau=10.0, learnable=True), []),
    "SpikingLSTM": (
        lambda: rnn.SpikingLSTM(4, 3, 1),
        ["cells.0.linear_ih.weight", "cells.0.linear_hh.weight"],
    ),
    "PopSpikeEncoder": (
        lambda: encoding.PopSpikeEncoderDeterministic(2, 3, 4, (-1, 1), 0.1),
        [],
    ),
    "PSN": (lambda: neuron.PSN(T=4), []),
    "MaskedPSN": (lambda: neuron.MaskedPSN(k=2, T=4), []),
    "SlidingPSN": (lambda: neuron.SlidingPSN(k=2), []),
    "ParametricLIFNode": (lambda: neuron.ParametricLIFNode(), []),
    "GatedLIFNode": (lambda: neuron.GatedLIFNode(T=4, inplane=3), []),
    "KLIFNode": (lambda: neuron.KLIFNode(), []),
    "DSRIFNode": (lambda: neuron.DSRIFNode(T=4), []),
    "TernaryIFNode": (lambda: neuron.TernaryIFNode(), []),
    "ILCLIFNode": (lambda: neuron.ILCLIFNode(2, 3), ["conn.weight"]),
    "FlexSN": (lambda: neuron.FlexSN(core=_core, num_states=1, static_inputs=(_weight(3, 3),)), []),
}

SNNTORCH = {
    "Leaky": (lambda: snn.Leaky(beta=torch.rand(3), learn_beta=True, learn_threshold=True), []),
    "Leaky, a decay per pixel": (lambda: snn.Leaky(beta=torch.rand(2, 3, 3), learn_beta=True), []),
    "Synaptic": (lambda: snn.Synaptic(0.9, 0.8, learn_alpha=True, learn_beta=True), []),
    "RLeaky": (lambda: snn.RLeaky(beta=0.5, linear_features=3, learn_beta=True), ["recurrent.weight"]),
    "RLeaky, convolution": (
        lambda: snn.RLeaky(beta=0.5, conv2d_channels=2, kernel_size=3),
        ["recurrent.weight"],
    ),
    "RLeaky, one to one": (lambda: snn.RLeaky(beta=0.5, all_to_all=False, V=torch.rand(2, 3)), []),
    "RSynaptic": (lambda: snn.RSynaptic(0.9, 0.8, linear_features=3), ["recurrent.weight"]),
    "SLSTM": (lambda: snn.SLSTM(4, 3, learn_threshold=True), ["lstm_cell.weight_ih", "lstm_cell.weight_hh"]),
    "SConv2dLSTM": (lambda: snn.SConv2dLSTM(2, 3, 3), ["conv.weight"]),
    "LinearLeaky": (lambda: snn.LinearLeaky(0.9, 4, 3, learn_beta=True), ["linear.weight"]),
    "LeakyParallel": (lambda: snn.LeakyParallel(4, 3, beta=0.9, learn_beta=True), ["rnn.weight_ih_l0"]),
    "LeakyKernel": (lambda: LeakyKernel(4, 3, beta=0.9), ["rnn.weight_ih_l0"]),
    "GradedSpikes": (lambda: snn.GradedSpikes(3, constant_factor=1.0), []),
}

NORSE = {
    "LIFCell": (lambda: norse.LIFCell(), []),
    "LIFRecurrentCell": (lambda: norse.LIFRecurrentCell(4, 3), ["input_weights", "recurrent_weights"]),
    "LIFRecurrent": (lambda: norse.LIFRecurrent(4, 3), ["input_weights", "recurrent_weights"]),
    "LSNNRecurrentCell": (lambda: norse.LSNNRecurrentCell(4, 3), ["input_weights", "recurrent_weights"]),
    "LSNNRecurrent": (lambda: norse.LSNNRecurrent(4, 3), ["input_weights", "recurrent_weights"]),
    "IzhikevichRecurrentCell": (
        lambda: norse.IzhikevichRecurrentCell(4, 3, spiking_method=norse.tonic_spiking),
        ["input_weights", "recurrent_weights"],
    ),
    "CobaLIFCell": (lambda: CobaLIFCell(4, 3), ["input_weights", "recurrent_weights"]),
    "LIFMCRecurrentCell": (lambda: LIFMCRecurrentCell(4, 3), ["input_weights", "recurrent_weights"]),
    "LILinearCell": (lambda: norse.LILinearCell(4, 3), ["input_weights"]),
    "LConv2d": (lambda: norse.LConv2d(2, 3, 3), ["weight"]),
    "TemporalReceptiveField": (lambda: norse.TemporalReceptiveField((2, 3, 3)), []),
    "SpatialReceptiveField2d": (lambda: norse.SpatialReceptiveField2d(1, 9, torch.rand(2, 5)), []),
}


def _core(x, v, weight):
    return (x + v > 1).float(), v + x


def _weight(*shape):
    return nn.Parameter(torch.ones(shape))


@pytest.mark.parametrize("library", [TORCH, SPIKINGJELLY, SNNTORCH, NORSE], ids=["torch", "sj", "snn", "norse"])
def test_every_rule_against_the_real_classes(library):
    found = {case: names(build()) for case, (build, _) in library.items()}
    assert found == {case: expected for case, (_, expected) in library.items()}


@pytest.mark.parametrize("library", [TORCH, SPIKINGJELLY, SNNTORCH, NORSE], ids=["torch", "sj", "snn", "norse"])
def test_no_covered_class_is_unknown(library):
    assert {case: unknown(build()) for case, (build, _) in library.items() if unknown(build())} == {}


def test_every_rule_names_a_class_that_exists():
    cases = [build for library in (TORCH, SPIKINGJELLY, SNNTORCH, NORSE) for build, _ in library.values()]
    classes = {type(module) for build in cases for module in build().modules()}
    assert {key for cls in classes for key, _ in rules_for(cls, RULES)} == set(RULES)


def test_what_a_shape_rule_would_prune_is_shown_with_its_reason():
    net = nn.Sequential(layer.Linear(4, 3), neuron.PSN(T=4), layer.WSLinear(3, 2), nn.Embedding(5, 4))
    assert find_synapses(net).excluded == (
        ("1.weight", "PSN: neuron parameter"),
        ("1.bias", "PSN: neuron parameter"),
        ("2.weight", "WSLinear: standardised before use, so that a zero here is no absent synapse"),
        ("2.gain", "WSLinear: normalisation"),
        ("3.weight", "Embedding: embedding"),
    )


def test_subclasses_follow_their_parent_and_own_additions_are_unknown():
    class Gated(nn.Linear):
        def __init__(self):
            super().__init__(4, 3)
            self.gate = _weight(3, 3)
            self.scale = _weight(3)

    class Threshold(neuron.LIFNode):
        def __init__(self):
            super().__init__()
            self.threshold = _weight(3, 1, 1)

    assert names(Gated()) == ["weight"]
    assert unknown(Gated()) == [("gate", "Gated")]
    assert (names(Threshold()), unknown(Threshold()), excluded(Threshold())) == ([], [], ["threshold"])


def test_bare_parameters_and_unruled_layers_are_reported_and_can_be_included():
    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = _weight(3, 3)
            self.scale = _weight(3)
            self.more = nn.ParameterList([_weight(2, 2)])
            self.pairs = nn.Bilinear(2, 2, 1)

    net = Mixer()
    assert names(net) == []
    assert unknown(net) == [("mix", "Mixer"), ("more.0", "ParameterList"), ("pairs.weight", "Bilinear")]
    assert names(net, include=["mix", "sc*"]) == ["mix", "scale"]
    assert find_synapses(net, include="mix").chosen[0].rule == "include='mix'"


def test_weights_that_are_computed_are_known_by_their_own_name_and_no_parameters():
    for net in (
        parametrizations.weight_norm(nn.Linear(4, 3)),
        prune.random_unstructured(nn.Linear(4, 3), "weight", 0.5),
        parametrizations.weight_norm(nn.Bilinear(2, 3, 4)),
    ):
        found, known = find_synapses(net), isinstance(net, nn.Linear)
        assert [weight.name for weight in found.computed] == ["weight"] * known
        assert [name for name, _ in found.unknown] == ["weight"] * (not known)
        assert found.names == found.excluded == ()


def test_exclude_beats_include_beats_rules():
    net = nn.Sequential(nn.Linear(4, 3), neuron.PSN(T=4), nn.Linear(3, 2))
    assert names(net) == ["0.weight", "2.weight"]
    assert names(net, exclude=["2.*"]) == ["0.weight"]
    assert names(net, include=["1.weight"]) == ["0.weight", "1.weight", "2.weight"]
    assert names(net, include=["?.weight"], exclude=["[01].weight"]) == ["2.weight"]
    assert find_synapses(net, exclude="2.*").excluded[-1] == ("2.weight", "exclude='2.*'")


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({"include": ["input.wieght"]}, r"include: .* 'input.wieght'; did you mean 'input.weight'\?"),
        ({"exclude": ["output"]}, r"exclude: .* 'output'; did you mean 'output.\*'\?"),
        ({"exclude": ["outptu.*"]}, r"exclude: .* 'outptu.\*'; did you mean 'output.\*'\?"),
        ({"exclude": ["*.xyz"]}, r"exclude: .* '\*.xyz'; print\(find_synapses\(module\)\) shows them"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_with_the_nearest_name(patterns, message):
    net = nn.ModuleDict({"input": nn.Linear(4, 3), "output": nn.Linear(3, 2)})
    with pytest.raises(UsageError, match=message):
        find_synapses(net, **patterns)


def test_tied_weights_count_once():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    net.append(net[2])
    assert names(net) == ["0.weight", "2.weight"]
    assert names(net, exclude=["1.weight"]) == ["2.weight"]  # any of its names will do


def test_an_alias_in_a_user_module_does_not_hide_the_synapse():
    class Readout(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)
            self.alias = self.layer.weight

    found = find_synapses(Readout())
    assert [(s.name, s.module) for s in found] == [("alias", "Linear")]
    assert found.unknown == ()


def test_a_weight_tied_to_an_embedding_is_no_synapse():
    net = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Embedding(5, 4))
    net[1].weight = net[0].weight
    found = find_synapses(net)
    assert (found.names, found.excluded) == ((), (("0.weight", "Embedding: embedding"),))


def test_frozen_weights_still_count():
    assert names(nn.Linear(4, 3).requires_grad_(False)) == ["weight"]


def test_lazy_layers_are_refused_until_they_have_weights():
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    with pytest.raises(UsageError, match=r"'1.weight' of LazyLinear has no shape yet; run one batch"):
        find_synapses(net)
    net(torch.ones(2, 2, 2))
    assert names(net) == ["1.weight"]


def test_wrapped_models_keep_the_names_of_their_parameters_and_take_both_kinds_of_pattern():
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    for wrapped in (nn.DataParallel(net), torch.compile(net), nn.DataParallel(torch.compile(net))):
        listed = [name for name, _ in wrapped.named_parameters() if name.endswith("weight")]
        assert names(wrapped) == listed
        assert names(wrapped, exclude=["0.weight"]) == listed[1:]
        assert names(wrapped, exclude=[listed[0]]) == listed[1:]


def test_the_choice_holds_the_parameters_themselves():
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    found = find_synapses(net)
    assert len(found) == 2
    assert found.parameters[0] is net[0].weight
    assert [s.parameter is p for s, p in zip(found, found.parameters)] == [True, True]
    assert found.chosen[0].rule == "torch.nn.modules.linear.Linear: weight"


def test_the_printed_table():
    net = nn.Sequential(nn.Linear(784, 800), neuron.PSN(T=8), nn.Linear(800, 10), nn.Bilinear(2, 2, 2))
    assert str(find_synapses(net, exclude=["1.bias"])).splitlines() == [
        "tensor    shape      module  synapses",
        "0.weight  800 × 784  Linear   627,200",
        "2.weight  10 × 800   Linear     8,000",
        "total                         635,200",
        "excluded: 1.weight (PSN: neuron parameter)",
        "excluded: 1.bias (exclude='1.bias')",
        "unknown: 3.weight in Bilinear, not counted; include='3.weight' makes it synapses",
    ]


def test_rules_of_the_class_itself_come_before_those_of_its_bases():
    rules = {"torch.nn.modules.linear.Linear": 1, "spikingjelly.*.Linear": 2}
    assert list(rules_for(layer.Linear, rules)) == [
        ("spikingjelly.*.Linear", 2),
        ("torch.nn.modules.linear.Linear", 1),
    ]


def test_no_framework_is_imported():
    code = (
        "import sys, synaprune.synapses, synaprune.measure;"
        "print({'spikingjelly', 'snntorch', 'norse'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
