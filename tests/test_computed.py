"""Weights that modules compute: pruned by torch, parametrised or normalised; measured as they are used."""

import contextlib

import pytest
import torch
from spikingjelly.activation_based import layer
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

import synaprune
from synaprune.computed import computed_weights, plain_weights
from synaprune.errors import UsageError

# Some mask of ours, in which a whole row and more is missing.
MASK = {2: torch.arange(24).reshape(4, 6) % 3 == 0, 4: torch.arange(72).reshape(4, 2, 3, 3) % 5 > 1}


class EveryOther(prune.BasePruningMethod):
    """A method of the user's own."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t, default_mask):
        mask = default_mask.clone()
        mask.view(-1)[::2] = 0
        return mask


class Mask(nn.Module):
    """A parametrisation of the user's own."""

    def forward(self, weight):
        return weight * MASK[weight.ndim]


def twice(m):
    prune.random_unstructured(m, "weight", 0.3)
    prune.ln_structured(m, "weight", 0.25, n=2, dim=0)


PRUNED = {
    "identity": lambda m: prune.identity(m, "weight"),
    "random": lambda m: prune.random_unstructured(m, "weight", 0.5),
    "l1": lambda m: prune.l1_unstructured(m, "weight", amount=7),
    "random rows": lambda m: prune.random_structured(m, "weight", 0.5, dim=0),
    "rows": lambda m: prune.ln_structured(m, "weight", 0.5, n=2, dim=0),
    "columns": lambda m: prune.ln_structured(m, "weight", 1, n=float("inf"), dim=1),
    "mask": lambda m: prune.custom_from_mask(m, "weight", MASK[m.weight.ndim]),
    "global": lambda m: prune.global_unstructured([(m, "weight")], prune.L1Unstructured, amount=0.6),
    "global, biases too": lambda m: prune.global_unstructured(
        [(m, "weight"), (m, "bias")], prune.L1Unstructured, amount=0.6
    ),
    "twice": twice,
    "own": lambda m: EveryOther.apply(m, "weight"),
}
OTHERWISE = {
    "spectral": parametrizations.spectral_norm,
    "weight norm": parametrizations.weight_norm,
    "orthogonal": parametrizations.orthogonal,
    "own": lambda m: parametrize.register_parametrization(m, "weight", Mask()),
    "old spectral": spectral_norm,
    "old weight norm": weight_norm,
}
LAYERS = {
    "linear": lambda: nn.Linear(6, 4),
    "conv": lambda: nn.Conv2d(2, 4, 3, padding=1),
    "spikingjelly linear": lambda: layer.Linear(6, 4),
    "spikingjelly conv": lambda: layer.Conv2d(2, 4, 3, padding=1),
}
every_pruning = pytest.mark.parametrize("way", PRUNED)
every_other_way = pytest.mark.parametrize("way", OTHERWISE)
every_layer = pytest.mark.parametrize("kind", LAYERS)


def network(kind, change):
    """One layer whose weight is computed and one that is plain, the first layer as it was and what it shall be now."""
    torch.manual_seed(0)
    net = nn.Sequential(LAYERS[kind](), nn.Flatten(), nn.Linear(4 if "linear" in kind else 100, 3))
    change(net[0])
    return net, batch(kind)


def batch(kind):
    return torch.ones(1, 6) if "linear" in kind else torch.ones(1, 2, 5, 5)


def used(kind, change):
    """The weight that the same layer uses in a call in evaluation mode."""
    net, x = network(kind, change)
    net.eval()(x)
    return net[0].weight.detach()


def snapshot(net):
    return {
        name: (type(m), dict(m._parameters), dict(m._buffers), list(m._modules), dict(m._forward_pre_hooks), m.training)
        for name, m in net.named_modules()
    }, {name: tensor.clone() for name, tensor in net.state_dict().items()}


def assert_same(before, after):
    assert before[0] == after[0]
    assert before[1].keys() == after[1].keys()
    assert all(torch.equal(before[1][name], after[1][name]) for name in before[1])


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@every_layer
@pytest.mark.parametrize("way", [*PRUNED.items(), *OTHERWISE.items()], ids=lambda way: way[0])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_measures_see_the_weight_that_is_used_and_change_nothing(kind, way, mode):
    net, x = network(kind, way[1])
    getattr(net, mode)()
    weight = used(kind, way[1])
    left, size = int(torch.count_nonzero(weight)), weight.numel()
    plain = net[2].weight.numel()
    before = snapshot(net)
    assert synaprune.layer_connectivity(net) == {"0.weight": (left, size), "2.weight": (plain, plain)}
    assert synaprune.connectivity(net) == (left + plain) / (size + plain)
    assert synaprune.connectivities(net, x).weights == (left + plain) / (size + plain)
    assert synaprune.operations(net, x).layers["0.weight"].connection_sparsity == (size - left) / size
    assert_same(before, snapshot(net))


@every_layer
@every_pruning
def test_a_pruned_network_measures_as_the_plain_one_of_its_weights(kind, way):
    net, x = network(kind, PRUNED[way])
    plain, _ = network(kind, PRUNED[way])
    for name in ("weight", "bias"):
        if hasattr(plain[0], f"{name}_orig"):
            prune.remove(plain[0], name)
    assert synaprune.connectivities(net, x) == synaprune.connectivities(plain, x)
    assert synaprune.operations(net, x) == synaprune.operations(plain, x)


@every_layer
@every_pruning
def test_adopted_synapses_are_parameters_with_zeros(kind, way):
    net, x = network(kind, PRUNED[way])
    was, weight, original = net(x), used(kind, PRUNED[way]), net[0].weight_orig
    assert synaprune.adopt_pruned(net) is net
    assert net[0].weight is original
    assert isinstance(net[0].weight, nn.Parameter)
    assert torch.equal(net[0].weight, weight)
    assert torch.equal(net(x), was)
    assert list(synaprune.find_synapses(net).names) == ["0.weight", "2.weight"]
    assert not [name for name, _ in net.named_buffers() if name.startswith("0.weight")]
    before = snapshot(net)
    assert_same(before, snapshot(synaprune.adopt_pruned(net)))  # a second time does nothing


def test_what_is_no_synapse_stays_pruned():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(8, 6), nn.Linear(6, 4), nn.LayerNorm([2, 4]))
    for module, name in ((net[0], "weight"), (net[1], "weight"), (net[1], "bias"), (net[2], "weight")):
        prune.random_unstructured(module, name, 0.5)
    synaprune.adopt_pruned(net)
    assert [weight.name for weight in computed_weights(net)] == ["0.weight", "1.bias", "2.weight"]
    assert set(net[1]._parameters) == {"weight", "bias_orig"}


def test_patterns_are_those_of_find_synapses():
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(4, 4))

    net = nn.Sequential(Mine(), nn.Linear(4, 4), nn.Linear(4, 4))
    prune.random_unstructured(net[0], "w", 0.5)
    prune.random_unstructured(net[1], "weight", 0.5)
    assert synaprune.find_synapses(net).unknown == (("0.w", "Mine"),)
    found = synaprune.find_synapses(net, include=["0.w"], exclude=["1.weight"])
    assert [weight.name for weight in found.computed] == ["0.w"]
    assert found.excluded == (("1.weight", "exclude='1.weight'"),)
    assert synaprune.find_synapses(net, exclude=["1.weight_orig"]).computed == ()
    synaprune.adopt_pruned(net, include=["0.w"], exclude=["1.weight"])
    assert [weight.name for weight in computed_weights(net)] == ["1.weight"]
    assert list(synaprune.find_synapses(net, include=["0.w"]).names) == ["0.w", "2.weight"]


def test_recurrent_and_attention_weights_are_adopted():
    torch.manual_seed(0)
    net = nn.ModuleDict({"rnn": nn.LSTM(3, 4), "cell": nn.GRUCell(3, 4), "attention": nn.MultiheadAttention(4, 2)})
    pruned = [(net["rnn"], "weight_hh_l0"), (net["cell"], "weight_ih"), (net["attention"], "in_proj_weight")]
    prune.global_unstructured(pruned, prune.RandomUnstructured, amount=0.5)
    expected = synaprune.layer_connectivity(net)
    synaprune.adopt_pruned(net)
    assert not computed_weights(net)
    assert expected.keys() == set(synaprune.find_synapses(net).names)
    assert synaprune.layer_connectivity(net) == expected
    assert sum(left < size for left, size in expected.values()) == 3
    assert any(weight is net["rnn"].weight_hh_l0 for weight in net["rnn"]._flat_weights)


def test_frozen_tensors_and_gradients_stay():
    net, x = network("linear", PRUNED["l1"])
    net(x).sum().backward()
    gradient = net[0].weight_orig.grad.clone()
    net[0].weight_orig.requires_grad_(False)
    synaprune.adopt_pruned(net)
    assert not net[0].weight.requires_grad
    assert torch.equal(net[0].weight.grad, gradient)


def test_tied_weights_are_adopted_together_or_not_at_all():
    def tied():
        net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        net[1].weight = net[0].weight
        prune.custom_from_mask(net[0], "weight", torch.eye(4))
        return net

    net = tied()
    with pytest.raises(UsageError, match=r"'0\.weight' shares its values with '1', which does not prune them"):
        synaprune.adopt_pruned(net)
    assert [weight.name for weight in computed_weights(net)] == ["0.weight"]
    prune.custom_from_mask(net[1], "weight", 1 - torch.eye(4))
    with pytest.raises(UsageError, match="shares its values"):
        synaprune.adopt_pruned(net)
    prune.remove(net[1], "weight")
    net = tied()
    prune.custom_from_mask(net[1], "weight", torch.eye(4))
    synaprune.adopt_pruned(net)
    assert net[0].weight is net[1].weight
    assert int(torch.count_nonzero(net[0].weight)) == 4


def test_a_module_in_two_places_is_one():
    shared = prune.l1_unstructured(nn.Linear(4, 4), "weight", amount=10)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    assert synaprune.layer_connectivity(net) == {"0.weight": (6, 16)}
    synaprune.adopt_pruned(net)
    assert list(synaprune.find_synapses(net).names) == ["0.weight"]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@every_other_way
def test_what_is_computed_otherwise_is_named_with_the_remedy(way):
    net, x = network("linear", lambda m: None)
    net = OTHERWISE[way](net[0]).eval()
    (weight,) = synaprune.find_synapses(net).computed
    assert f"computed: weight by {weight.how}, counted but no parameter; {weight.remedy}" in str(
        synaprune.find_synapses(net)
    )
    with pytest.raises(UsageError, match=f"'weight' is not pruned, but computed by {weight.how}; {weight.remedy}"):
        synaprune.adopt_pruned(net)
    remove = eval(weight.remedy)
    was = net(x)
    remove(net, "weight") if "parametrize" in weight.remedy else remove(net)
    assert torch.allclose(net(x), was)
    assert list(synaprune.find_synapses(net).names) == ["weight"]


def test_the_tensor_behind_a_parametrisation_can_be_included_by_its_name():
    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 4)), nn.Linear(4, 2))
    inside = "0.parametrizations.weight.original1"
    found = synaprune.find_synapses(net, include=[inside])
    assert list(found.names) == [inside, "1.weight"]
    assert found.computed == ()


def test_plain_weights_puts_everything_back_after_an_error():
    net, _ = network("conv", twice)
    parametrizations.spectral_norm(net[2])
    before = snapshot(net)
    with contextlib.suppress(ZeroDivisionError), plain_weights(net):
        assert type(net[2]) is nn.Linear
        assert not net[0]._forward_pre_hooks
        raise ZeroDivisionError
    assert_same(before, snapshot(net))


def test_what_is_measured_is_the_weight_of_now_not_of_the_last_call():
    net, _ = network("linear", PRUNED["mask"])
    with torch.no_grad():
        net[0].weight_orig.zero_()
    assert synaprune.layer_connectivity(net)["0.weight"] == (0, 24)


def test_a_parametrised_buffer_is_no_synapse_and_no_parameter():
    net, _ = network("linear", PRUNED["mask"])
    net[0].register_buffer("scale", torch.ones(4, 6))
    parametrize.register_parametrization(net[0], "scale", Mask())
    expected = synaprune.layer_connectivity(network("linear", PRUNED["mask"])[0])
    assert synaprune.layer_connectivity(net) == expected
    before = snapshot(net)
    with plain_weights(net):
        assert set(net[0]._parameters) == {"weight", "bias"}
        assert torch.equal(net[0].scale, MASK[2])
    assert_same(before, snapshot(net))
