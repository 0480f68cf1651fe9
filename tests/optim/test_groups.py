"""What a user hands over, as groups."""

import pytest
import torch
from common import idle, model, train
from torch import nn

from synaprune.errors import UsageError
from synaprune.optim import METHODS, GradR


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
    optimizer = GradR([{"params": [synapses]}, {"params": bias, "rewire": False, "counted": False}], alpha=1.0)
    for p in (synapses, bias):
        p.grad = torch.ones(4)
    optimizer.step()
    assert "latent" not in optimizer.state[bias]
    assert optimizer.connectivity() == 1.0
    torch.testing.assert_close(bias.tolist(), [-1e-3] * 4)


@pytest.mark.parametrize("named", [False, True])
def test_biases_and_normalisations_among_parameters_are_named(named, caplog):
    net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.Linear(96, 5))
    GradR(net.named_parameters() if named else net.parameters())
    assert "tensors 1, 2, 3, 5 have fewer than two dimensions" in caplog.text
    assert "pass the module" in caplog.text
    caplog.clear()
    vectors = [p for p in net.parameters() if p.ndim < 2]
    GradR([{"params": [net[0].weight]}, {"params": vectors, "rewire": False}])
    GradR(vectors)  # nobody's habit: these are meant
    GradR(net)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("name", "meant"),
    [("sparcity", "sparsity"), ("shedule", "schedule"), ("conectivity", "connectivity"), ("beta", "betas")],
)
def test_a_slip_of_the_pen_in_a_group_is_answered_with_what_is_meant(name, meant):
    weight = nn.Parameter(torch.ones(20, 3))
    with pytest.raises(UsageError, match=f"GradR has no option '{name}' of a group; did you mean '{meant}'"):
        GradR([{"params": [weight], name: 0.5}])
    optimizer = GradR([{"params": [weight], "name": "encoder", "initial_lr": 0.1, "note": 3}])
    with pytest.raises(UsageError, match=f"did you mean '{meant}'"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(4, 3))], name: 0.5})
    assert len(optimizer.param_groups) == 1


def test_added_group_is_rewired_with_its_own_values():
    first, second = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    optimizer = GradR([first], lr=0.1, alpha=0.0, base=torch.optim.SGD)
    optimizer.add_param_group({"params": [second], "alpha": 2.0, "lr": 0.2})
    for p in (first, second):
        p.grad = torch.zeros(4)
    optimizer.step()
    torch.testing.assert_close(second.tolist(), [0.6] * 4)
    assert torch.equal(first, torch.ones(4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.complex64])
def test_tensor_types_that_cannot_be_rewired(dtype):
    optimizer = GradR([nn.Parameter(torch.ones(2))])
    with pytest.raises(UsageError, match="complex numbers" if dtype.is_complex else "use autocast"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(3, dtype=dtype))]})
    assert len(optimizer.param_groups) == 1


def test_module_without_synapses_and_single_tensor():
    with pytest.raises(UsageError, match="no synapses"):
        GradR(nn.BatchNorm1d(3))
    with pytest.raises(TypeError, match=r"an iterable of Tensors or dicts, or a module, but got torch\.FloatTensor"):
        GradR(torch.ones(3))


@pytest.mark.parametrize("params", [[], iter([])])
def test_nothing_to_train(params):
    with pytest.raises(UsageError, match="params is empty"):
        GradR(params)


def test_exclude_needs_names():
    with pytest.raises(UsageError, match="take names"):
        GradR([nn.Parameter(torch.ones(2))], exclude=("fc*",))


@pytest.mark.parametrize("margin", [-0.5, float("nan")])
def test_margin_is_checked(margin):
    with pytest.raises(UsageError, match="margin="):
        GradR([nn.Parameter(torch.ones(2))], margin=margin)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.kernel = nn.Linear(3, 2), nn.Parameter(torch.ones(2, 2))


def test_weights_that_no_rule_knows_are_reported_and_can_be_included(caplog):
    assert GradR(Odd()).param_groups[0]["param_names"] == ["fc.weight"]
    assert "'kernel' in Odd" in caplog.text
    caplog.clear()
    assert GradR(Odd(), include="kernel").param_groups[0]["param_names"] == ["kernel", "fc.weight"]
    assert caplog.text == ""


@pytest.mark.parametrize("name", METHODS)
def test_a_learning_rate_that_is_a_tensor_belongs_to_one_group(name):
    """A scheduler writes into it, once for each group."""
    rate, net = torch.tensor(0.1), model()
    optimizer = METHODS[name](net, **idle(lr=rate)[name])
    optimizer.add_param_group({"params": [("added", nn.Parameter(torch.ones(3, 2)))]})
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    for _ in range(2):
        scheduler.step(1.0)
    assert [float(group["lr"]) for group in optimizer.param_groups] == pytest.approx([0.05] * 3)
    assert all(isinstance(group["lr"], torch.Tensor) for group in optimizer.param_groups)
    assert rate == 0.1


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("form", ["tensor", "list", "generator", "with names"])
def test_a_group_without_names_joins_those_of_a_module(name, form):
    """The names of a module's groups are ours: nobody has to go on with them."""
    net, late = model(), [nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(4, 2))]
    optimizer = METHODS[name](net, **idle()[name])
    members = {"tensor": late[0], "list": late, "generator": iter(late), "with names": [("a", late[0]), ("b", late[1])]}
    optimizer.add_param_group({"params": members[form], "lr": 0.5})
    group = optimizer.param_groups[-1]
    added = late[:1] if form == "tensor" else late
    assert all(p is q for p, q in zip(group["params"], added, strict=True))
    assert group["param_names"] == (["a", "b"] if form == "with names" else ["tensor 6", "tensor 7"][: len(added)])
    assert group["lr"] == 0.5
    for p in added:
        p.grad = torch.ones_like(p)
    train(net, optimizer, 0)
    optimizer.step()
    assert not any(torch.equal(p, torch.ones_like(p)) for p in added)
    again = METHODS[name](model(), **idle()[name])
    again.add_param_group({"params": [nn.Parameter(p.detach().clone()) for p in added]})
    again.load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("first", "second"), [(["a"], []), ([], ["a"])], ids=["named first", "unnamed first"])
def test_names_that_a_user_gives_are_for_all_groups_or_none(name, first, second):
    weights = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3, 2))
    one, other = ([(n, w) for n in names] or [w] for names, w in zip((first, second), weights))
    optimizer = METHODS[name](one, **idle()[name])
    with pytest.raises(ValueError, match="with/without names"):
        optimizer.add_param_group({"params": other})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("params", [{}, {"params": {nn.Parameter(torch.ones(2))}}, []])
def test_what_torch_refuses_to_add_is_refused_as_it_does(name, params):
    plain, optimizer = torch.optim.Adam(model().parameters()), METHODS[name](model(), **idle()[name])
    with pytest.raises((TypeError, KeyError)) as theirs:
        plain.add_param_group(dict(params) if isinstance(params, dict) else params)
    with pytest.raises(theirs.type):
        optimizer.add_param_group(params)


class Looking(nn.Module):
    """Few rows of a large table, and synapses behind it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.table, self.fc = nn.Embedding(50, 6, sparse=True), nn.Linear(6, 4)

    def forward(self, indices):
        return self.fc(self.table(indices))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adagrad])
@pytest.mark.parametrize("form", ["module", "groups"])
def test_a_sparse_gradient_beside_synapses_needs_no_option(name, base, form):
    net, alone = Looking(), Looking()
    tables = [{"params": [net.fc.weight]}, {"params": [net.table.weight, net.fc.bias], "rewire": False}]
    optimizer = METHODS[name](net if form == "module" else tables, **idle(lr=1e-3, base=base)[name])
    plain = base(alone.parameters(), lr=1e-3)
    for step in range(3):
        for network, stepping in ((net, optimizer), (alone, plain)):
            stepping.zero_grad()
            network(torch.arange(5) * (step + 1)).square().sum().backward()
            assert network.table.weight.grad.is_sparse
            stepping.step()
    torch.testing.assert_close(net.table.weight, alone.table.weight)
    torch.testing.assert_close(net.fc.weight, alone.fc.weight)
    assert optimizer.param_groups[0]["fused"]


@pytest.mark.parametrize("name", METHODS)
def test_an_added_group_that_no_fused_kernel_takes_goes_without(name):
    optimizer = METHODS[name]([nn.Parameter(torch.ones(3, 2))], **idle()[name])
    phase = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    optimizer.add_param_group({"params": [phase], "rewire": False})
    phase.grad = torch.ones_like(phase)
    optimizer.step()
    assert [group["fused"] for group in optimizer.param_groups] == [True, False]
    torch.testing.assert_close(phase.detach(), torch.full_like(phase, 0.999), rtol=1e-4, atol=1e-6)
