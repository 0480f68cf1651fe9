"""Drop and grow: what SET, RigL and GraNet have in common."""

import copy
import io
import math

import pytest
import torch
from common import BASES, model, same, train
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from synaprune.budget import constant, cosine, cubic, linear
from synaprune.errors import UsageError
from synaprune.optim.granet import GraNet
from synaprune.optim.maps.threshold import TINY
from synaprune.optim.rigl import RigL
from synaprune.optim.row import Row
from synaprune.optim.set import SET
from synaprune.optim.topology.drop_grow import GROWTH, drop_fraction, first

METHODS = {
    "set": (SET, {"schedule": cosine(40)}),
    "rigl": (RigL, {"schedule": cosine(40)}),
    "rigl by momentum": (RigL, {"schedule": cosine(40), "growth": "momentum"}),
    "granet": (GraNet, {"schedule": cubic(40, flat=0.5)}),
}
every_method = pytest.mark.parametrize("name", METHODS)
WITH_AVERAGE = ("Adam", "AdamW", "Adamax", "NAdam", "RAdam")
every_method_on_every_base = pytest.mark.parametrize(
    ("name", "base"), [(n, b) for n in METHODS for b in BASES if n != "rigl by momentum" or b in WITH_AVERAGE]
)


def make(name, params, **options):
    method, own = METHODS[name]
    return method(params, **{"lr": 0.01, "sparsity": 0.8, "period": 4, **own, **options})


def counts(net):
    return [int(torch.count_nonzero(weight)) for weight in (net[0].weight, net[4].weight)]


def planned(optimizer):
    """How many synapses the network has, and each layer where it has a number of its own, after the last event."""
    group = optimizer.param_groups[0]
    steps = min(group["clock"] // 4 * 4, 40)
    plan = optimizer.plan(group)
    return plan.count(steps), plan.layers


# -- how much, and when ----------------------------------------------------------------------------------------


@given(drop=st.floats(0.01, 0.99), end=st.floats(0.1, 1.0), step=st.integers(0, 1000))
def test_cosine_drop_fraction_in_closed_form(drop, end, step):
    expected = drop / 2 * (1 + math.cos(math.pi * step / (end * 1000))) if step < end * 1000 else 0.0
    assert drop_fraction(drop, cosine(1000), end, step) == pytest.approx(expected, abs=1e-12)


def test_other_shapes_of_the_drop_fraction():
    assert [drop_fraction(0.4, linear(100), 0.5, step) for step in (0, 25, 50)] == [0.4, 0.2, 0.0]
    assert [drop_fraction(0.4, constant(100), 0.5, step) for step in (0, 49, 50)] == [0.4, 0.4, 0.0]


def test_number_exchanged_in_each_layer():
    """f(4) = 0.3/2·(1 + cos(π·4/30)) = 0.287 of 60 and of 40 synapses."""
    weights = [nn.Parameter(torch.randn(20, 15)), nn.Parameter(torch.randn(20, 10))]
    optimizer = SET(weights, sparsity=0.8, allocation="uniform", schedule=cosine(40), period=4)
    optimizer.turnover()
    for _ in range(4):
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        optimizer.step()
    assert list(optimizer.turnover().values()) == [(17, 17), (11, 11)]


@every_method
def test_nothing_is_exchanged_between_periods_and_after_the_end(name):
    net = model()
    optimizer = make(name, net, drop_end=0.5)
    for n in range(1, 41):
        optimizer.turnover()
        train(net, optimizer, 1, seed=n)
        exchanged = sum(turnover.regrown for turnover in optimizer.turnover().values())
        assert (exchanged > 0) == (n in (4, 8, 12, 16))


def test_first_puts_those_among_before_all_others():
    scores = first(torch.tensor([9.0, 0.0, 3.0, 7.0]), torch.tensor([False, True, True, False]))
    assert scores.argsort(descending=True).tolist() == [2, 1, 3, 0]


# -- the number of synapses --------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("base", ["Adam", "AdamW", "SGD"])
def test_exact_after_every_step(name, base, dtype):
    net = model(dtype)
    options = {"momentum": 0.9} if base == "SGD" else {}
    optimizer = make(name, net, base=BASES[base], weight_decay=0.1, **options)
    for n in range(40):
        if n:
            train(net, optimizer, 1, seed=n)
        total, layers = planned(optimizer)
        assert sum(counts(net)) == total
        assert layers in (None, counts(net))
        assert [int(optimizer.mask(p).sum()) for p in (net[0].weight, net[4].weight)] == counts(net)
    assert sum(counts(net)) == round(0.2 * (108 + 480))


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(2, 40),
    sparsity=st.floats(0.0, 0.9),
    drop=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
    growth=st.sampled_from(["random", "gradient", "momentum"]),
)
def test_exact_for_all_sizes_and_drop_fractions(size, sparsity, drop, seed, growth):
    generator = torch.Generator().manual_seed(seed)
    weight = nn.Parameter(torch.randn(size, 5, generator=generator))
    options = {"schedule": constant(9), "drop_end": 1.0, "period": 2, "drop": drop, "growth": growth, "seed": seed}
    optimizer = SET([weight], lr=0.1, sparsity=sparsity, **options)
    for _ in range(9):
        weight.grad = torch.randn(size, 5, generator=generator).round()  # with ties, and zeros
        optimizer.step()
        assert torch.count_nonzero(weight) == round((1 - sparsity) * size * 5)


@every_method
def test_a_weight_that_lands_on_0_counts(name):
    weight = nn.Parameter(torch.full((4, 5), 0.5))
    options = {"base": torch.optim.SGD, "momentum": 0.9, "allocation": "uniform"}
    optimizer = make(name, [weight], lr=0.5, sparsity=0.5, **options)
    weight.grad = torch.ones(4, 5)
    optimizer.step()
    assert torch.count_nonzero(weight) == 10
    assert weight.abs().max() == TINY


@every_method
def test_a_full_layer_stays_as_it_is(name):
    weight = nn.Parameter(torch.randn(4, 5))
    optimizer = make(name, [weight], sparsity=0.0, **({"initial": 1.0} if name == "granet" else {}))
    for _ in range(8):
        weight.grad = torch.randn(4, 5)
        optimizer.step()
    assert optimizer.turnover()["tensor 0"] == (0, 0)
    assert torch.count_nonzero(weight) == 20


@every_method
def test_zeros_written_by_others_are_made_up_for_at_the_next_exchange(name):
    weight = nn.Parameter(torch.randn(10, 10))
    optimizer = make(name, [weight], **({"initial": 0.2} if name == "granet" else {}))
    with torch.no_grad():
        weight[:5] = 0.0
    for _ in range(4):
        weight.grad = torch.randn(10, 10)
        optimizer.step()
    assert torch.count_nonzero(weight) == 20
    with torch.no_grad():
        weight[:5] = 0.0
    weight.grad = None
    optimizer.settle()  # where there is no gradient, lots decide
    assert torch.count_nonzero(weight) == 20


# -- the newborn -----------------------------------------------------------------------------------------------------


def until_born(name, base, **options):
    """Return a tensor and its optimizer just after an exchange, and which of its synapses are newborn."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(8, 8))
    optimizer = make(name, [weight], base=BASES[base], **options)
    for _ in range(4):
        weight.grad = torch.randn(8, 8)
        optimizer.step()
    return weight, optimizer, weight == TINY


@every_method_on_every_base
def test_newborns_start_at_0_and_move_at_the_very_next_step(name, base):
    weight, optimizer, born = until_born(name, base)
    assert born.any()
    weight.grad = torch.ones(8, 8)
    optimizer.step()
    assert (weight[born] < -1e-7).all()


@every_method_on_every_base
def test_moments_of_newborns_are_those_of_a_first_step(name, base):
    """But for the steps counted, the newborn's base knows nothing of what came before."""
    weight, optimizer, born = until_born(name, base)
    base_state = optimizer.state[weight]["base"]
    begun = {"step_size": 0.01}
    moments = {key: value for key, value in base_state.items() if value is not None and value.shape == weight.shape}
    for key, moment in moments.items():
        assert (moment[born] == begun.get(key, 0.0)).all()
        assert not (moment[~born] == begun.get(key, 0.0)).all()
    if "step" in base_state:
        assert base_state["step"] == 4


def test_adagrad_s_newborns_begin_with_its_initial_value():
    weight, optimizer, born = until_born("set", "Adagrad", initial_accumulator_value=0.5)
    assert (optimizer.state[weight]["base"]["sum"][born] == 0.5).all()


def test_stale_moments_move_no_absent_weight():
    weight = nn.Parameter(torch.randn(8, 8))
    optimizer = make("rigl", [weight])
    absent = ~optimizer.mask(weight)
    for _ in range(3):
        weight.grad = torch.randn(8, 8)
        optimizer.step()
        assert not weight[absent].any()


def test_what_has_just_been_dropped_is_not_grown():
    weight = nn.Parameter(torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0]))
    options = {"drop": 0.5, "period": 1, "base": torch.optim.SGD}
    optimizer = RigL([weight], lr=0.01, sparsity=0.5, schedule=constant(4), **options)
    weight.grad = torch.tensor([0.0, 0.0, 9.0, 9.0, 0.5, 2.0, 3.0, 1.0])
    optimizer.step()
    assert (weight != 0).tolist() == [True, True, False, False, False, True, True, False]


def test_growth_by_momentum_follows_the_moving_average():
    weight = nn.Parameter(torch.tensor([2.0, 1.0, 0.0, 0.0]))
    options = {"drop": 0.5, "period": 3, "base": torch.optim.SGD, "momentum": 0.9}
    optimizer = RigL([weight], lr=0.01, sparsity=0.5, schedule=constant(8), growth="momentum", **options)
    for gradient in ([0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.5]):
        weight.grad = torch.tensor(gradient)  # of the last step alone, it would be the other
        optimizer.step()
    assert (weight != 0).tolist() == [True, False, True, False]


def test_draws_differ_with_seed_step_and_tensor():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)]
    rows = [Row(torch.zeros(4, 5), {"seed": seed, "clock": clock}, {}, n, None) for seed, clock, n in keys]
    drawn = [GROWTH["random"](row).tolist() for row in rows]
    assert drawn[0] == drawn[-1]
    assert all(a != b for n, a in enumerate(drawn[:-1]) for b in drawn[:n])


# -- a torch optimizer ---------------------------------------------------------------------------------------------


@every_method
def test_replicas_are_identical(name):
    """Whatever else draws numbers, and however many replicas there are."""
    nets = [model(), model()]
    for n, net in enumerate(nets):
        torch.manual_seed(n)
        train(net, make(name, net, seed=3), 20)
    assert same(*nets)
    other = model()
    train(other, make(name, other, seed=4), 20)
    assert not same(nets[0], other)


@every_method
def test_state_dict_continues_identically(name):
    net = model()
    optimizer = make(name, net)
    train(net, optimizer, 10)
    saved = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, saved)
    saved.seek(0)
    loaded = torch.load(saved, weights_only=True)
    other = model()
    resumed = make(name, other, seed=99)
    other.load_state_dict(loaded["net"])
    resumed.load_state_dict(loaded["optimizer"])
    twin, copied = copy.deepcopy((net, optimizer))
    for trained, by in ((net, optimizer), (other, resumed), (twin, copied)):
        train(trained, by, 20, seed=5)
    assert same(net, other)
    assert same(net, twin)


@every_method
def test_frozen_topology_rests(name):
    net = model()
    optimizer = make(name, net)
    train(net, optimizer, 10)
    optimizer.freeze_topology()
    masks = [optimizer.mask(weight) for weight in (net[0].weight, net[4].weight)]
    before = net[0].weight.clone()
    train(net, optimizer, 10)
    for mask, weight in zip(masks, (net[0].weight, net[4].weight)):
        assert torch.equal(weight != 0, mask)
    assert not torch.equal(net[0].weight, before)
    optimizer.freeze_topology(False)
    optimizer.turnover()
    train(net, optimizer, 4)
    assert any(turnover.regrown for turnover in optimizer.turnover().values())


def test_a_tensor_without_gradient_is_left_alone():
    weights = [nn.Parameter(torch.randn(8, 8)) for _ in range(2)]
    optimizer = make("rigl", weights)
    optimizer.turnover()
    for _ in range(4):
        weights[0].grad = torch.randn(8, 8)
        optimizer.step()
    first_tensor, second_tensor = optimizer.turnover().values()
    assert first_tensor.regrown > 0
    assert second_tensor == (0, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"drop": 0.0}, r"drop=0\.0 is not a number in \(0, 1\)"),
        ({"drop": 1.0}, r"drop=1\.0 is not"),
        ({"drop": "much"}, "drop='much' is not"),
        ({"drop_end": 0.0}, r"drop_end=0\.0 is not a number in \(0, 1\]"),
        ({"drop_end": 1.5}, r"drop_end=1\.5 is not"),
        ({"period": 41}, "period=41 leaves no exchange to the first"),
        ({"period": 0}, "period=0 is not a whole number"),
        ({"growth": "gradients"}, "there is no growth 'gradients'; did you mean 'gradient'"),
        ({"growth": ""}, "there is no growth ''; there are random, gradient, momentum"),
        ({"growth": "momentum", "base": torch.optim.SGD}, "needs a base with a moving average"),
        ({"sparsity": None}, "sparsity=None is not a number"),
        ({"schedule": None}, "has to know the number of training steps"),
    ],
)
@every_method
def test_bad_values_are_named(name, options, words):
    with pytest.raises(UsageError, match=words):
        make(name, [nn.Parameter(torch.ones(8, 8))], **options)


def test_bad_value_in_a_group_changes_nothing():
    weight = nn.Parameter(torch.randn(8, 8))
    optimizer = make("set", [weight])
    before = weight.detach().clone()
    optimizer.param_groups[0]["drop"] = 2.0
    weight.grad = torch.ones(8, 8)
    with pytest.raises(UsageError, match=r"drop=2\.0"):
        optimizer.step()
    assert torch.equal(weight, before)
