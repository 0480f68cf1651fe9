"""Exactly as many synapses as asked for, whatever the network, the base and the gradients."""

import copy

import pytest
import torch
from budgets import births, deaths, equal, layers, methods, noise, nothing, reached, train, weights
from torch import nn

from synaprune.budget import constant, cubic, linear
from synaprune.optim import GradR, MagnitudeSTE

BASES = {
    "Adam": (torch.optim.Adam, {}),
    "AdamW": (torch.optim.AdamW, {"weight_decay": 0.1}),
    "SGD": (torch.optim.SGD, {"momentum": 0.9}),
}
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)


@pytest.fixture(params=[False, True], ids=["", "flush"])
def flush_denormal(request):
    torch.set_flush_denormal(request.param)
    yield
    torch.set_flush_denormal(False)


@methods
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("connectivity", "number"), [(0.001, 8), (0.01, 82), (0.05, 408), (0.5, 4076)])
def test_asked_is_reached(method, base, dtype, connectivity, number):
    base, options = BASES[base]
    schedule = cubic(steps=30, flat=0.2)
    optimizer = method(
        layers(dtype), 1e-2, sparsity=1 - connectivity, schedule=schedule, period=7, base=base, **options
    )
    train(optimizer, 28)
    assert sum(reached(optimizer)) == number
    train(optimizer, 1)
    optimizer.settle()
    assert sum(reached(optimizer)) == number
    train(optimizer, 1)
    assert sum(reached(optimizer)) == number


@methods
@dtypes
@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({"sparsity": 0.99, "allocation": "uniform"}, [12, 60, 10]),
        ({"sparsity": 0.99, "allocation": "erk"}, [8, 44, 30]),
        ({"sparsity": {"conv.*": 0.5, "*": 0.99}}, [576, 60, 10]),
    ],
    ids=["uniform", "erk", "pattern"],
)
def test_every_layer_has_its_number(method, dtype, options, numbers):
    optimizer = method(layers(dtype), lr=1e-2, schedule=linear(steps=16), period=3, **options)
    for step in range(1, 17):
        train(optimizer, 1, seed=step)
        if step % 3 == 0 or step == 16:
            assert reached(optimizer) == optimizer.plan(optimizer.param_groups[0]).counts(step)
    assert reached(optimizer) == numbers


@methods
@dtypes
@pytest.mark.parametrize("allocation", ["global", "scaled"])
def test_ranked_layers_have_the_number_together(method, dtype, allocation):
    optimizer = method(
        layers(dtype), lr=1e-2, sparsity=0.99, schedule=linear(steps=16), period=3, allocation=allocation
    )
    for step in range(1, 17):
        train(optimizer, 1, seed=step)
        if step % 3 == 0 or step == 16:
            assert sum(reached(optimizer)) == optimizer.plan(optimizer.param_groups[0]).count(step)
    assert sum(reached(optimizer)) == 82


STARTS = {
    "fresh": lambda weight: weight,
    "equal": lambda weight: torch.full_like(weight, 0.5),
    "two values": lambda weight: 0.1 * weight.sign(),
    "zero": torch.zeros_like,
    "half zero": lambda weight: weight * (weight > 0),
    "tiny": lambda weight: 1e-42 * weight.sign(),  # denormal numbers
    "far": lambda weight: 1e4 + weight,
}


@methods
@pytest.mark.parametrize("gradient", [noise, nothing, equal, births, deaths])
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_ties_births_and_deaths(method, gradient, start, allocation, flush_denormal):
    tensors = [(name, nn.Parameter(STARTS[start](weight.detach()))) for name, weight in layers()]
    optimizer = method(tensors, 1e-2, sparsity=0.9, schedule=linear(steps=8), period=2, allocation=allocation)
    for seed in range(8):
        train(optimizer, 2, gradient, seed)
        assert sum(reached(optimizer)) == optimizer.plan(optimizer.param_groups[0]).count(2 * seed + 2)
        assert all(weight.isfinite().all() for weight in weights(optimizer))
    assert sum(reached(optimizer)) in (815, 816)  # 815.2; layer by layer 115, 600 and 100


@methods
@pytest.mark.parametrize("gradient", [noise, births, deaths])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_settled_at_any_step(method, gradient, dtype):
    optimizer = method(layers(dtype), lr=0.03, sparsity=0.98, schedule=cubic(steps=30, pause=0.2), period=100)
    optimizer.settle()  # before the first step there is nothing to settle
    assert sum(reached(optimizer)) == 8152
    for step in range(1, 35):
        train(optimizer, 1, gradient, seed=step)
        optimizer.settle()
        assert sum(reached(optimizer)) == optimizer.plan(optimizer.param_groups[0]).count(step)
        settled = copy.deepcopy(weights(optimizer))
        optimizer.settle()  # again: no weight moves by more than a rounding
        assert all((a - b).abs().max() < 1e-7 for a, b in zip(settled, weights(optimizer)))
    assert sum(reached(optimizer)) == 163


@methods
def test_pause_keeps_all(method):
    optimizer = method(layers(), lr=1e-2, sparsity=0.9, schedule=cubic(steps=30, pause=0.5), period=3)
    train(optimizer, 15)
    assert reached(optimizer) == [1152, 6000, 1000]
    assert all(weight.abs().max() < 1 for weight in weights(optimizer))


@pytest.mark.parametrize("allocation", ["global", "erk"])
def test_signs_in_one_byte_change_nothing(allocation):
    nets = layers(), layers()
    optimizers = [
        GradR(net, lr=1e-2, sparsity=0.95, schedule=cubic(steps=30), period=4, allocation=allocation) for net in nets
    ]
    optimizers[1].rule.sign_dtype = torch.int8
    for optimizer in optimizers:
        train(optimizer, 30, births)
    assert optimizers[1].state[nets[1][0][1]]["sign"].dtype == torch.int8
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(*nets))
    assert sum(reached(optimizers[1])) == 408 if allocation == "global" else 407


@methods
def test_strides_stay(method):
    tensors = layers()
    strides = [weight.stride() for _, weight in tensors]
    optimizer = method(tensors, lr=1e-2, sparsity=0.95, schedule=cubic(steps=4), period=4)
    train(optimizer, 4)
    assert [weight.stride() for _, weight in tensors] == strides
    assert strides[0] != (72, 9, 3, 1)


@pytest.mark.parametrize("method", [GradR, MagnitudeSTE])
@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_competition_goes_on_at_a_constant_number(method, allocation):
    optimizer = method(layers(), 1e-2, sparsity=0.9, schedule=linear(steps=8), period=8, allocation=allocation)
    train(optimizer, 8)
    optimizer.turnover()
    for seed in range(1, 4):
        train(optimizer, 8, seed=seed)
        counts = optimizer.turnover().values()
        assert sum(n.pruned for n in counts) == sum(n.regrown for n in counts) > 20


@pytest.mark.parametrize("base", [torch.optim.Adam, torch.optim.SGD])
def test_a_regrown_synapse_moves_at_the_next_step(base):
    optimizer = GradR(layers(), lr=1e-2, sparsity=0.9, schedule=constant(steps=1), period=1, base=base)
    train(optimizer, 1)
    weight = weights(optimizer)[1]
    absent = weight == 0
    train(optimizer, 1, births)
    regrown = absent & (weight != 0)
    before = weight.detach().clone()
    train(optimizer, 1, seed=2)
    assert regrown.sum() > 10
    assert (weight != before)[regrown].all()


@methods
@pytest.mark.parametrize("allocation", ["global", "scaled", "uniform", "erk"])
def test_empty_tensors_and_groups(method, allocation):
    tensors = [*(weight for _, weight in layers()), nn.Parameter(torch.empty(0, 3))]
    groups = [{"params": tensors}, {"params": []}]
    optimizer = method(groups, lr=1e-2, sparsity=0.99, schedule=linear(steps=4), allocation=allocation)
    train(optimizer, 4)
    assert sum(reached(optimizer)) == 82


@methods
def test_a_period_longer_than_the_run(method):
    optimizer = method(layers(), lr=1e-2, sparsity=0.99, schedule=cubic(steps=10, flat=0.5), period=1000)
    train(optimizer, 9)
    assert sum(reached(optimizer)) > 4000
    train(optimizer, 1)
    assert sum(reached(optimizer)) == 82


@methods
def test_no_layer_dies(method):
    """The second layer is a thousand times smaller, so that none of it would survive the ranking."""
    large, small = nn.Parameter(torch.rand(100, 100) + 1), nn.Parameter(1e-3 * (torch.rand(10, 10) + 1))
    optimizer = method([large, small], lr=1e-2, sparsity=0.9, schedule=linear(steps=8), period=1)
    numbers = []
    for _ in range(8):
        train(optimizer, 1, nothing)
        numbers.append(reached(optimizer)[1])
    assert numbers == [8, 7, 6, 5, 4, 3, 2, 1]  # a tenth of its share, and one in any case
    assert reached(optimizer) == [1009, 1]
    optimizer.param_groups[0]["floor"] = 1.0
    train(optimizer, 1, nothing)
    assert reached(optimizer) == [1000, 10]


def test_scaled_ranks_by_what_a_layer_has_been():
    """Global thresholds take the layer of smaller weights away; in units of its own size it keeps its share."""
    numbers = {}
    for allocation in ("global", "scaled"):
        generator = torch.Generator().manual_seed(0)
        pair = [nn.Parameter(scale * torch.randn(100, 100, generator=generator)) for scale in (1.0, 0.01)]
        optimizer = GradR(pair, 1e-4, sparsity=0.5, schedule=constant(steps=1), allocation=allocation)
        train(optimizer, 1)
        numbers[allocation] = reached(optimizer)
    assert numbers["global"] == [9500, 500]  # the floor: a tenth of 5000
    assert numbers["scaled"][0] == pytest.approx(5000, abs=100)


def test_a_tensor_of_zeros_counts_as_whole():
    weight = nn.Parameter(torch.zeros(100, 10))
    optimizer = GradR([weight], lr=1e-2, sparsity=0.9, schedule=linear(steps=4), period=1)
    numbers = []
    for seed in range(4):
        train(optimizer, 1, seed=seed)
        numbers += reached(optimizer)
    assert numbers == [775, 550, 325, 100]
