"""States: saved, loaded, copied, and shared with the base."""

import copy

import pytest
import torch
from common import BASES, idle, model, same, through_file, train
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from synaprune.errors import UsageError
from synaprune.optim import METHODS, Dense, GradR


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_state_through_a_file_continues_identically(name, dtype):
    net = model(dtype)
    optimizer = GradR(net, lr=1e-2, alpha=0.3, base=BASES[name])
    train(net, optimizer, 20)
    assert 0 < optimizer.connectivity() < 1
    other = model(dtype)
    resumed = GradR(other, lr=5.0, alpha=0.0, base=BASES[name])
    other.load_state_dict(through_file(net.state_dict()))
    resumed.load_state_dict(through_file(optimizer.state_dict()))
    for weight in (other[0].weight, other[4].weight):
        assert resumed.state[weight]["latent"].dtype == torch.float32
    train(net, optimizer, 100, seed=1)
    train(other, resumed, 100, seed=1)
    assert same(net, other)


def test_state_is_copied_not_shared():
    net = model()
    optimizer = GradR(net, lr=1e-2, alpha=0.3)
    train(net, optimizer, 3)
    other = copy.deepcopy(net)
    resumed = GradR(other, lr=1e-2)
    resumed.load_state_dict(optimizer.state_dict())
    train(other, resumed, 3)
    latent = optimizer.state[net[0].weight]["latent"].clone()
    train(other, resumed, 3)
    assert torch.equal(latent, optimizer.state[net[0].weight]["latent"])


def test_deepcopy_of_network_and_optimizer_continues_identically():
    net = model()
    optimizer = GradR(net, lr=1e-2, alpha=0.3)
    train(net, optimizer, 10)
    twin, twin_optimizer = copy.deepcopy((net, optimizer))
    train(net, optimizer, 10, seed=2)
    assert not same(net, twin)
    train(twin, twin_optimizer, 10, seed=2)
    assert same(net, twin)


@pytest.mark.parametrize("gradient_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("saved_contiguous", [False, True])
def test_channels_last_equals_contiguous(gradient_format, saved_contiguous):
    start = torch.randn(4, 3, 5, 5)
    plain, last = nn.Parameter(start.clone()), nn.Parameter(start.clone().to(memory_format=torch.channels_last))
    strides = last.stride()
    optimizers = [GradR([p], lr=1e-2, alpha=0.5) for p in (plain, last)]
    for step in range(6):
        plain.grad = torch.randn(4, 3, 5, 5)
        last.grad = plain.grad.clone().to(memory_format=gradient_format)
        for optimizer in optimizers:
            optimizer.step()
        if step == 2 and saved_contiguous:
            state = optimizers[0].state_dict()  # as a file would bring it: contiguous
            optimizers[1].load_state_dict(copy.deepcopy(state))
    assert last.stride() == strides
    assert torch.equal(plain, last)


def test_state_of_another_model_or_method():
    net, other = nn.Linear(4, 3, bias=False), nn.Linear(5, 3, bias=False)
    optimizer = GradR(net)
    net.weight.grad = torch.ones(3, 4)
    optimizer.step()
    with pytest.raises(UsageError, match=r"weight has shape \(3, 5\), its saved state \(3, 4\)"):
        GradR(other).load_state_dict(optimizer.state_dict())
    with pytest.raises(UsageError, match="written by another optimizer, not by GradR on Adam"):
        optimizer.load_state_dict(torch.optim.Adam(net.parameters()).state_dict())
    assert optimizer.param_groups[0]["params"][0] is net.weight


def test_a_failing_base_leaves_the_groups_as_they_were(monkeypatch):
    weight = nn.Parameter(torch.ones(3))
    optimizer = GradR([weight], lr=0.1, weight_decay=0.2)

    def fail():
        raise RuntimeError("broken")

    monkeypatch.setattr(optimizer._driver.optimizer, "step", fail)
    weight.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="broken"):
        optimizer.step()
    assert optimizer.param_groups[0]["params"][0] is weight
    assert optimizer.param_groups[0]["weight_decay"] == 0.2
    assert weight.tolist() == [1.0, 1.0, 1.0]


def test_state_of_another_method_base_or_number_of_tensors():
    net = model()
    optimizer = GradR(net)
    train(net, optimizer, 1)
    saved = optimizer.state_dict()
    with pytest.raises(UsageError, match="written by GradR on Adam, not by Dense on Adam"):
        Dense(model()).load_state_dict(saved)
    with pytest.raises(UsageError, match="not by GradR on Adamax"):
        GradR(model(), base=torch.optim.Adamax).load_state_dict(saved)
    with pytest.raises(UsageError, match=r"its groups hold \[2, 4\] tensors, here they hold \[1\]"):
        GradR([net[0].weight]).load_state_dict(saved)


def test_a_failed_load_changes_nothing():
    net, twin = model(), model()
    optimizers = GradR(net, lr=1e-2), GradR(twin, lr=1e-2)
    for network, optimizer in zip((net, twin), optimizers):
        train(network, optimizer, 5)
    optimizers[0].register_load_state_dict_pre_hook(lambda *_: 1 / 0)
    for state in (optimizers[0].state_dict(), GradR(nn.Linear(2, 2)).state_dict()):
        with pytest.raises((ZeroDivisionError, UsageError)):
            optimizers[0].load_state_dict(state)
    for network, optimizer in zip((net, twin), optimizers):
        train(network, optimizer, 5, seed=1)
    assert same(net, twin)


def test_load_pre_hook_sees_the_optimizer_as_it_is():
    weight = nn.Parameter(torch.ones(3))
    optimizer = GradR([weight])
    seen = []
    optimizer.register_load_state_dict_pre_hook(
        lambda o, state: seen.append((o.param_groups[0]["params"][0] is weight, o.state_dict()["state"]))
    )
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == [(True, {})]


@pytest.mark.parametrize("name", BASES)
def test_copy_before_the_first_step(name):
    net = model()
    twin, optimizer = copy.deepcopy((net, GradR(net, lr=1e-2, base=BASES[name])))
    train(twin, optimizer, 2)
    assert not same(net, twin)


def test_cleared_state_starts_anew():
    net = model()
    optimizer = GradR(net, lr=1e-2)
    train(net, optimizer, 3)
    optimizer.state.clear()
    train(net, optimizer, 1)
    steps = [state.get("base", state)["step"].item() for state in optimizer.state.values()]
    assert steps == [1.0] * 6


def test_a_state_without_a_newer_option_takes_the_one_that_is_here():
    net = model()
    optimizer = GradR(net, lr=1e-2, alpha=0.1, weight_decay=0.1, base=torch.optim.SGD, momentum=0.5)
    train(net, optimizer, 3)
    state = optimizer.state_dict()
    kept = ("params", "method", "rewire", "clock")
    for name in {name for group in state["param_groups"] for name in group if name not in kept}:
        older = copy.deepcopy(state)
        for group in older["param_groups"]:
            group.pop(name, None)
        other = model()
        loaded = GradR(other, lr=1e-2, alpha=0.1, weight_decay=0.1, base=torch.optim.SGD, momentum=0.5)
        loaded.load_state_dict(older)
        assert [{**g, "params": 0} for g in loaded.param_groups] == [{**g, "params": 0} for g in optimizer.param_groups]
        train(other, loaded, 1)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("base", [torch.optim.Adam, torch.optim.SGD])
def test_hooks_for_all_optimizers_fire_once_a_step_and_for_ours(name, base):
    net = model()
    optimizer, fired = METHODS[name](net, **idle(base=base)[name]), []
    handles = [
        register_optimizer_step_pre_hook(lambda stepping, *_: fired.append((stepping, "before"))),
        register_optimizer_step_post_hook(lambda stepping, *_: fired.append((stepping, "after"))),
    ]
    try:
        train(net, optimizer, 3)
    finally:
        for handle in handles:
            handle.remove()
    assert fired == [(optimizer, "before"), (optimizer, "after")] * 3


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("foreign", [3, "text", None, True, [1, 2], {"latent": 1}, {"a": 1.0}, torch.ones(2)], ids=str)
def test_a_foreign_key_in_the_state_is_handed_on(name, foreign):
    net, plain = model(), model()
    optimizer, undisturbed = METHODS[name](net, **idle()[name]), METHODS[name](plain, **idle()[name])
    train(plain, undisturbed, 2)
    optimizer.state["mine"] = foreign
    train(net, optimizer, 2)
    assert optimizer.state["mine"] is foreign
    twin, copied = copy.deepcopy((net, optimizer))
    copied.load_state_dict(through_file(optimizer.state_dict()))
    for network, stepping in ((net, optimizer), (twin, copied), (plain, undisturbed)):
        train(network, stepping, 2, seed=1)
        stepping.settle()
        stepping.turnover()
        stepping.connectivity()
    assert str(copied.state["mine"]) == str(foreign)
    assert same(net, twin)
    assert same(net, plain)
