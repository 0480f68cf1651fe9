"""The contract that every method keeps, shown with Grad R: it is a torch optimizer."""

import pytest
import torch
from common import BASES, model, train
from torch import nn

from synaprune.budget import constant
from synaprune.optim import LATS, STDS, DeepR, GradR, Magnitude, MagnitudeSTE, RigL, SoftDeepR


@pytest.mark.parametrize("name", BASES)
def test_without_prior_and_crossings_it_is_the_base_optimizer(name):
    """Eq. 5 of the design: while no θ crosses the threshold, w moves as under the base alone, bit for bit."""
    start = torch.randn(6, 5).sign() * 3
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizer, base = GradR([ours], lr=1e-3, alpha=0.0, base=BASES[name]), BASES[name]([theirs], lr=1e-3)
    if "fused" in optimizer.defaults:
        base = BASES[name]([theirs], lr=1e-3, fused=True)
    base.param_groups[0].setdefault("weight_decay", 0)
    optimizer.param_groups[0]["weight_decay"] = base.param_groups[0]["weight_decay"] = 0
    for step in range(20):
        ours.grad = torch.randn(6, 5, generator=torch.Generator().manual_seed(step))
        theirs.grad = ours.grad.clone()
        optimizer.step()
        base.step()
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, start)


def test_one_cycle_moves_rate_and_betas():
    net = model()
    optimizer = GradR(net, lr=1e-2, alpha=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=12)
    seen = []
    optimizer._driver.optimizer.register_step_pre_hook(
        lambda base, *_: seen.append((base.param_groups[0]["lr"], base.param_groups[0]["betas"][0]))
    )
    train(net, optimizer, 11, scheduler=scheduler)
    assert len({rate for rate, _ in seen}) > 5
    assert len({beta for _, beta in seen}) > 5


def test_closure_is_called_with_gradients_and_its_loss_returned():
    net = model()
    optimizer = GradR(net, lr=1e-2)

    def closure():
        optimizer.zero_grad()
        loss = net(torch.ones(4, 2, 6, 6)).square().mean()
        loss.backward()
        return loss

    assert optimizer.step(closure) > optimizer.step(closure)


def test_grad_scaler_unscales_and_skips():
    weight = nn.Parameter(torch.ones(3))
    optimizer = GradR([weight], lr=0.1, alpha=0.0, base=torch.optim.SGD)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale((weight * torch.tensor([1.0, 2.0, 3.0])).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    torch.testing.assert_close(weight.tolist(), [0.9, 0.8, 0.7])
    optimizer.zero_grad()
    scaler.scale((weight * torch.tensor([1.0, torch.inf, 3.0])).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    torch.testing.assert_close(weight.tolist(), [0.9, 0.8, 0.7])
    assert scaler.get_scale() == 4.0


def test_hooks_run_once_and_see_the_weights():
    weight = nn.Parameter(torch.ones(3))
    optimizer = GradR([weight], lr=0.1)
    seen = []
    optimizer.register_step_pre_hook(lambda o, *_: seen.append(("pre", o.param_groups[0]["params"][0] is weight)))
    optimizer.register_step_post_hook(lambda o, *_: seen.append(("post", o.param_groups[0]["params"][0] is weight)))
    optimizer.register_load_state_dict_post_hook(
        lambda o: seen.append(("load", o.param_groups[0]["params"][0] is weight))
    )
    weight.grad = torch.ones(3)
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == [("pre", True), ("post", True), ("load", True)]


@pytest.mark.parametrize("base", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_weight_decay_acts_on_weights_and_never_on_dead_latents(base):
    weight = nn.Parameter(torch.tensor([0.0, 2.0]))
    optimizer = GradR([weight], lr=0.1, alpha=0.0, base=base, weight_decay=0.5)
    dead = optimizer.theta(weight)[0].item()
    for _ in range(5):
        weight.grad = torch.zeros(2)
        optimizer.step()
    assert optimizer.theta(weight)[0].item() == dead
    assert weight[1] < 2.0
    assert not weight.grad.any()
    if base is not torch.optim.Adam:  # one step of AdamW and SGD on a zero gradient: w·(1 − ηλ)
        torch.testing.assert_close(weight[1].item(), 2.0 * 0.95**5)


def test_weight_decay_follows_maximize():
    pairs = []
    for maximize in (False, True):
        weight = nn.Parameter(torch.tensor([2.0]))
        optimizer = GradR([weight], lr=0.1, alpha=0.0, base=torch.optim.SGD, weight_decay=0.5, maximize=maximize)
        weight.grad = torch.tensor([-1.0 if maximize else 1.0])
        optimizer.step()
        pairs.append(weight.item())
    assert pairs[0] == pairs[1] == pytest.approx(2.0 - 0.1 * (1.0 + 1.0))


def test_weights_written_by_others_are_taken_over():
    weight = nn.Parameter(torch.tensor([1.0, -1.0, 2.0, 0.0]))
    optimizer = GradR([weight], lr=0.1, alpha=1.0, base=torch.optim.SGD, margin=0.5)
    weight.grad = torch.zeros(4)
    optimizer.step()
    absent = optimizer.theta(weight)[3].item()
    with torch.no_grad():
        weight[0], weight[1] = 0.0, 3.0  # masked; a new value of the other sign
    optimizer.step()
    torch.testing.assert_close(weight.tolist(), [0.0, 2.9, 1.8, 0.0])
    torch.testing.assert_close(optimizer.theta(weight).tolist(), [-0.6, 2.9, 1.8, absent - 0.1])


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_swapping_averages_in_and_out_changes_nothing(compiled):
    weight = nn.Parameter(torch.randn(50))
    twin = nn.Parameter(weight.detach().clone())
    optimizers = [GradR([p], lr=0.1, alpha=1.0, compile_projection=compiled) for p in (weight, twin)]
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


@pytest.mark.parametrize("method", [GradR, MagnitudeSTE, STDS, LATS, RigL, SoftDeepR])
def test_moments_of_synapses_that_feed_nothing_do_not_either(method):
    """A neuron whose outgoing synapses are all absent gives those that come in a gradient of exactly 0."""
    weight = nn.Parameter(torch.randn(100, generator=torch.Generator().manual_seed(0)))
    schedule = {} if method is SoftDeepR else {"schedule": constant(steps=2000)}
    optimizer = method([weight], lr=1e-5, sparsity=0.5, betas=(0.5, 0.6), **schedule)
    generator = torch.Generator().manual_seed(1)
    for n in range(256):
        weight.grad = torch.randn(100, generator=generator)
        if n >= 20:
            weight.grad[:50] = 0.0
        optimizer.step()
    for key in ("exp_avg", "exp_avg_sq"):
        moment = optimizer.state[weight]["base"][key]
        assert not moment[:50].any()
        assert moment[50:].any()


@pytest.mark.parametrize(("method", "frozen"), [(Magnitude, False), (DeepR, True), (GradR, True), (RigL, True)])
def test_moments_of_absent_synapses_do_not_decay_into_denormal_numbers(method, frozen):
    weight = nn.Parameter(torch.randn(200, generator=torch.Generator().manual_seed(0)))
    schedule = {} if method is DeepR else {"schedule": constant(steps=1000)}
    optimizer = method([weight], lr=1e-3, sparsity=0.5, betas=(0.5, 0.6), **schedule)
    generator = torch.Generator().manual_seed(1)
    for n in range(300):
        weight.grad = 1e-3 * torch.randn(200, generator=generator)
        optimizer.step()
        if n == 20:
            assert optimizer.state[weight]["base"]["exp_avg"].all()
            optimizer.freeze_topology(frozen)
    state = optimizer.state[weight]
    absent = state["absent"] if frozen else ~optimizer.mask(weight)
    assert 90 < absent.sum() < 110
    for key in ("exp_avg", "exp_avg_sq"):
        assert not state["base"][key][absent].any()
        assert state["base"][key][~absent].all()
