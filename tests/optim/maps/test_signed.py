"""How latents start, drift and become weights."""

import pytest
import torch
from torch import nn

from synaprune.errors import UsageError
from synaprune.optim import GradR
from synaprune.optim.maps import signed


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

    weight = nn.Parameter(torch.randn(50, 41))
    twin = nn.Parameter(weight.detach().clone())
    gradient = torch.randn(50, 41)
    for p, whole in ((weight, signed.WHOLE), (twin, 100)):
        monkeypatch.setattr(signed, "WHOLE", whole)
        monkeypatch.setattr(signed, "CHUNK", 64)
        p.grad = gradient
        GradR([p], lr=0.1, alpha=0.5).step()
    assert torch.equal(weight, twin)


@pytest.mark.slow
def test_compiled_projection_is_the_same():
    """Several tensors, drifts of many quanta, a centre that acts, frozen topology, a state that changes hands."""
    start = [torch.randn(30, 41), torch.randn(7, 3, 3)]
    pairs = [[nn.Parameter(t.clone()) for t in start] for _ in range(3)]
    options = {"lr": 0.1, "alpha": 0.5, "sparsity": 0.5}
    eager, compiled, resumed = (GradR(pair, **options, compile_projection=c) for pair, c in zip(pairs, (0, 1, 0)))

    def step(*optimizers):
        gradients = [torch.randn_like(t) for t in start]
        for optimizer in optimizers:
            for weight, gradient in zip(optimizer.param_groups[0]["params"], gradients):
                weight.grad = gradient.clone()
            optimizer.step()

    for frozen in (False, True, False):
        for optimizer in (eager, compiled):
            optimizer.freeze_topology(frozen)
        for _ in range(5):
            step(eager, compiled)
    assert compiled.state[pairs[1][0]]["sign"].dtype == torch.int8
    resumed.load_state_dict(compiled.state_dict())
    assert resumed.state[pairs[2][0]]["sign"].dtype == torch.float32
    for _ in range(5):
        step(eager, compiled, resumed)
    for other in (compiled, resumed):
        for weight, twin in zip(eager.param_groups[0]["params"], other.param_groups[0]["params"]):
            torch.testing.assert_close(weight, twin, rtol=0, atol=1e-5)


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


def test_weights_that_are_not_finite_at_the_start():
    weight = nn.Parameter(torch.tensor([1.0, torch.nan]))
    weight.grad = torch.ones(2)
    with pytest.raises(UsageError, match="not finite"):
        GradR([weight]).step()


def test_start_from_weights():
    weight = torch.tensor([0.5, -2.0, 0.0, 0.0])
    state = signed.start(weight, margin=0.25, seed=3)
    assert state["sign"][:2].tolist() == [1.0, -1.0]
    assert set(state["sign"][2:].tolist()) <= {1.0, -1.0}
    torch.testing.assert_close((state["latent"] * state["sign"]).tolist(), [0.5, 2.0, -0.25, -0.25])
    again = signed.start(weight, margin=0.25, seed=3)
    assert torch.equal(state["sign"], again["sign"])


def test_layout_changed_after_the_start(monkeypatch):
    monkeypatch.setattr(signed, "WHOLE", 100)
    net = nn.Conv2d(8, 6, 3, bias=False)
    twin = nn.Parameter(net.weight.detach().clone())
    optimizers = GradR(net, lr=1e-2), GradR([twin], lr=1e-2)
    for n in range(4):
        if n == 2:
            net.to(memory_format=torch.channels_last)
        twin.grad = torch.randn(6, 8, 3, 3)
        net.weight.grad = twin.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(net.weight, twin)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign_dtype", [None, torch.int8])
def test_buried_synapses_stay_buried(dtype, sign_dtype):
    weight = torch.randn(400, dtype=dtype)
    state = signed.start(weight, margin=0.1, seed=0, sign_dtype=sign_dtype)
    state["offset"] = 0.000777777
    signed.bury(state, torch.ones(400, dtype=torch.bool))
    signed.project([weight], [state])
    assert not weight.any()


def test_empty_tensors_are_passed_over():
    weight, empty = nn.Parameter(torch.ones(2)), nn.Parameter(torch.empty(0, 3))
    optimizer = GradR([weight, empty], alpha=1.0)
    weight.grad, empty.grad = torch.ones(2), torch.empty(0, 3)
    optimizer.step()
    assert optimizer.connectivity() == 1.0
