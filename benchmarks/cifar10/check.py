"""Check on one device what the tests check on the CPU: equal networks, exact budgets, a state that goes on.

python benchmarks/cifar10/check.py cuda
"""

from __future__ import annotations

import copy
import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synaprune.budget import cubic
from synaprune.measure import connectivity
from synaprune.models import SpikingCNN
from synaprune.optim import GradR

STEPS = 24


def steps(net: nn.Module, optimizer: GradR, x: Tensor, y: Tensor, count: int, compiled: bool = False) -> list[float]:
    """Train in bfloat16 and return the losses."""
    forward, losses = torch.compile(net) if compiled else net, []
    for _ in range(count):
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
    print(f"torch {torch.__version__}, {where}, bfloat16 {device.type == 'cpu' or torch.cuda.is_bf16_supported(False)}")
    torch.manual_seed(0)
    here = SpikingCNN(channels=16, T=4, gain=2.0, dropout=0.0)
    for module in here.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.5)  # so that noise makes neurons fire
    there = copy.deepcopy(here).to(device)
    x, y = torch.randn(16, 3, 32, 32), torch.randint(10, (16,))

    with torch.no_grad():
        ours, theirs = here(x).current, there(x.to(device)).current.cpu()
    far, size = (ours - theirs).abs().mean().item(), ours.abs().mean().item()
    print(f"output currents of {size:.3f} in the mean differ by {far:.1e} between CPU and {name}")
    assert size > 0.01, "the network does not fire"
    assert far < 0.05 * size, "the network computes something else on this device"

    x, y = x.to(device), y.to(device)
    optimizer = GradR(there, lr=5e-3, sparsity=0.95, schedule=cubic(STEPS))
    losses = steps(there, optimizer, x, y, STEPS, compiled=device.type == "cuda")
    asked, count = 0.05, sum(w.numel() for w in there.parameters() if w.dim() > 1)
    print(f"{STEPS} steps: loss {losses[0]:.4f} to {losses[-1]:.4f}, connectivity {connectivity(there):.6f}")
    assert losses[-1] < losses[0], "the loss does not fall"
    assert round(connectivity(there) * count) == round(asked * count), "the budget is not met to the synapse"

    again = copy.deepcopy(there)
    other = GradR(again, lr=5e-3, sparsity=0.95, schedule=cubic(STEPS))
    other.load_state_dict(optimizer.state_dict())
    torch.use_deterministic_algorithms(True, warn_only=True)
    for net, its in ((there, optimizer), (again, other)):
        torch.manual_seed(1)
        steps(net, its, x, y, 3)
    apart = max((a - b).abs().max().item() for a, b in zip(there.parameters(), again.parameters()))
    print(f"after 3 more steps, network and its copy from the saved state are {apart:.1e} apart")
    assert apart < 1e-3, "the state does not go on"


if __name__ == "__main__":
    main(*sys.argv[1:])
