"""Networks that torch.nn.utils.prune has pruned: the same as plain ones with zeros, to every method."""

import logging

import pytest
import torch
from forms import STEPS, every_form, make
from torch import nn
from torch.nn.utils import parametrizations, prune

from synaprune import adopt_pruned
from synaprune.errors import UsageError


def net_of():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


def by_torch(net):
    prune.ln_structured(net[0], "weight", 1, n=2, dim=0)
    prune.random_unstructured(net[3], "weight", 0.4)  # so that no method begins with more
    return net


def learn(net, optimizer, steps=STEPS):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(4, 1, 8, 8, generator=generator)).square().mean().backward()
        optimizer.step()


@every_form
def test_an_adopted_network_trains_as_the_plain_one_of_its_weights(form):
    plain, adopted = net_of(), adopt_pruned(by_torch(net_of()))
    plain.load_state_dict(adopted.state_dict())
    for net in (plain, adopted):
        learn(net, make(form, net))
    assert all(torch.equal(p, adopted.get_parameter(name)) for name, p in plain.named_parameters())


@every_form
def test_absent_synapses_begin_absent(form):
    net = adopt_pruned(by_torch(net_of()))
    absent = net[3].weight == 0
    optimizer = make(form, net)
    if form == "dense":
        return
    assert not (optimizer.mask(net[3].weight) & absent).any()
    optimizer.freeze_topology()
    learn(net, optimizer)
    assert not (net[3].weight[absent] != 0).any()


@every_form
def test_a_network_that_is_not_adopted_is_refused_with_what_to_call(form):
    with pytest.raises(UsageError, match=r"'0.weight' is pruned by torch.nn.utils.prune, .*synaprune.adopt_pruned\("):
        make(form, by_torch(net_of()))


def test_what_is_excluded_may_stay_pruned(caplog):
    net = net_of()
    prune.random_unstructured(net[3], "weight", 0.6)
    absent = net[3].weight_mask == 0
    optimizer = make("grad_r", net, exclude=("3.*",))
    learn(net, optimizer)
    net(torch.zeros(1, 1, 8, 8))
    assert torch.equal(net[3].weight == 0, absent)
    assert not caplog.records


@every_form
def test_what_is_computed_otherwise_is_trained_plainly_and_named(form, caplog):
    net = net_of()
    parametrizations.weight_norm(net[3])
    with caplog.at_level(logging.WARNING, "synaprune"):
        optimizer = make(form, net)
    assert ["'3.weight' is computed by WeightNorm" in record.message for record in caplog.records] == [True]
    before = net[3].weight.detach().clone()
    learn(net, optimizer, 2)
    assert not torch.equal(net[3].weight, before)


@every_form
def test_where_nothing_else_is_there_it_is_named_with_the_remedy(form):
    with pytest.raises(UsageError, match=r"computed by SpectralNorm; torch.nn.utils.parametrize.remove_parametrizat"):
        make(form, parametrizations.spectral_norm(nn.Linear(4, 3)))
