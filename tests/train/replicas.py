"""What two processes find out about their replicas; torchrun runs it for test_parallel.py, one file of answers each."""

import hashlib
import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from synaprune.budget import cosine, cubic
from synaprune.errors import NonFiniteGradientError
from synaprune.models import SpikingMLP
from synaprune.optim import SET, STR, DeepR, GradR, GraNet, RigL, SoftDeepR, Static
from synaprune.train import checkpoint
from synaprune.train.parallel import Team

STEPS = 1000
METHODS = {
    "grad_r": lambda net: GradR(net, lr=1e-2, sparsity=0.8, schedule=cubic(STEPS)),
    "set": lambda net: SET(net, lr=1e-2, sparsity=0.8, schedule=cosine(STEPS), period=20),
    "rigl": lambda net: RigL(net, lr=1e-2, sparsity=0.8, schedule=cosine(STEPS), period=20),
    "granet": lambda net: GraNet(net, lr=1e-2, sparsity=0.8, schedule=cubic(STEPS), period=20),
    "static": lambda net: Static(net, lr=1e-2, sparsity=0.8),
    "deep_r": lambda net: DeepR(net, lr=1e-2, sparsity=0.8, alpha=1e-2, temperature=1e-5),
    "soft_deep_r": lambda net: SoftDeepR(net, lr=1e-2, sparsity=0.8, alpha=1e-2, temperature=1e-4, noise="uniform"),
    "str": lambda net: STR(net, lr=1e-2, threshold_decay=0.1),
}
RANK = int(os.environ.get("RANK", 0))


def digest(network, optimizer):
    """Return a hash of all weights and of the optimizer's whole state."""
    plain, tensors = checkpoint.pack([network.state_dict(), optimizer.state_dict()])
    found = hashlib.sha256(json.dumps(plain).encode())
    for tensor in tensors.values():
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()


def replicas(method):
    """Return the hash after every 250 of 1,000 steps in which each process sees images of its own."""
    torch.manual_seed(0)
    network = SpikingMLP(16, 12, 4, T=2, gain=3.0)
    optimizer = METHODS[method](network)
    replica = DistributedDataParallel(network)  # which writes into weights that the optimizer has met before
    source = torch.Generator().manual_seed(RANK)
    digests = []
    for step in range(1, STEPS + 1):
        images, labels = torch.rand(4, 16, generator=source), torch.randint(4, (4,), generator=source)
        optimizer.zero_grad()
        nn.functional.cross_entropy(replica(images).current, labels).backward()
        optimizer.step()
        if step % 250 == 0:
            digests.append(digest(network, optimizer))
    return digests


def not_finite():
    """Return what each process does when one of them has a gradient that is none."""
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    optimizer = GradR(network, lr=1e-2)
    before = digest(network, optimizer)
    replica = DistributedDataParallel(network)
    (replica(torch.ones(1, 3)).sum() * (1.0 if RANK else float("nan"))).backward()
    try:
        optimizer.step()
    except NonFiniteGradientError:
        return "refused" if digest(network, optimizer) == before else "spoilt"
    return "stepped"


def normalisation(count):
    """Return how far a network with batch normalisation is from one that sees all images at once."""
    torch.manual_seed(0)
    x, y = torch.randn(count, 2, 4, 4), torch.randn(count, 3, 4, 4)
    networks = [nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)).double() for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    team = Team(RANK, 2)
    share, weight = team.share(count)
    replica = team.replica(networks[1])
    nn.functional.mse_loss(networks[0](x.double()), y.double()).backward()
    (nn.functional.mse_loss(replica(x[share].double()), y[share].double()) * weight).backward()
    pairs = [(p.grad, q.grad) for p, q in zip(*(network.parameters() for network in networks))]
    pairs += zip(*(network.buffers() for network in networks))
    return max((p - q).abs().max().item() for p, q in pairs)


def drifted():
    """Return what `check` says of equal replicas, and of others."""
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    optimizer = GradR(network, lr=1e-2)
    team, said = Team(RANK, 2), []
    for change in (0.0, 1e-7 * RANK):
        with torch.no_grad():
            network.bias.add_(change)
        try:
            team.check(network, optimizer)
            said.append("equal")
        except OSError as error:
            said.append(str(error).partition(",")[0])
    return said


if __name__ == "__main__":
    dist.init_process_group("gloo")
    answers = {method: replicas(method) for method in METHODS}
    answers |= {"not_finite": not_finite(), "drifted": drifted()}
    answers["normalisation"] = [normalisation(count) for count in (8, 5, 1)]
    Path(sys.argv[1], f"{RANK}.json").write_text(json.dumps(answers))
    dist.barrier()
    os._exit(0)  # without the end of gloo's threads, which may hang; see `parallel.team`
