"""Back to earlier weights under the synapses that are left."""

import copy

import pytest
import torch
from common import STEPS, make, model, state_of, through_file, train, variants
from torch import nn

from synaprune.budget import constant
from synaprune.errors import UsageError
from synaprune.optim import GradR, Magnitude


@variants
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_left_has_its_weights_of_then_and_what_is_absent_stays_so(variant, dtype):
    net = model(dtype)
    optimizer = make(variant, net)
    train(net, optimizer, 3)
    then, taken = copy.deepcopy(net.state_dict()), through_file(optimizer.snapshot())
    moments = [state_of(optimizer, p)["base"] for p in rewired(optimizer)]
    moments = copy.deepcopy(moments)
    train(net, optimizer, STEPS)
    masks = {p: optimizer.mask(p) for p in rewired(optimizer)}
    before = {p: p.detach().clone() for p in masks}
    optimizer.rewind(taken)
    for name, p in net.named_parameters():
        if p in masks:
            back = masks[p] & (then[name] != 0)
            torch.testing.assert_close(p[back], then[name][back])  # but for the rounding of a threshold
            torch.testing.assert_close(p[masks[p] & ~back], before[p][masks[p] & ~back])  # born since then
            assert torch.equal(optimizer.mask(p), masks[p])
        else:
            assert torch.equal(p, then[name])
    for p, expected in zip(rewired(optimizer), moments):
        torch.testing.assert_close(state_of(optimizer, p)["base"], expected, rtol=0, atol=0)
    # From there on as ever: saved, loaded and trained.
    other = model(dtype)
    twin = make(variant, other)
    other.load_state_dict(net.state_dict())
    twin.load_state_dict(through_file(optimizer.state_dict()))
    train(net, optimizer, 4, seed=5)
    train(other, twin, 4, seed=5)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), other.parameters()))


def rewired(optimizer):
    return [p for group in optimizer.param_groups if group["rewire"] for p in group["params"]]


def test_three_rounds_of_iterative_magnitude_pruning():
    torch.manual_seed(0)
    net = nn.Linear(64, 64, bias=False)
    first = net.weight.detach().clone()
    start = Magnitude(net, sparsity=0.0, schedule=constant(steps=10)).snapshot()
    for left in (0.75, 0.75**2, 0.75**3):
        optimizer = Magnitude(net, lr=1e-2, connectivity=left, schedule=constant(steps=10), period=10)
        for _ in range(10):
            optimizer.zero_grad()
            net(torch.randn(8, 64)).square().mean().backward()
            optimizer.step()
        optimizer.rewind(start)
        mask = net.weight != 0
        assert torch.equal(net.weight[mask], first[mask])
    assert int(mask.sum()) == round(0.75**3 * 4096)


def test_a_frozen_tensor_stays():
    net = model()
    optimizer = GradR(net, lr=1e-2, alpha=0.3)
    taken = optimizer.snapshot()
    train(net, optimizer, 3)
    net[0].weight.requires_grad_(False)
    before = net[0].weight.clone()
    optimizer.rewind(taken)
    assert torch.equal(net[0].weight, before)


@pytest.mark.parametrize("taken", [None, {}, {"weights": []}, [1]])
def test_what_is_no_snapshot_is_refused(taken):
    with pytest.raises(UsageError, match=r"rewind needs what snapshot\(\) of this optimizer has returned"):
        GradR(nn.Linear(3, 2)).rewind(taken)


def test_a_snapshot_of_another_model_is_refused_and_nothing_changes():
    net = nn.Linear(3, 2)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(UsageError, match="this snapshot is of another model"):
        GradR(net).rewind(GradR(nn.Linear(4, 2)).snapshot())
    assert all(torch.equal(p, before[name]) for name, p in net.state_dict().items())
