"""What every method keeps: weights that others write, frozen tensors, loading in any order, the end of a plan."""

import copy
import inspect
import io
import math
import pickle
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from common import model, same, train
from forms import DRAWING, EXACT, FORMS, STEPS, every_form, make, only
from torch import nn

from synaprune.budget import cubic
from synaprune.catalogue import CATALOGUE
from synaprune.errors import UsageError
from synaprune.optim import METHODS
from synaprune.optim.fingerprint import fingerprint


def net_of(width=40):
    """Two layers of synapses, the first of 160 neurons large enough for sums in place of a copy."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(240, width), nn.ReLU(), nn.Linear(width, 5))


def learn(net, optimizer, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(4, 240, generator=generator)).square().mean().backward()
        optimizer.step()


def count(weight):
    return int(torch.count_nonzero(weight))


# -- who writes a weight, by whatever way, is heard --------------------------------------------------------------


def by_numpy(weight, values):
    weight.detach().numpy()[...] = values.numpy()


def by_new_storage(weight, values):
    weight.data = values.clone()


def by_set(weight, values):
    with torch.no_grad():
        weight.set_(values.clone())


def row_by_row(weight, values):
    for i, row in enumerate(values):
        weight.data[i] = row


WAYS = {
    "no_grad": lambda weight, values: weight.detach().copy_(values),
    "data.copy_": lambda weight, values: weight.data.copy_(values),
    "data =": by_new_storage,
    "set_": by_set,
    "numpy": by_numpy,
    "rows": row_by_row,
    "storage": lambda weight, values: weight.untyped_storage().copy_(values.untyped_storage()),
}


def masked(w):
    return w * (torch.arange(w.numel()).reshape(w.shape) % 3 > 0)


def one(w):
    """The smallest change of one living weight."""
    i = int(w.abs().argmax())
    changed = w.clone().flatten()
    changed[i] = torch.nextafter(changed[i], torch.tensor(0.0))
    return changed.view_as(w)


WRITTEN = {
    "masked": masked,
    "halved": lambda w: w * 0.5,
    "signs": torch.neg,
    "rows": lambda w: w.flip(0).contiguous(),
    "columns": lambda w: w.roll(1, 1).contiguous(),
    "one": one,
}


def reloaded(net, optimizer):
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return net, optimizer


BETWEEN = {
    "nothing": lambda *pair: pair,
    "loading": reloaded,
    "deepcopy": lambda *pair: copy.deepcopy(pair),
    "pickle": lambda *pair: pickle.loads(pickle.dumps(pair)),
}


@every_form
@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("what", WRITTEN)
def test_written_weights_are_those_that_learn_on(form, between, what):
    """At learning rate 0 nothing but the write moves a weight: after the next step it is what was written."""
    net, optimizer = net_of(width=160), None
    optimizer = make(form, net, **({"temperature": 0.0} if form == "deep_r" else {}))
    learn(net, optimizer, 5)
    net, optimizer = BETWEEN[between](net, optimizer)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        if form == "stds":
            group["threshold"] = 0.0  # which rises along a schedule, whatever the rate
    weight = net[0].weight
    assert fingerprint(weight).numel() < weight.numel() / 2
    values = WRITTEN[what](weight.detach().clone())
    assert not torch.equal(values, weight)
    weight.data.copy_(values)
    learn(net, optimizer, 1)  # no solution is due, and no exchange
    kept = values != 0
    assert (weight - values)[kept].abs().max() <= 1e-6  # latents may round
    if form not in ("deep_r", "dense"):  # the one makes up for what is missing, the other has no absent synapses
        assert not weight[~kept].any()


@every_form
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("which", [0, 2])
def test_all_ways_of_writing_are_one(form, way, which):
    pairs = []
    for write in (WAYS["no_grad"], WAYS[way]):
        net = net_of()
        optimizer = make(form, net)
        learn(net, optimizer, 5)
        write(net[which].weight, masked(net[which].weight.detach().clone()) * 0.9)
        learn(net, optimizer, 7, seed=1)
        pairs.append(net)
    assert same(*pairs)


@every_form
def test_settle_and_saving_hear_it_too(form):
    net = net_of()
    optimizer = make(form, net)
    learn(net, optimizer, 8)  # a solution has just been due
    weight = net[0].weight
    written = masked(weight.detach().clone()) * 0.9
    weight.data.copy_(written)
    before = copy.deepcopy(net.state_dict())
    state = copy.deepcopy(optimizer.state_dict())
    other = net_of()
    loaded = make(form, other)
    other.load_state_dict(before)
    loaded.load_state_dict(state)
    assert torch.allclose(other[0].weight, written, atol=1e-6)
    optimizer.settle()
    kept = (written != 0) & (weight != 0)
    assert kept.sum() > 0.3 * count(written)
    # A threshold may have moved to bring back what is missing: by one number for all.
    moved = (weight - written)[kept].abs()
    assert moved.max() - moved.min() <= 1e-6


# -- what is frozen stays ------------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("when", ["before", "during"])
def test_a_frozen_tensor_stays_and_the_others_meet_the_budget(form, when):
    net = net_of()
    if when == "before":
        net[0].requires_grad_(False)
    optimizer = make(form, net)
    if when == "during":
        learn(net, optimizer, 6)
        net[0].requires_grad_(False)  # and its last gradient is still there
        assert net[0].weight.grad is not None
    kept = [p.detach().clone() for p in net[0].parameters()]
    learn(net, optimizer, STEPS if when == "before" else STEPS - 6)
    optimizer.settle()
    optimizer.finish()
    assert all(torch.equal(p, q) for p, q in zip(net[0].parameters(), kept))
    if form != "dense":
        assert optimizer.theta(net[0].weight).shape == (40, 240)
        assert torch.equal(optimizer.mask(net[0].weight), kept[0] != 0)
    optimizer.turnover(), optimizer.connectivity(), optimizer.state_dict()
    learn(net, optimizer, 1)
    optimizer.settle()
    assert all(torch.equal(p, q) for p, q in zip(net[0].parameters(), kept))
    if form in EXACT and (form, when) != ("static", "during"):  # which draws but once
        assert count(net[2].weight) == 50


@only(EXACT - {"static"})
@pytest.mark.parametrize("when", ["before", "during"])
def test_thawed_it_counts_again(form, when):
    net = net_of()
    net[0].requires_grad_(when == "during")
    optimizer = make(form, net)
    learn(net, optimizer, 6)
    net[0].requires_grad_(False)
    learn(net, optimizer, 6)
    optimizer.theta(net[0].weight)
    kept = net[0].weight.detach().clone()
    net[0].requires_grad_(True)
    if when == "during":  # nothing was lost: it goes on from where it was
        learn(net, optimizer, 1)
        assert ((net[0].weight - kept).abs() < 0.1).all()
    learn(net, optimizer, STEPS - 12)
    optimizer.settle()
    assert count(net[0].weight) + count(net[2].weight) == 2450
    assert count(net[0].weight) > 0


@every_form
def test_all_frozen_is_no_fault(form):
    net = net_of()
    net[0].weight.requires_grad_(False)
    net[2].weight.requires_grad_(False)
    optimizer = make(form, net)
    before = copy.deepcopy(net.state_dict())
    learn(net, optimizer, 5)
    optimizer.settle()
    optimizer.finish()
    assert torch.equal(net[0].weight, before["0.weight"])
    assert torch.equal(net[2].weight, before["2.weight"])
    assert not torch.equal(net[2].bias, before["2.bias"])


@only(DRAWING - {"soft_deep_r"})
def test_what_was_frozen_is_drawn_when_it_begins_to_learn(form):
    net = net_of()
    net[0].requires_grad_(False)
    optimizer = make(form, net, allocation="uniform")
    optimizer.mask(net[0].weight)  # looking draws nothing
    learn(net, optimizer, 1)
    assert count(net[0].weight) == 9600
    net[0].requires_grad_(True)
    learn(net, optimizer, 1)
    assert count(net[0].weight) == (4800 if form == "granet" else 2400)


@pytest.mark.parametrize("sparsity", [{"0.*": 0.9, "*": 0.5}, {"2.*": 0.5, "0.*": 0.9}])
def test_a_pattern_may_name_a_frozen_layer(sparsity):
    net = net_of()
    net[0].requires_grad_(False)
    optimizer = make("magnitude", net, sparsity=sparsity)
    learn(net, optimizer, STEPS)
    assert count(net[0].weight) == 9600
    assert count(net[2].weight) == 100


# -- one call --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("said", [{"sparsity": 0.75}, {"connectivity": 0.25}, {"synapses": 1024}])
def test_one_call_serves_every_method(name, said, caplog):
    caplog.set_level("INFO")
    torch.manual_seed(0)
    net = nn.Linear(64, 64, bias=False)
    optimizer = METHODS[name](net, lr=1e-3, schedule=cubic(steps=200), **said)
    for _ in range(200):
        net.weight.grad = torch.randn(64, 64)
        optimizer.step()
    entry = CATALOGUE[name]
    expected = {"exact": 0.25, "average": pytest.approx(0.25, abs=0.2), None: 1.0}[entry.number]
    assert optimizer.connectivity() == expected
    ignored = [] if "schedule" in entry.options else ["schedule"]
    assert ("takes no notice of" in caplog.text) == bool(ignored)
    if name == "dense":
        assert f"Dense takes no notice of {next(iter(said))} and schedule, which has no meaning for it" in caplog.text


# -- loading -------------------------------------------------------------------------------------------------------


def model_first(form, net, saved):
    net.load_state_dict(saved["net"])
    optimizer = make(form, net)
    optimizer.load_state_dict(saved["optimizer"])
    return optimizer


def optimizer_first(form, net, saved):
    optimizer = make(form, net)
    optimizer.load_state_dict(saved["optimizer"])
    net.load_state_dict(saved["net"])
    return optimizer


def made_first(form, net, saved):
    optimizer = make(form, net)
    net.load_state_dict(saved["net"])
    optimizer.load_state_dict(saved["optimizer"])
    return optimizer


@every_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("load", [model_first, optimizer_first, made_first])
def test_loading_is_exact_in_every_order(form, load, dtype):
    net = model(dtype)
    optimizer = make(form, net)
    train(net, optimizer, 11)
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    other = model(dtype)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1.5)
    loaded = load(form, other, torch.load(file, weights_only=True))
    assert same(net, other)
    train(net, optimizer, 10, seed=1)
    train(other, loaded, 10, seed=1)
    assert same(net, other)


# -- the end of the plan ---------------------------------------------------------------------------------------------


@only(EXACT)
@pytest.mark.parametrize("made", [1, 17, 26, 38])
def test_finish_meets_the_end_of_a_plan_that_training_has_not_reached(form, made):
    net = net_of()
    options = {"schedule": {**FORMS[form][1]["schedule"], "flat": 0.0}} if "schedule" in FORMS[form][1] else {}
    optimizer = make(form, net, **options)
    learn(net, optimizer, made)
    before = count(net[0].weight) + count(net[2].weight)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        optimizer.finish()
    assert count(net[0].weight) + count(net[2].weight) == 2450
    assert optimizer.connectivity() == 0.25
    if before == 2450:
        assert not caught
    else:
        [warning] = caught
        assert f"{made} of the 40 steps" in str(warning.message)
        assert f"{before / 9800:.2%}" in str(warning.message)
        assert "25.00%" in str(warning.message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.finish()


@every_form
def test_finish_after_a_whole_plan_says_nothing(form):
    net = net_of()
    optimizer = make(form, net)
    learn(net, optimizer, STEPS)
    before = copy.deepcopy(net.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.finish()
    if form != "deep_r":
        assert all(torch.equal(p, before[name]) for name, p in net.state_dict().items())


def test_steps_that_grad_scaler_skips_are_made_up_for():
    net = net_of()
    optimizer = make("grad_r budget", net)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for step in range(STEPS):
        optimizer.zero_grad()
        scaler.scale(net(torch.randn(4, 240)).square().mean()).backward()
        if step in (3, 20):
            net[0].weight.grad[0, 0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
    with pytest.warns(UserWarning, match="38 of the 40 steps") if optimizer.connectivity() != 0.25 else no_warning():
        optimizer.finish()
    assert optimizer.connectivity() == 0.25


def no_warning():
    return warnings.catch_warnings()


# -- budgets in three forms ----------------------------------------------------------------------------------------


def budgeted(form):
    return {name: value for name, value in FORMS[form][1].items() if name != "sparsity"}


@only(EXACT | {"soft_deep_r"})
@pytest.mark.parametrize("ask", [{"connectivity": 0.25}, {"synapses": 2450}])
def test_all_forms_of_a_budget_are_one(form, ask):
    method = FORMS[form][0]
    nets = []
    for said in ({"sparsity": 0.75}, ask):
        net = net_of()
        optimizer = method(net, lr=1e-2, **budgeted(form), **said)
        assert optimizer.param_groups[0]["sparsity"] == 0.75
        assert not optimizer.param_groups[0].keys() & {"connectivity", "synapses"}
        learn(net, optimizer, STEPS)
        nets.append(net)
    assert same(*nets)


@only(EXACT)
@pytest.mark.parametrize("number", [2451, 977, 100])
def test_a_number_is_met_to_the_synapse(form, number):
    net = net_of()
    optimizer = FORMS[form][0](net, lr=1e-2, **budgeted(form), synapses=number)
    learn(net, optimizer, STEPS)
    optimizer.settle()
    assert count(net[0].weight) + count(net[2].weight) == number


@only(EXACT - {"deep_r", "static", "set", "rigl"})
def test_a_group_may_say_it_in_a_form_of_its_own_and_again_later(form):
    net = net_of()
    groups = [{"params": [net[0].weight], "synapses": 4800}, {"params": [net[2].weight]}]
    optimizer = FORMS[form][0](groups, lr=1e-2, **budgeted(form), connectivity=0.5)
    learn(net, optimizer, STEPS)
    assert (count(net[0].weight), count(net[2].weight)) == (4800, 100)
    optimizer.param_groups[0]["synapses"] = 1000
    learn(net, optimizer, 4)
    assert (count(net[0].weight), count(net[2].weight)) == (1000, 100)


@only(EXACT)
@pytest.mark.parametrize(
    ("ask", "words"),
    [
        ({"sparsity": 0.9, "connectivity": 0.1}, "both say how many synapses are left"),
        ({"sparsity": 0.9, "synapses": 100}, "both say"),
        ({"synapses": 0}, "not a whole number from 1 to the 9,800"),
        ({"synapses": 9801}, "not a whole number"),
        ({"connectivity": 0}, "not a share"),
        ({"sparcity": 0.9}, "has an option 'sparcity'; did you mean 'sparsity'"),
        ({"conectivity": 0.9}, "did you mean 'connectivity'"),
        ({"synapse": 9}, "did you mean 'synapses'"),
    ],
)
def test_a_budget_that_is_said_badly(form, ask, words):
    with pytest.raises(UsageError, match=words):
        FORMS[form][0](net_of(), lr=1e-2, **budgeted(form), **ask)


@every_form
def test_whether_a_group_counts_is_no_number_of_synapses(form):
    with pytest.raises(UsageError, match="counted=False"):
        make(form, [{"params": [net_of()[0].weight], "synapses": False}])


# -- numbers of any kind -------------------------------------------------------------------------------------------

KINDS = {int: (np.int64, np.int32, np.uint8), float: (np.float64, np.float32, np.float16, Fraction)}
NONSENSE = ["x", None, True, math.nan, math.inf, -1, [1], {}, 1j, 10**400, np.float64(-1), np.array([1, 2])]


@every_form
def test_numpy_s_numbers_are_stored_as_python_s_own(form):
    method, options = FORMS[form]
    known = inspect.signature(method).parameters
    own = {name: options.get(name, p.default) for name, p in known.items()}
    own = {name: value for name, value in own.items() if type(value) in (int, float)}
    weights = net_of()[0].weight
    for name, value in {**own, "eps": 2.0**-20, "weight_decay": 0.0}.items():
        value = 0.5 if name == "sparsity" else value
        for kind in KINDS[type(value)]:
            said = kind(value)
            optimizer = make(form, [weights], **({name: said} if name == "lr" else {"lr": 1e-2, name: said}))
            group = optimizer.param_groups[0]
            assert type(group[name]) is type(value)
            assert group[name] == float(said)
            weights.grad = torch.ones_like(weights)
            group["lr"] = np.float64(0.01)  # as a user's own scheduler may leave it
            optimizer.step()
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            file.seek(0)
            torch.load(file, weights_only=True)


@every_form
def test_what_is_no_number_is_named(form):
    method, options = FORMS[form]
    for name, parameter in inspect.signature(method).parameters.items():
        default = options.get(name, parameter.default)
        optional = parameter.default is None or (default is None and name != "seed")
        if type(default) not in (int, float) and name not in ("margin", "sparsity"):
            continue
        if name in ("period", "floor") and "sparsity" not in options:
            continue  # without a budget nobody reads them
        for value in NONSENSE:
            below_0 = name == "s_init" and isinstance(value, int | float) and str(value)[:2] == "-1"
            fits = below_0 or (name == "seed" and value is NONSENSE[5]) or (value is None and optional)
            if name == "lr" or fits:
                continue  # torch's own words for the one, a sensible value for the others
            with pytest.raises(UsageError, match=name):
                make(form, [net_of()[0].weight], **{name: value})


@every_form
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int32, torch.float16])
def test_what_cannot_be_rewired_is_said_for_its_reason(form, dtype):
    words = {torch.complex64: "complex numbers", torch.int32: "whole numbers", torch.float16: "underflow"}
    weight = nn.Parameter(torch.ones(4, 3).to(dtype), requires_grad=dtype.is_floating_point or dtype.is_complex)
    if form != "dense":
        with pytest.raises(UsageError, match=words[dtype]):
            make(form, [weight])
