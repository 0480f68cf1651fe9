"""Soft Deep R against its plain twin and against the closed form of its stationary density."""

import copy
import io

import pytest
import torch
from common import model, same, state_of, train
from torch import nn

from synaprune.errors import UsageError
from synaprune.optim.maps.threshold import TINY
from synaprune.optim.reference import deep_r as reference
from synaprune.optim.soft_deep_r import SoftDeepR
from synaprune.optim.topology.noise import MOVES, NOISES

SGD = torch.optim.SGD


def one(value, **options):
    weight = nn.Parameter(torch.as_tensor(value, dtype=torch.float32).clone())
    options = {"sparsity": 0.7, "alpha": 0.1, "temperature": 1e-3, "base": SGD, "lr": 0.1, **options}
    return weight, SoftDeepR([weight], allocation="uniform", **options)


def step(weight, optimizer, gradient):
    weight.grad = torch.as_tensor(gradient, dtype=weight.dtype).expand(weight.shape).clone()
    optimizer.step()


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize(
    ("base", "options", "direction"),
    [(SGD, {}, reference.SGD), (torch.optim.Adam, {}, reference.Adam)],
    ids=["sgd", "adam"],
)
def test_equals_plain_twin_over_300_steps(base, options, direction, kind):
    generate = torch.Generator().manual_seed(7)
    weight = nn.Parameter(0.05 * torch.randn(12, 10, generator=generate, dtype=torch.float64))
    settings = {"alpha": 0.1, "temperature": 1e-3, "noise": kind, "seed": 5, **options}
    optimizer = SoftDeepR([weight], lr=1e-2, sparsity=0.7, base=base, **settings)
    theta, sign = optimizer.theta(weight), state_of(optimizer, weight)["sign"].clone()
    twin = reference.SoftDeepR(theta, sign, 1e-2, 0.1, 1e-3, 0.3, direction())
    turned = 0
    for n in range(1, 301):
        before = weight != 0
        values, deviation = NOISES[kind](120, weight.device, 5, n, MOVES)
        weight.grad = torch.randn(12, 10, generator=generate, dtype=torch.float64)
        twin.step(weight.grad, sign * values.double().view(12, 10) / deviation)  # ours falls on z = s·θ
        optimizer.step()
        turned += int(((weight != 0) != before).sum())
        assert (optimizer.theta(weight) - twin.theta).abs().max() < 1e-11
        assert (weight - twin.w).abs().max() < 1e-11
    assert turned > 500
    assert (twin.theta == twin.theta_min).any()


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("connectivity", [0.2, 0.4])
def test_without_gradient_a_share_p_exists(kind, connectivity):
    """Density constant on (θ_min, 0), falling as e^{−αθ/T} above: P(θ > 0) = (T/α) / (T/α − θ_min) = p."""
    mean, rate = 0.01, 0.1  # T/α, η
    alpha = 0.2**2 * mean / (2 * rate)  # one step of the noise is a fifth of the mean
    weight, optimizer = one(
        torch.zeros(150, 200), alpha=alpha, temperature=alpha * mean, lr=rate, noise=kind, sparsity=0.5
    )
    optimizer.param_groups[0]["sparsity"] = 1.0 - connectivity  # so that it does not begin where it shall end
    for _ in range(800):
        step(weight, optimizer, 0.0)
    theta = optimizer.theta(weight)
    floor = -mean * (1 - connectivity) / connectivity
    assert theta.min().item() == pytest.approx(floor, rel=1e-5)
    # The floor holds synapses that stood at it for a moment: 0.58 steps more room than the continuous motion has.
    room = -floor + 0.58 * 0.2 * mean
    assert optimizer.connectivity() == pytest.approx(mean / (mean + room), abs=4 * (connectivity / 30_000) ** 0.5)
    assert optimizer.connectivity() == pytest.approx(connectivity, rel=0.06)
    assert theta[theta > 0].mean().item() == pytest.approx(mean, rel=0.1)
    inside = theta[(theta > floor) & (theta <= 0)] / floor
    assert inside.mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("kind", NOISES)
def test_noise_has_the_variance_2_eta_t_and_reaches_all(kind):
    weight, optimizer = one(torch.zeros(400, 500), temperature=2e-3, lr=1e-3, noise=kind)
    before = optimizer.theta(weight)
    middle = (before - before.min() / 2).abs() < before.min().abs() / 4  # neither the floor nor 0 within reach
    step(weight, optimizer, 0.0)
    moves = (optimizer.theta(weight) - before)[middle]
    count = middle.sum().item()
    assert count > 50_000
    assert abs(moves.mean()) < 5 * (2 * 1e-3 * 2e-3 / count) ** 0.5
    assert abs(moves.square().mean() / (2 * 1e-3 * 2e-3) - 1) < 5 * (2 / count) ** 0.5


@pytest.mark.parametrize("base", [SGD, torch.optim.Adam])
def test_gradient_and_penalty_reach_only_what_exists_and_momentum_carries_nothing_absent(base):
    options = {"momentum": 0.9} if base is SGD else {}
    weight, optimizer = one(torch.full((300,), 0.05), base=base, lr=1e-3, temperature=1e-9, alpha=1e-6, **options)
    theta = optimizer.theta(weight)
    sign, noise = state_of(optimizer, weight)["sign"], 6 * (2e-3 * 1e-9) ** 0.5
    for _ in range(100):  # everything that exists is pushed down
        step(weight, optimizer, 5.0 * sign)
        before, theta = theta, optimizer.theta(weight)
        absent = before <= 0
        assert ((theta - before).abs()[absent & (before > optimizer.theta(weight).min())] < noise).all()
        assert (theta[~absent] < before[~absent]).all()
    assert optimizer.connectivity() < 0.1


def test_a_synapse_that_noise_brings_back_learns_at_the_next_step():
    weight, optimizer = one(torch.full((1000,), 0.5), lr=1e-2)
    sign, absent = state_of(optimizer, weight)["sign"].clone(), weight == 0
    step(weight, optimizer, 0.0)
    newborn = absent & (weight != 0)
    assert newborn.sum() > 10
    before = optimizer.theta(weight)[newborn]
    step(weight, optimizer, -10.0 * sign)  # moves what exists by 0.1, noise by 0.004
    assert ((optimizer.theta(weight)[newborn] - before - 0.1).abs() < 0.03).all()
    assert torch.equal(weight.sign()[newborn], sign[newborn])


def test_begins_with_a_share_p_of_the_weights_there_were_and_the_rest_between_floor_and_0():
    start = torch.randn(200, 300, generator=torch.Generator().manual_seed(1))
    weight, optimizer = one(start)
    exists = weight != 0
    assert exists.double().mean().item() == pytest.approx(0.3, abs=0.01)
    torch.testing.assert_close(weight[exists], start[exists], rtol=0, atol=1e-6)
    depths = optimizer.theta(weight)[~exists] / (-1e-3 * 0.7 / (0.1 * 0.3))
    assert depths.min() >= 0
    assert depths.max() <= 1
    assert depths.mean().item() == pytest.approx(0.5, abs=0.01)
    rescaled, _ = one(start, rescale=True)
    torch.testing.assert_close(rescaled[exists], start[exists] / 0.3**0.5, rtol=0, atol=1e-5)


def test_layers_have_their_own_floors():
    small, large = nn.Parameter(torch.ones(10, 20)), nn.Parameter(torch.ones(50, 100))
    optimizer = SoftDeepR([small, large], sparsity=0.9, alpha=1e-2, temperature=1e-4)
    for weight in (small, large):
        p = {200: 0.4333, 5000: 0.0867}[weight.numel()]  # in proportion to 30/200 and 150/5000
        assert state_of(optimizer, weight)["offset"] == pytest.approx(1e-2 * (1 - p) / p, rel=0.02)


def test_a_changed_option_moves_the_floor_and_no_theta():
    weight, optimizer = one(torch.full((1000,), 0.5), lr=0.0)
    before = optimizer.theta(weight)
    optimizer.param_groups[0]["temperature"] = 2e-3
    step(weight, optimizer, 0.0)
    torch.testing.assert_close(optimizer.theta(weight), before, rtol=0, atol=1e-7)
    optimizer.param_groups[0]["temperature"] = 1e-4
    step(weight, optimizer, 0.0)
    torch.testing.assert_close(optimizer.theta(weight), before.clamp(min=-1e-3 * 7 / 3), rtol=0, atol=1e-7)


@pytest.mark.parametrize("base", [SGD, torch.optim.Adam])
def test_nothing_becomes_denormal(base):
    options = {"momentum": 0.5} if base is SGD else {"betas": (0.5, 0.6)}
    weight, optimizer = one(torch.full((2000,), 0.05), base=base, **options)
    step(weight, optimizer, torch.randn(2000))
    for _ in range(200):
        step(weight, optimizer, 0.0)
        state = state_of(optimizer, weight)
        for values in (state["latent"], *(value for value in state["base"].values() if value.ndim)):
            assert (values.abs()[values != 0] > 2.0**-126).all()
    assert not any(value.any() for value in state["base"].values() if value.ndim)
    assert TINY > 2.0**-126


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", NOISES)
def test_saved_state_continues_bit_for_bit_and_replicas_are_identical(kind, dtype):
    options = {"lr": 1e-2, "sparsity": 0.8, "temperature": 1e-5, "alpha": 0.01, "noise": kind, "seed": 2}
    net = model(dtype)
    net[0].weight.data = net[0].weight.data.contiguous(memory_format=torch.channels_last)
    twin = copy.deepcopy(net)
    optimizer, replica = SoftDeepR(net, **options), SoftDeepR(twin, **options)
    train(net, optimizer, 8)
    train(twin, replica, 8)
    assert same(net, twin)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other = SoftDeepR(twin, **{**options, "seed": 9})
    twin.load_state_dict(net.state_dict())
    other.load_state_dict(torch.load(file, weights_only=True))
    copied_net, copied = copy.deepcopy((net, optimizer))
    for pair in [(net, optimizer), (twin, other), (copied_net, copied)]:
        train(*pair, 20, seed=1)
    assert same(net, twin)
    assert same(net, copied_net)
    foreign = model(dtype)
    train(foreign, SoftDeepR(foreign, **{**options, "seed": 9}), 8)
    assert not same(foreign, net)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NOISES)
def test_the_compiled_motion_is_the_eager_one(kind):
    nets = [model(), model()]
    for net, compiled in zip(nets, (False, True)):
        net[0].weight.data = net[0].weight.data.contiguous(memory_format=torch.channels_last)
        options = {"sparsity": 0.8, "noise": kind, "alpha": 0.05, "compile_motion": compiled}
        optimizer = SoftDeepR(net, lr=1e-2, **options)
        for _ in range(20):
            train(net, optimizer, 1)
    for name in ("0.weight", "4.weight"):
        one, other = (net.get_parameter(name) for net in nets)
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
        assert 0 < torch.count_nonzero(one) < one.numel()
    assert state_of(optimizer, nets[1][4].weight)["sign"].dtype == torch.int8


def test_weights_written_by_others_are_taken_over():
    weight, optimizer = one(torch.full((50,), 0.5), lr=1e-6)
    with torch.no_grad():
        own = weight.clone()
        weight.fill_(0.25)
        weight.copy_(own)
    theta = optimizer.theta(weight)
    step(weight, optimizer, 0.0)  # averages swapped in and out change nothing
    torch.testing.assert_close(optimizer.theta(weight), theta, rtol=0, atol=1e-3)
    exists = weight != 0
    with torch.no_grad():
        weight.copy_(torch.where(exists, 0.0, -2.0))
    step(weight, optimizer, 0.0)
    assert not weight[exists].any()
    torch.testing.assert_close(weight[~exists], torch.full_like(weight[~exists], -2.0), rtol=0, atol=1e-3)
    assert (optimizer.theta(weight)[exists] > optimizer.theta(weight).new_tensor(-1e-3 * 7 / 0.3)).all()


def test_frozen_topology_rests():
    net = model()
    optimizer = SoftDeepR(net, lr=1e-2, sparsity=0.8, temperature=1e-4, alpha=0.1)
    train(net, optimizer, 5)
    weight = net[4].weight
    absent = weight == 0
    optimizer.freeze_topology()
    train(net, optimizer, 20)
    assert not weight[absent].any()
    optimizer.freeze_topology(False)
    train(net, optimizer, 20)
    assert weight[absent].any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": 0.0}, "with temperature=0 nothing would ever regrow in soft Deep R; give temperature a"),
        ({"alpha": 0.0}, "with alpha=0 nothing would ever be pruned"),
        ({"temperature": -1.0}, "temperature=-1.0 is not a finite number of at least 0"),
        ({"alpha": "auto"}, "alpha='auto' is no number, and SoftDeepR solves for none"),
        ({"sparsity": 1.0}, r"sparsity=1.0 is not a number in \[0, 1\)"),
        ({"noise": "gausian"}, "there is no noise 'gausian'; did you mean 'gaussian'"),
        ({"floor": 0.1}, "SoftDeepR knows no floor"),
        ({"period": 16}, "knows no period"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(options, words):
    with pytest.raises(UsageError, match=words) as raised:
        one(torch.ones(20), **options)
    assert "\n" not in str(raised.value)


def test_a_number_of_synapses_for_all_layers_together_is_refused():
    with pytest.raises(UsageError, match="allocation='global' ranks what has been learned, and SoftDeepR draws"):
        SoftDeepR([nn.Parameter(torch.ones(20))], sparsity=0.5, allocation="global")
