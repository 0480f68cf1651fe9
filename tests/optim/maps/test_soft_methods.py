"""The contract of the methods behind a soft threshold, shown with all of them."""

import copy
import io

import pytest
import torch
from common import model, same, train
from torch import nn

from synaprune.budget import cubic, linear, sine
from synaprune.errors import UsageError
from synaprune.optim.lats import LATS
from synaprune.optim.stds import STDS
from synaprune.optim.str import STR

STRENGTHS = {
    "stds": (STDS, {"threshold": 0.1, "schedule": sine(40)}),
    "stds gated": (STDS, {"threshold": 0.1, "schedule": linear(40), "gated": True}),
    "lats": (LATS, {"alpha": 0.3}),
    "pgh": (LATS, {"alpha": 0.3, "beta": 0.1, "schedule": linear(40)}),
    "str": (STR, {"threshold_decay": 2.0}),
}
BUDGET = {"sparsity": 0.9, "schedule": cubic(40, flat=0.5), "period": 7}
BUDGETS = {
    "stds budget": (STDS, BUDGET),
    "stds gated budget": (STDS, {**BUDGET, "gated": True}),
    "lats budget": (LATS, BUDGET),
    "str budget": (STR, BUDGET),
}
METHODS = {**STRENGTHS, **BUDGETS}


def make(name, params, lr=1e-2, **options):
    method, own = METHODS[name]
    return method(params, lr=lr, **{**own, **options})


def through_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_state_through_a_file_continues_identically(name, dtype):
    net = model(dtype)
    optimizer = make(name, net)
    train(net, optimizer, 20)
    assert 0 < optimizer.connectivity() < 1
    other = model(dtype)
    resumed = make(name, other, lr=5.0)
    other.load_state_dict(through_file(net.state_dict()))
    resumed.load_state_dict(through_file(optimizer.state_dict()))
    for network, opt in ((net, optimizer), (other, resumed)):
        train(network, opt, 60, seed=1)
        opt.settle()
    assert same(net, other)


@pytest.mark.parametrize("name", METHODS)
def test_deepcopy_continues_identically(name):
    net = model()
    optimizer = make(name, net)
    train(net, optimizer, 10)
    twin, twin_optimizer = copy.deepcopy((net, optimizer))
    train(net, optimizer, 20, seed=2)
    assert not same(net, twin)
    train(twin, twin_optimizer, 20, seed=2)
    assert same(net, twin)


@pytest.mark.parametrize("name", METHODS)
def test_channels_last_equals_contiguous(name):
    start = 0.1 * torch.randn(4, 3, 5, 5)
    plain, last = nn.Parameter(start.clone()), nn.Parameter(start.clone().to(memory_format=torch.channels_last))
    optimizers = [make(name, [p], lr=1e-3) for p in (plain, last)]
    for _ in range(8):
        plain.grad = torch.randn(4, 3, 5, 5)
        last.grad = plain.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(plain, last, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", STRENGTHS)
def test_frozen_topology_keeps_absent_synapses_absent_and_thresholds_as_they_are(name):
    net = model()
    optimizer = make(name, net)
    train(net, optimizer, 20)
    weights = [net[0].weight, net[4].weight]
    masks, thresholds = ([f(w) for w in weights] for f in (optimizer.mask, lambda w: optimizer.state[w]["threshold"]))
    before = copy.deepcopy(net.state_dict())
    optimizer.freeze_topology()
    train(net, optimizer, 10)
    for weight, mask, threshold in zip(weights, masks, thresholds):
        assert not mask.all()
        assert not weight[~mask].any()
        assert optimizer.state[weight]["threshold"] == threshold
    assert not torch.equal(before["4.weight"], net[4].weight)
    optimizer.freeze_topology(False)
    assert all((optimizer.theta(weight)[~mask] <= 1e-8).all() for weight, mask in zip(weights, masks))
    train(net, optimizer, 1)
    assert optimizer.state[weights[0]]["threshold"] > thresholds[0]


def step(optimizer, weight, *gradient):
    weight.grad = torch.tensor(gradient, dtype=weight.dtype)
    optimizer.step()


def test_a_synapse_changes_its_sign_behind_a_dead_zone_of_width_2d():
    weight = nn.Parameter(torch.tensor([0.5, 4.0]))
    optimizer = STDS([weight], lr=1.0, threshold=0.25, schedule=sine(2, flat=0.5), base=torch.optim.SGD)
    seen = []
    for push in (0.0, 0.125, 0.25, 0.25, 0.25):
        step(optimizer, weight, push, 0.0)
        seen.append(weight[0].item())
    assert seen == [0.25, 0.125, 0.0, 0.0, -0.125]
    step(optimizer, weight, 0.125, 0.0)  # it moves at the very next step
    assert weight[0].item() == -0.25


def test_a_gated_synapse_that_is_lost_stays_where_it_is():
    weight = nn.Parameter(torch.tensor([0.5, 4.0]))
    schedule = sine(2, flat=0.5)
    optimizer = STDS([weight], lr=1.0, threshold=0.25, schedule=schedule, gated=True, base=torch.optim.SGD)
    step(optimizer, weight, 0.25, 0.0)
    assert optimizer.theta(weight)[0].item() == 0.0
    step(optimizer, weight, -9.0, 0.0)
    assert weight.tolist() == [0.0, 3.75]


@pytest.mark.parametrize("name", STRENGTHS)
def test_pruned_network_keeps_its_connectivity(name):
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.zeros(100, 100))
    weight.data[:2] = 0.1 + torch.rand(2, 100, generator=generator)
    optimizer = make(name, [weight], lr=1e-3)
    for _ in range(12):
        weight.grad = torch.randn(100, 100, generator=generator)
        optimizer.step()
    assert 0.019 < optimizer.connectivity() < 0.021


@pytest.mark.parametrize("name", METHODS)
def test_tensors_of_zeros_can_live(name):
    weight = nn.Parameter(torch.zeros(20, 10))
    other = nn.Parameter(torch.randn(20, 10))
    optimizer = make(name, [weight, other], lr=0.1)
    weight.grad, other.grad = torch.randn(20, 10), torch.zeros(20, 10)
    optimizer.step()
    assert (weight != 0).any()


@pytest.mark.parametrize("name", METHODS)
def test_swapping_averages_in_and_out_changes_nothing(name):
    weight = nn.Parameter(torch.randn(50))
    twin = nn.Parameter(weight.detach().clone())
    optimizers = [make(name, [p]) for p in (weight, twin)]
    for _ in range(8):
        weight.grad = torch.randn(50)
        twin.grad = weight.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
        with torch.no_grad():
            own = weight.clone()
            weight.fill_(0.3)
            weight.copy_(own)
    assert torch.equal(weight, twin)
    assert torch.equal(optimizers[0].theta(weight), optimizers[1].theta(twin))


@pytest.mark.parametrize("name", METHODS)
def test_masks_from_outside_hold_as_long_as_nobody_calls(name):
    weight = nn.Parameter(torch.randn(500))
    optimizer = make(name, [weight], lr=1e-3)
    weight.grad = 0.1 * torch.randn(500)
    optimizer.step()
    with torch.no_grad():
        weight[:100] = 0.0
    kept = weight[100:].clone()
    optimizer.step()
    assert not weight[:100].any()
    assert (weight[100:] - kept).abs().max() < 0.03


@pytest.mark.parametrize("base", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_weight_decay_acts_on_weights_and_never_on_dead_latents(base):
    weight = nn.Parameter(torch.tensor([0.5, 3.0]))
    optimizer = STDS([weight], lr=0.1, threshold=1.0, schedule=sine(1), base=base, weight_decay=0.5)
    step(optimizer, weight, 0.0, 0.0)  # with decay of both; from here on the first is absent
    dead, before = optimizer.theta(weight)[0].item(), weight[1].item()
    assert dead < 0
    step(optimizer, weight, 0.0, 0.0)
    if base is not torch.optim.Adam:  # whose first moment goes on
        assert optimizer.theta(weight)[0].item() == dead
        torch.testing.assert_close(weight[1].item(), before * 0.95)
    assert weight[1] < before
    assert not weight.grad.any()


@pytest.mark.parametrize("name", ["stds gated", "str"])
def test_moments_of_absent_synapses_do_not_decay_into_denormal_numbers(name):
    weight = nn.Parameter(torch.cat([torch.full((50,), 0.01), torch.full((50,), 9.0)]))
    optimizer = make(name, [weight], lr=1e-3)
    for n in range(1100):
        weight.grad = torch.full((100,), 1e-3 if n < 40 else 0.0)
        optimizer.step()
    moment = optimizer.state[weight]["base"]["exp_avg"]
    assert not weight[:50].any()
    assert not moment[:50].any()


def reached(method, sparsity, base, dtype, quantum=0.0):
    generator = torch.Generator().manual_seed(0)
    shapes = (80, 79), (10, 80)
    weights = [nn.Parameter((0.1 * torch.randn(shape, generator=generator)).to(dtype)) for shape in shapes]
    if quantum:  # hundreds of synapses for each value
        for weight in weights:
            weight.data.div_(quantum).round_().mul_(quantum)
    optimizer = method(weights, lr=1e-2, sparsity=sparsity, schedule=cubic(24, flat=0.3), period=5, base=base)
    for _ in range(30):
        for weight in weights:
            gradient = torch.randn(weight.shape, generator=generator)
            weight.grad = (gradient.sign() if quantum else gradient).to(dtype)
        optimizer.step()
    optimizer.settle()
    return sum(int(torch.count_nonzero(weight)) for weight in weights)


@pytest.mark.parametrize("quantum", [0.0, 2.0**-5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("base", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize("method", [STDS, LATS, STR])
def test_budgets_are_met_to_the_synapse(method, base, dtype, quantum):
    for sparsity, count in ((0.0, 7120), (0.5, 3560), (0.95, 356), (0.99, 71), (0.999, 7)):
        assert reached(method, sparsity, base, dtype, quantum) == count


@pytest.mark.parametrize("allocation", ["scaled", "uniform", "erk"])
def test_budgets_per_layer(allocation):
    net = model()
    optimizer = STDS(net, lr=1e-2, sparsity=0.9, schedule=cubic(10), allocation=allocation, period=4)
    train(net, optimizer, 10)
    left = [int(torch.count_nonzero(net[i].weight)) for i in (0, 4)]
    expected = {"uniform": [11, 48], "erk": [7, 52]}
    assert sum(left) == 59
    assert left == expected.get(allocation, left)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        (STDS, {}, r"how much to prune; give threshold=…, or sparsity=…"),
        (LATS, {}, r"how much to prune; give alpha=…, or sparsity=…"),
        (STR, {}, r"how much to prune; give threshold_decay=…, or sparsity=…"),
        (STDS, {"sparsity": 0.9}, r"give schedule=cubic\(steps=…\)"),
        (LATS, {"sparsity": 0.9}, r"give schedule=cubic\(steps=…\)"),
        (STR, {"sparsity": 0.9}, r"give schedule=cubic\(steps=…\)"),
        (STDS, {"threshold": 1.0, "sparsity": 0.9}, "leave out one of the two"),
        (LATS, {"alpha": 1.0, "sparsity": 0.9}, "leave out one of the two"),
        (STR, {"threshold_decay": 1.0, "sparsity": 0.9}, "leave out one of the two"),
        (STDS, {"threshold": -1.0, "schedule": sine(5)}, r"threshold=-1\.0 is not a finite number of at least 0"),
        (LATS, {"alpha": float("inf")}, "alpha=inf"),
        (LATS, {"alpha": "much"}, "alpha='much'"),
        (STR, {"threshold_decay": float("nan")}, "threshold_decay=nan"),
        (STDS, {"threshold": True, "schedule": sine(5)}, "threshold=True is not a finite number"),
        (LATS, {"alpha": "0.5"}, r"alpha='0\.5' is not a finite number"),
        (LATS, {"alpha": 0.5, "gated": "yes"}, "gated='yes' is neither True nor False"),
    ],
)
def test_bad_values_are_named(method, options, words):
    with pytest.raises(UsageError, match=words):
        method([nn.Parameter(torch.ones(2, 2))], **options)


def test_a_bad_value_in_a_group_changes_nothing():
    weight = nn.Parameter(torch.ones(2))
    optimizer = LATS([weight], lr=0.1, alpha=1.0)
    optimizer.param_groups[0]["alpha"] = -2.0
    weight.grad = torch.ones(2)
    with pytest.raises(UsageError, match=r"alpha=-2\.0"):
        optimizer.step()
    assert weight.tolist() == [1.0, 1.0]
