"""Check on one device what the tests check on the CPU: equal layers, exact budgets, a state that comes back whole.

    python benchmarks/cifar10/check.py cuda

A spiking network is chaotic: one rounding, one spike more, another answer. So each layer on the device is given what
the layer on the CPU was given.
"""

from __future__ import annotations

import copy
import sys
from typing import Any

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from synaprune.budget import cubic
from synaprune.measure import connectivity
from synaprune.models import LIF, SpikingCNN
from synaprune.optim import GradR
from synaprune.train.checkpoint import pack

STEPS = 24
SPARSITY = 0.95


def equal_layers(here: nn.Module, there: nn.Module, x: Tensor, device: torch.device) -> None:
    """Compare each layer of the network on the device, in float32, with its twin on the CPU in float64."""
    calls: dict[str, tuple[Tensor, dict[str, Any], Tensor]] = {}

    def record(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor], more: dict[str, Any], output: Tensor) -> None:
            calls[name] = inputs[0], more, output

        return hook

    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, LIF)
    layers = {name: module for name, module in here.named_modules() if isinstance(module, kinds)}
    hooks = [m.register_forward_hook(record(name), with_kwargs=True) for name, m in layers.items()]
    here(x.double())
    for hook in hooks:
        hook.remove()
    for name, (given, more, expected) in calls.items():
        functional.reset_net(there)
        got = there.get_submodule(name)(given.float().to(device), **more).cpu().double()
        if isinstance(layers[name], LIF):
            share, what = (got != expected).double().mean().item(), "of the spikes differ"
        else:
            share, what = ((got - expected).norm() / expected.norm()).item(), "of the norm apart"
        print(f"{name}: {share:.1e} {what}, {expected.abs().mean():.3f} in the mean")
        assert expected.any(), f"{name} is silent"
        assert share < 1e-3, f"{name} computes something else on this device"
    functional.reset_net(there)


def train(net: nn.Module, optimizer: GradR, x: Tensor, y: Tensor, compiled: bool) -> list[float]:
    """Train in bfloat16 and return the losses."""
    forward, losses = torch.compile(net) if compiled else net, []
    for _ in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16):
            current = forward(x).current
        loss = F.cross_entropy(current.float(), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [float(loss) for loss in losses]


def main(name: str) -> None:
    device = torch.device(name)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {where}")
    torch.backends.cudnn.allow_tf32 = False  # a float32 that keeps three digits would make other spikes
    torch.manual_seed(0)
    here = SpikingCNN(channels=16, T=4, gain=6.0, dropout=0.0)
    for module in here.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.5)  # so that noise makes neurons fire
    there = copy.deepcopy(here).to(device)
    x, y = torch.randn(16, 3, 32, 32), torch.randint(10, (16,))
    equal_layers(here.double(), there, x, device)

    x, y = x.to(device), y.to(device)
    optimizer = GradR(there, lr=5e-3, sparsity=SPARSITY, schedule=cubic(STEPS))
    losses = train(there, optimizer, x, y, compiled=device.type == "cuda")
    count = sum(w.numel() for w in there.parameters() if w.dim() > 1)
    print(f"{STEPS} steps: loss {losses[0]:.4f} to {losses[-1]:.4f}, connectivity {connectivity(there):.6f}")
    assert losses[-1] < losses[0], "the loss does not fall"
    assert round(connectivity(there) * count) == round((1 - SPARSITY) * count), "the budget is not met to the synapse"

    again = copy.deepcopy(there)
    other = GradR(again, lr=5e-3, sparsity=SPARSITY, schedule=cubic(STEPS))
    other.load_state_dict(optimizer.state_dict())
    (plain, ours), (loaded, theirs) = (pack(its.state_dict()) for its in (optimizer, other))
    assert plain == loaded
    assert ours.keys() == theirs.keys() != set()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours), "the saved state does not come back whole"
    train(again, other, x, y, compiled=False)
    assert round(connectivity(again) * count) == round((1 - SPARSITY) * count), "the budget is lost after loading"
    print(f"the saved state comes back whole, {len(ours)} tensors, and keeps the budget")


if __name__ == "__main__":
    main(*sys.argv[1:])
