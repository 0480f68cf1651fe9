"""The contract that every method keeps, shown with Grad R: it is a torch optimizer and loses nothing."""

import copy
import io

import pytest
import torch
from torch import nn

from synaprune.errors import NonFiniteGradientError, UsageError
from synaprune.optim import Dense, GradR

BASES = {
    base.__name__: base
    for base in (
        torch.optim.Adadelta,
        torch.optim.Adafactor,
        torch.optim.Adagrad,
        torch.optim.Adam,
        torch.optim.Adamax,
        torch.optim.AdamW,
        torch.optim.ASGD,
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.RMSprop,
        torch.optim.Rprop,
        torch.optim.SGD,
    )
}


def model(dtype=torch.float32):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 5))
    return net.to(dtype)


def train(net, optimizer, steps, seed=0, scheduler=None):
    generator = torch.Generator().manual_seed(seed)
    dtype = next(net.parameters()).dtype
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(4, 2, 6, 6, generator=generator).to(dtype)).square().mean().backward()
        optimizer.step()
        if scheduler:
            scheduler.step()


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values()))


def through_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


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


@pytest.mark.parametrize("name", BASES)
def test_redefined_gradient_on_theta_equals_plain_gradient_on_z(name):
    """The base commutes with sign flips: run on θ = |w| with s·g it takes the mirrored steps, bit for bit."""
    torch.manual_seed(1)
    start = torch.randn(6, 5)
    sign = start.sign()
    z, theta = nn.Parameter(start.clone()), nn.Parameter(start.abs())
    on_z, on_theta = BASES[name]([z], lr=1e-2), BASES[name]([theta], lr=1e-2)
    for _ in range(20):
        z.grad = torch.randn(6, 5)
        theta.grad = sign * z.grad
        on_z.step()
        on_theta.step()
    assert torch.equal(sign * z, theta)


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


def test_storage_and_strides_stay():
    flat = torch.randn(40)
    weight = nn.Parameter(flat[4:34].view(5, 6))
    address = weight.data_ptr()
    optimizer = GradR([weight], lr=1e-2, alpha=0.5)
    for _ in range(5):
        weight.grad = torch.randn(5, 6)
        optimizer.step()
    assert weight.data_ptr() == address
    assert torch.equal(flat[4:34].view(5, 6), weight)


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


def test_tensors_with_gaps_are_served():
    weight = nn.Parameter(torch.randn(6, 8)[:, ::2])
    twin = nn.Parameter(weight.detach().clone())
    optimizers = [GradR([p], lr=1e-2, alpha=0.5) for p in (weight, twin)]
    for _ in range(3):
        weight.grad = torch.randn(6, 4)
        twin.grad = weight.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(weight, twin)


def test_pieces_of_a_large_tensor_meet(monkeypatch):
    from synaprune.optim import latents

    weight = nn.Parameter(torch.randn(50, 41))
    twin = nn.Parameter(weight.detach().clone())
    gradient = torch.randn(50, 41)
    for p, whole in ((weight, latents.WHOLE), (twin, 100)):
        monkeypatch.setattr(latents, "WHOLE", whole)
        monkeypatch.setattr(latents, "CHUNK", 64)
        p.grad = gradient
        GradR([p], lr=0.1, alpha=0.5).step()
    assert torch.equal(weight, twin)


@pytest.mark.slow
def test_compiled_projection_is_the_same():
    weight = nn.Parameter(torch.randn(30, 41))
    twin = nn.Parameter(weight.detach().clone())
    optimizers = [GradR([weight], lr=0.1, alpha=0.5), GradR([twin], lr=0.1, alpha=0.5, compile_projection=True)]
    for _ in range(5):
        weight.grad = torch.randn(30, 41)
        twin.grad = weight.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(weight, twin, rtol=0, atol=1e-7)


def test_one_cycle_moves_rate_and_betas():
    net = model()
    optimizer = GradR(net, lr=1e-2, alpha=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=12)
    seen = []
    optimizer._base.register_step_pre_hook(
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


def test_a_failing_base_leaves_the_groups_as_they_were(monkeypatch):
    weight = nn.Parameter(torch.ones(3))
    optimizer = GradR([weight], lr=0.1, weight_decay=0.2)

    def fail():
        raise RuntimeError("broken")

    monkeypatch.setattr(optimizer._base, "step", fail)
    weight.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="broken"):
        optimizer.step()
    assert optimizer.param_groups[0]["params"][0] is weight
    assert optimizer.param_groups[0]["weight_decay"] == 0.2
    assert weight.tolist() == [1.0, 1.0, 1.0]


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


def test_every_trainable_tensor_of_a_module_is_in_one_group():
    net = model()
    optimizer = GradR(net, exclude=("4.*",))
    names = [group["param_names"] for group in optimizer.param_groups]
    assert names == [["0.weight"], ["4.weight"], ["0.bias", "1.weight", "1.bias", "4.bias"]]
    assert [group["rewire"] for group in optimizer.param_groups] == [True, False, False]
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    train(net, optimizer, 2)
    assert not any(torch.equal(before[name], p) for name, p in net.named_parameters() if name != "0.bias")
    with torch.no_grad():
        net[4].weight[:, :48] = 0
    assert optimizer.connectivity() == pytest.approx((int((net[0].weight != 0).sum()) + 240) / (108 + 480))


def test_group_can_decline_rewiring():
    synapses, bias = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))
    optimizer = GradR([{"params": [synapses]}, {"params": bias, "rewire": False, "synapses": False}], alpha=1.0)
    for p in (synapses, bias):
        p.grad = torch.ones(4)
    optimizer.step()
    assert "latent" not in optimizer.state[bias]
    assert optimizer.connectivity() == 1.0
    torch.testing.assert_close(bias.tolist(), [-1e-3] * 4)


def test_added_group_is_rewired_with_its_own_values():
    first, second = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    optimizer = GradR([first], lr=0.1, alpha=0.0, base=torch.optim.SGD)
    optimizer.add_param_group({"params": [second], "alpha": 2.0, "lr": 0.2})
    for p in (first, second):
        p.grad = torch.zeros(4)
    optimizer.step()
    torch.testing.assert_close(second.tolist(), [0.6] * 4)
    assert torch.equal(first, torch.ones(4))


def test_turnover_counts_deaths_and_births():
    weight = nn.Parameter(torch.tensor([1.0, 1.0, 0.0, 1.0]))
    optimizer = GradR([("fc", weight)], lr=1.0, alpha=0.0, base=torch.optim.SGD, margin=0.5)
    assert optimizer.turnover() == {"fc": (0, 0)}
    optimizer.theta(weight)
    weight.grad = torch.tensor([2.0, 0.0, -optimizer.state[weight]["sign"][2].item(), 0.0])
    optimizer.step()
    assert optimizer.turnover() == {"fc": (1, 1)}
    assert optimizer.turnover() == {"fc": (0, 0)}


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["0.weight", "1.bias"])
def test_non_finite_gradient_is_refused_before_anything_changes(value, where):
    net = model()
    optimizer = GradR(net, lr=1e-2, alpha=0.1)
    train(net, optimizer, 3)
    before, state = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    net.get_parameter(where).grad.view(-1)[3] = value
    with pytest.raises(NonFiniteGradientError, match=where.replace(".", r"\.")):
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values()))
    after = optimizer.state_dict()
    assert state["state"][0]["steps"] == after["state"][0]["steps"]
    assert torch.equal(state["state"][0]["latent"], after["state"][0]["latent"])
    optimizer.param_groups[0]["check_finite"] = optimizer.param_groups[1]["check_finite"] = False
    optimizer.step()


def test_huge_but_finite_gradients_pass_the_check():
    weight = nn.Parameter(torch.ones(4))
    optimizer = GradR([weight], lr=1e-3)
    weight.grad = torch.full((4,), 3e38)  # their sum is infinite, they are not
    optimizer.step()


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (torch.optim.LBFGS, "LBFGS cannot be the base"),
        (torch.optim.SparseAdam, "SparseAdam cannot be the base"),
        (torch.optim.Muon, "Muon cannot be the base"),
        ("Adam", "not a torch optimizer class"),
        (nn.Linear, "not a torch optimizer class"),
    ],
)
def test_bases_that_cannot_serve_are_refused_in_one_sentence(base, words):
    with pytest.raises(UsageError, match=words) as error:
        GradR([nn.Parameter(torch.ones(2, 2))], base=base)
    assert "\n" not in str(error.value)


def test_unknown_option_of_the_base_is_named():
    with pytest.raises(UsageError, match="momentum"):
        GradR([nn.Parameter(torch.ones(2))], momentum=0.9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.complex64])
def test_tensor_types_that_cannot_be_rewired(dtype):
    optimizer = GradR([nn.Parameter(torch.ones(2))])
    with pytest.raises(UsageError, match="use autocast"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(3, dtype=dtype))]})
    assert len(optimizer.param_groups) == 1


def test_weights_that_are_not_finite_at_the_start():
    weight = nn.Parameter(torch.tensor([1.0, torch.nan]))
    weight.grad = torch.ones(2)
    with pytest.raises(UsageError, match="not finite"):
        GradR([weight]).step()


def test_module_without_synapses_and_single_tensor():
    with pytest.raises(UsageError, match="no synapses"):
        GradR(nn.BatchNorm1d(3))
    with pytest.raises(UsageError, match="single tensor"):
        GradR(torch.ones(3))


def test_state_of_another_model_or_method():
    net, other = nn.Linear(4, 3, bias=False), nn.Linear(5, 3, bias=False)
    optimizer = GradR(net)
    net.weight.grad = torch.ones(3, 4)
    optimizer.step()
    with pytest.raises(UsageError, match=r"weight has shape \(3, 5\), the saved latents have \(3, 4\)"):
        GradR(other).load_state_dict(optimizer.state_dict())
    with pytest.raises(UsageError, match="not written by GradR"):
        optimizer.load_state_dict(torch.optim.Adam(net.parameters()).state_dict())
    assert optimizer.param_groups[0]["params"][0] is net.weight


def test_dense_is_the_base_optimizer_and_counts():
    net, twin = model(), model()
    optimizer, adam = Dense(net, lr=1e-2), torch.optim.Adam(twin.parameters(), lr=1e-2, fused=True)
    train(net, optimizer, 5)
    train(twin, adam, 5)
    assert same(net, twin)
    assert optimizer.connectivity() == 1.0
    assert optimizer.turnover() == {}
