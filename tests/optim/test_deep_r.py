"""Deep R against its plain twin, and what it promises: exactly K, drawn anew at random, moving at once."""

import copy
import io

import pytest
import torch
from common import BASES, model, same, state_of, train
from torch import nn

from synaprune.errors import UsageError
from synaprune.optim.deep_r import DeepR
from synaprune.optim.maps.threshold import TINY
from synaprune.optim.reference import deep_r as reference
from synaprune.optim.topology.noise import BIRTHS, MOVES, gaussian, numpy_generator

SGD = torch.optim.SGD
SYNAPSES = ("0.weight", "4.weight")  # of the network in common.py: 108 and 480


def tensors(*values, **options):
    weights = [nn.Parameter(torch.as_tensor(value, dtype=torch.float32).clone()) for value in values]
    options = {
        "sparsity": 0.5,
        "alpha": 0.0,
        "temperature": 0.0,
        "base": SGD,
        "lr": 0.1,
        "allocation": "uniform",
        **options,
    }
    return *weights, DeepR(weights, **options)


def step(optimizer, *gradients):
    for weight, gradient in zip(optimizer.param_groups[0]["params"], gradients):
        weight.grad = torch.as_tensor(gradient, dtype=weight.dtype).expand(weight.shape).clone()
    optimizer.step()


def counts(net):
    return [int(torch.count_nonzero(net.get_parameter(name))) for name in SYNAPSES]


@pytest.mark.parametrize(
    ("base", "options", "direction"),
    [(torch.optim.Adam, {}, reference.Adam), (SGD, {"momentum": 0.9}, lambda: reference.SGD(0.9))],
    ids=["adam", "sgd"],
)
def test_equals_plain_twin_over_300_steps(base, options, direction):
    generate = torch.Generator().manual_seed(7)
    weight = nn.Parameter(0.05 * torch.randn(12, 10, generator=generate, dtype=torch.float64))
    optimizer = DeepR([weight], lr=1e-3, sparsity=0.8, alpha=0.2, temperature=1e-4, base=base, seed=5, **options)
    sign, clock = state_of(optimizer, weight)["sign"].clone(), 0

    def choose(dormant, missing):
        return dormant[numpy_generator(5, clock, BIRTHS).choice(len(dormant), missing, replace=False)]

    theta = optimizer.theta(weight)
    twin = reference.DeepR(theta, sign, 1e-3, 0.2, 1e-4, direction(), choose, TINY)
    births = 0
    for clock in range(1, 301):
        before, nu = weight.detach().clone(), torch.zeros(120, dtype=torch.float64)
        active = before.flatten().nonzero().flatten()
        nu[active] = gaussian(len(active), weight.device, 5, clock, MOVES)[0].double()
        weight.grad = torch.randn(12, 10, generator=generate, dtype=torch.float64)
        twin.step(weight.grad, nu.view(12, 10))
        optimizer.step()
        births += int(((weight != 0) & (before == 0)).sum())
        assert (weight - twin.w).abs().max() < 1e-12
    assert births > 100


@pytest.mark.parametrize("base", [SGD, torch.optim.Adam])
def test_a_newborn_moves_at_the_next_step(base):
    weight, optimizer = tensors([0.05, 0.05, -0.05, 0.05], base=base)
    existed, sign = weight != 0, state_of(optimizer, weight)["sign"]
    step(optimizer, 10.0 * sign)  # all that exist fall below 0
    newborn = weight != 0
    assert newborn.sum() == 2
    assert (weight[newborn].abs() == TINY).all()
    assert torch.equal(weight.sign()[newborn], sign[newborn])
    assert existed.sum() == 2
    step(optimizer, -sign)
    assert torch.equal(weight != 0, newborn)
    assert (weight[newborn].abs() > 0.07).all()  # SGD: 0.1, Adam in its second step: 0.074


def test_what_is_lost_is_replaced_by_any_dormant_one_alike():
    """Where all are lost at every step, each place is taken as often as any other."""
    weight, optimizer = tensors(torch.ones(50), sparsity=0.8, alpha=100.0)
    taken = torch.zeros(50)
    for _ in range(2000):
        step(optimizer, 0.0)
        taken += weight != 0
    assert taken.sum() == 20_000
    assert (taken - 400).abs().max() < 5 * (2000 * 0.2 * 0.8) ** 0.5


def test_a_newborn_does_not_inherit_the_moments_of_its_past():
    weight, optimizer = tensors(torch.full((40,), 0.05), base=torch.optim.Adam, lr=1e-3, alpha=10.0)
    for _ in range(20):
        step(optimizer, torch.randn(40))
        born = weight.abs() == TINY
        moments = state_of(optimizer, weight)["base"]
        assert not moments["exp_avg"][born].any()
        assert not moments["exp_avg_sq"][born].any()
        assert moments["exp_avg"][weight.abs() > TINY].all()


@pytest.mark.parametrize(
    ("base", "options", "moment", "first"),
    [
        (torch.optim.Adagrad, {"initial_accumulator_value": 0.5}, "sum", 0.5),
        (torch.optim.Rprop, {}, "step_size", 0.1),
        (SGD, {"momentum": 0.9}, "momentum_buffer", 0.0),
    ],
)
def test_the_base_begins_anew_with_a_newborn(base, options, moment, first):
    weight, optimizer = tensors(torch.full((40,), 0.05), base=base, alpha=1.0, **options)
    step(optimizer, 1.0)
    step(optimizer, torch.randn(40))
    born = weight.abs() == TINY
    assert 0 < born.sum() <= 20
    values = state_of(optimizer, weight)["base"][moment]
    assert (values[born] == torch.tensor(first)).all()
    assert (values != torch.tensor(first)).any()


def test_signs_never_change():
    net = model()
    optimizer = DeepR(net, lr=1e-2, sparsity=0.8, temperature=1e-5)
    seen = {name: torch.zeros_like(net.get_parameter(name)) for name in SYNAPSES}
    for seed in range(60):
        train(net, optimizer, 1, seed)
        for name, signs in seen.items():
            now = net.get_parameter(name).detach().sign()
            assert not (signs * now < 0).any()
            signs.copy_(torch.where(now != 0, now, signs))
    assert sum(int((signs != 0).sum()) for signs in seen.values()) > 1.5 * sum(counts(net))


# -- exactly K -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"allocation": "uniform", "sparsity": 0.8}, [22, 96]),
        ({"allocation": "erk", "sparsity": 0.8}, [22, 96]),
        ({"sparsity": {"0.*": 0.5, "*": 0.9}}, [54, 48]),
        ({"sparsity": 0.0}, [108, 480]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_layer_keeps_its_number(options, expected, dtype):
    net = model(dtype)
    optimizer = DeepR(net, lr=1e-2, temperature=1e-5, **options)
    if options.get("allocation") == "erk":
        expected = counts(net)
        assert sum(expected) == round(0.2 * 588)
        assert expected != [22, 96]
    for seed in range(12):
        assert counts(net) == expected
        train(net, optimizer, 1, seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", BASES)
def test_all_layers_together_keep_their_number_under_any_base(name, dtype):
    net = model(dtype)
    net[0].weight.data = net[0].weight.data.contiguous(memory_format=torch.channels_last)
    optimizer = DeepR(net, lr=1e-2, sparsity=0.9, allocation="global", temperature=0.1, base=BASES[name])
    seen = set()
    for seed in range(15):
        assert sum(counts(net)) == 59
        seen.add(counts(net)[0])
        train(net, optimizer, 1, seed)
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert len(seen) > 1


def test_global_births_take_a_layer_in_proportion_to_its_dormant_synapses():
    small, large, optimizer = tensors(
        torch.ones(20), torch.ones(80), sparsity=0.5, alpha=100.0, allocation="global", seed=1
    )
    taken = 0
    for _ in range(400):
        step(optimizer, 0.0, 0.0)
        taken += int(torch.count_nonzero(small))
        assert torch.count_nonzero(small) + torch.count_nonzero(large) == 50
    assert abs(taken / 400 - 10) < 5 * (50 * 0.2 * 0.8 * 50 / 99 / 400) ** 0.5


def test_weights_written_by_others_are_brought_to_the_number():
    weight, other, optimizer = tensors(torch.full((10,), 0.5), torch.full((10,), 0.5))
    step(optimizer, 0.0, 0.0)
    with torch.no_grad():
        weight.copy_(torch.arange(1.0, 11.0) * torch.tensor([1.0, -1.0]).repeat(5))
        other.zero_()
    step(optimizer, 0.0, 0.0)
    assert weight.tolist() == [0, 0, 0, 0, 0, -6, 7, -8, 9, -10]
    assert torch.count_nonzero(other) == 5
    with torch.no_grad():
        weight.fill_(2.0)
    optimizer.settle()
    assert torch.count_nonzero(weight) == 5


def test_frozen_topology_rests_and_thaws():
    net = model()
    optimizer = DeepR(net, lr=1e-2, sparsity=0.8, temperature=1e-4, alpha=0.1)
    train(net, optimizer, 5)
    masks = [optimizer.mask(net.get_parameter(name)) for name in SYNAPSES]
    before, weights = counts(net), [net.get_parameter(name).detach().clone() for name in SYNAPSES]
    optimizer.freeze_topology()
    train(net, optimizer, 30)
    assert all(torch.equal(mask, optimizer.mask(net.get_parameter(name))) for mask, name in zip(masks, SYNAPSES))
    assert any((net.get_parameter(name) * old < 0).any() for name, old in zip(SYNAPSES, weights))
    optimizer.freeze_topology(False)
    for mask, name in zip(masks, SYNAPSES):
        assert torch.equal(optimizer.theta(net.get_parameter(name)) > 0, mask)
    train(net, optimizer, 5)
    assert counts(net) == before
    assert any(not torch.equal(mask, optimizer.mask(net.get_parameter(name))) for mask, name in zip(masks, SYNAPSES))


# -- how the active ones move ----------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [SGD, torch.optim.Adam])
def test_noise_has_the_variance_2_eta_t_and_reaches_active_synapses_only(base):
    rate, temperature = 0.02, 3e-4
    weight, optimizer = tensors(torch.full((400, 500), 5.0), lr=rate, temperature=temperature, alpha=0.5, base=base)
    active = weight != 0
    step(optimizer, 0.0)
    moves = optimizer.theta(weight)[active] - 5.0
    deviation = (2 * rate * temperature) ** 0.5
    count = active.sum().item()
    assert count == 100_000
    assert abs(moves.mean() + rate * 0.5) < 5 * deviation / count**0.5
    assert abs(moves.std() / deviation - 1) < 5 / (2 * count) ** 0.5
    assert not weight[~active].any()


@pytest.mark.parametrize("base", [SGD, torch.optim.Adam, torch.optim.AdamW])
def test_with_all_synapses_it_is_the_base_with_a_decoupled_l1_penalty(base):
    start = torch.randn(6, 5).sign() * 3
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizer = DeepR([ours], lr=1e-2, sparsity=0.0, alpha=0.3, temperature=0.0, base=base, weight_decay=0.0)
    plain = base([theirs], lr=1e-2, weight_decay=0.0, fused=True)
    for seed in range(50):
        ours.grad = torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))
        theirs.grad = ours.grad.clone()
        optimizer.step()
        plain.step()
        with torch.no_grad():
            theirs.sub_(theirs.sign(), alpha=1e-2 * 0.3)
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, start)


def test_no_latent_becomes_denormal():
    weight, optimizer = tensors(torch.full((200,), 1e-3), base=torch.optim.AdamW, weight_decay=5.0, lr=0.1)
    for _ in range(300):  # halves whatever exists at every step
        step(optimizer, 0.0)
        latent = state_of(optimizer, weight)["latent"]
        assert (latent.abs()[latent != 0] >= TINY).all()
        assert torch.count_nonzero(weight) == 100


# -- what it begins with ---------------------------------------------------------------------------------------


def test_begins_sparse_with_the_weights_there_were():
    start = torch.randn(40, 50, generator=torch.Generator().manual_seed(3))
    weight, optimizer = tensors(start, sparsity=0.9, rescale=True)
    active = weight != 0
    assert active.sum() == 200
    torch.testing.assert_close(weight[active], start[active] * 10**0.5)
    signs = state_of(optimizer, weight)["sign"]
    assert 0.45 < (signs == start.sign())[~active].double().mean() < 0.55  # drawn, not taken over
    plain, _ = tensors(start, sparsity=0.9)
    assert torch.equal(plain[active], start[active])


def test_of_a_network_that_is_sparse_already_the_synapses_that_exist_are_drawn_first():
    sparse = torch.tensor([0.0, 3.0, 0.0, -2.0, 0.0, 0.0, 0.0, 4.0])
    weight, _ = tensors(sparse, rescale=True)  # four shall exist, three do
    assert torch.equal(weight[sparse != 0], sparse[sparse != 0])
    assert (weight[sparse == 0].abs() == TINY).sum() == 1
    fewer, _ = tensors(sparse, sparsity=0.75, rescale=True)
    assert torch.count_nonzero(fewer) == 2
    torch.testing.assert_close(fewer[fewer != 0], sparse[fewer != 0] * 1.5**0.5)


def test_zeros_can_live_and_a_group_added_later_is_sparse_at_once():
    weight, optimizer = tensors(torch.zeros(100))
    assert (weight[weight != 0].abs() == TINY).sum() == 50
    assert 10 < (weight > 0).sum() < 40
    late = nn.Parameter(torch.ones(40))
    optimizer.add_param_group({"params": [late], "sparsity": 0.75})
    plain = nn.Parameter(torch.ones(4))
    optimizer.add_param_group({"params": [plain], "rewire": False})
    assert torch.count_nonzero(late) == 10
    assert torch.count_nonzero(plain) == 4


def test_replicas_of_one_seed_are_identical():
    nets = []
    for seed, disturbance in [(3, 0), (3, 1), (4, 0)]:
        net = model()
        torch.manual_seed(disturbance)
        train(net, DeepR(net, lr=1e-2, sparsity=0.8, temperature=1e-5, seed=seed), 10)
        nets.append(net)
    assert same(nets[0], nets[1])
    assert not same(nets[0], nets[2])


@pytest.mark.parametrize("allocation", ["erk", "global"])
def test_saved_state_continues_bit_for_bit(allocation):
    options = {"lr": 1e-2, "sparsity": 0.8, "temperature": 1e-5, "allocation": allocation, "seed": 2}
    net = model(torch.bfloat16)
    optimizer = DeepR(net, **options)
    train(net, optimizer, 8)
    twin, file = copy.deepcopy(net), io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other = DeepR(twin, **{**options, "seed": 9})
    train(twin, other, 2)  # what it knows of synapses of its own is to be forgotten
    twin.load_state_dict(net.state_dict())
    other.load_state_dict(torch.load(file, weights_only=True))
    copied_net, copied = copy.deepcopy((net, optimizer))
    for pair in [(net, optimizer), (twin, other), (copied_net, copied)]:
        train(*pair, 20, seed=1)
    assert same(net, twin)
    assert same(net, copied_net)


def test_a_state_saved_while_the_topology_was_frozen_continues_bit_for_bit():
    net = model()
    optimizer = DeepR(net, lr=1e-2, sparsity=0.8)
    train(net, optimizer, 5)
    optimizer.freeze_topology()
    train(net, optimizer, 5)
    twin = model()
    other = DeepR(twin, lr=1e-2, sparsity=0.8)
    twin.load_state_dict(net.state_dict())
    other.load_state_dict(optimizer.state_dict())
    for pair in [(net, optimizer), (twin, other)]:
        train(*pair, 5)
        pair[1].freeze_topology(False)
        train(*pair, 5)
    assert same(net, twin)


# -- bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -1e-6}, "temperature=-1e-06 is not a finite number of at least 0"),
        ({"temperature": "auto"}, "temperature='auto' is not a finite number of at least 0"),
        ({"alpha": -0.1}, "alpha=-0.1 is not a finite number of at least 0"),
        ({"alpha": float("nan")}, "alpha=nan is not"),
        ({"alpha": True}, "alpha=True is not"),
        ({"sparsity": 1.0}, r"sparsity=1.0 is not a number in \[0, 1\)"),
        ({"sparsity": None}, "sparsity=None is not a number"),
        ({"sparsity": 0.999}, "leaves tensor 0 less than one|leaves 0 synapses"),
        ({"allocation": "scaled"}, "DeepR draws its synapses before; take 'uniform' or 'erk' or 'global'"),
        ({"allocation": "erd"}, "there is no allocation 'erd'; did you mean 'erk'"),
        ({"floor": 0.1}, "DeepR knows no floor; leave it out"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(options, words):
    with pytest.raises(UsageError, match=words) as raised:
        tensors(torch.ones(20), **options)
    assert "\n" not in str(raised.value)
    assert not str(raised.value).endswith(".")


def test_a_value_broken_later_is_refused_at_the_next_step():
    weight, optimizer = tensors(torch.ones(20))
    before = weight.detach().clone()
    optimizer.param_groups[0]["temperature"] = -1.0
    with pytest.raises(UsageError, match="temperature"):
        step(optimizer, 1.0)
    assert torch.equal(weight, before)
