"""Time the engine against PyTorch on one sample and on a batch, with as many threads each, in one run.

usage: python benchmarks/inference.py [--network mnist|cifar10|cifar10-5] [--threads N] [--batch N] [--repeats N]
                                      [--rate R] [--check]

Networks have random weights, as many as a pruned network has left, scaled layer by layer until each layer of neurons
fires at the given rate. Calls alternate, so that all see the same machine; ratios are of medians. Calls of the MNIST
network take so little time that each turn is twenty of them in a row.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import sys
import warnings
from collections.abc import Callable

# Else threads of PyTorch that have nothing to do spin on in the engine's turns.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from timing import alternate
from torch import Tensor, nn

from synaprune.engine import compile
from synaprune.measure import FiringRates, operations
from synaprune.models import LIF, SpikingCNN, SpikingMLP

# Connectivity per layer; that of cifar10 was published for one of the sparsest runs.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[float, ...]]] = {
    "mnist": (SpikingMLP, (1, 28, 28), (0.05, 0.05)),
    "cifar10": (SpikingCNN, (3, 32, 32), (0.0216, 0.0041, 0.0141, 0.0203, 0.0215, 0.0415, 0.0051, 0.2096)),
    "cifar10-5": (SpikingCNN, (3, 32, 32), (0.05,) * 8),
}
# How many times as fast as PyTorch's dense network, at least: (network, samples, rival) → ratio.
LIMITS = {
    ("mnist", "one", "dense fp32"): 15,
    ("cifar10", "one", "dense fp32"): 20,
    ("cifar10", "batch", "dense fp32"): 20,
    ("cifar10", "one", "dense bf16"): 10,
    ("cifar10", "batch", "dense bf16"): 10,
    ("cifar10-5", "one", "dense fp32"): 5,
    ("cifar10-5", "batch", "dense fp32"): 5,
}


@torch.no_grad()
def build(network: str, rate: float) -> tuple[nn.Module, Tensor]:
    """Return a sparse network whose neurons fire at about `rate`, and two samples."""
    make, shape, densities = NETWORKS[network]
    torch.manual_seed(0)
    net, x, left = make().eval(), torch.randn(2, *shape), iter(densities)
    last: list[nn.Module] = []
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            count = max(1, round(module.weight.numel() * next(left)))
            keep = torch.randperm(module.weight.numel())[:count]
            mask = torch.zeros(module.weight.numel()).index_fill_(0, keep, 1.0)
            module.weight.mul_(mask.view_as(module.weight))
            last = [module]
        elif isinstance(module, nn.BatchNorm2d):
            last = [module]
        elif isinstance(module, LIF):
            last[0].weight.mul_(_scale(net, module, x, rate))
    return net, x


def _scale(net: nn.Module, neuron: LIF, x: Tensor, rate: float) -> float:
    """Return the factor on the currents into a layer of neurons that makes it fire at `rate`."""
    calls: list[tuple[Tensor, dict[str, int]]] = []
    hook = neuron.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args[0], kwargs)), with_kwargs=True)
    net(x)
    hook.remove()
    current, kwargs = calls[0]
    low, high = 1e-3, 1e3
    for _ in range(20):
        middle = (low * high) ** 0.5
        neuron.reset()
        low, high = (middle, high) if neuron(middle * current, **kwargs).mean() < rate else (low, middle)
    neuron.reset()
    return high


class CSRLinear(nn.Module):
    """A fully connected layer without bias as PyTorch's compressed rows."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        with warnings.catch_warnings():  # it is in beta state, says PyTorch
            warnings.simplefilter("ignore", UserWarning)
            self.weight = linear.weight.detach().to_sparse_csr()

    def forward(self, x: Tensor) -> Tensor:
        """Return the currents of inputs `[..., in]`."""
        return (self.weight @ x.flatten(0, -2).t()).t().unflatten(0, x.shape[:-1])


def rivals(net: nn.Module) -> dict[str, nn.Module]:
    csr = copy.deepcopy(net)
    for name, module in list(csr.named_children()):
        if isinstance(module, nn.Linear):
            setattr(csr, name, CSRLinear(module))
    found = {"dense fp32": net, "dense bf16": copy.deepcopy(net).bfloat16()}
    return found | ({"CSR fp32": csr} if isinstance(net, SpikingMLP) else {})


def call(net: nn.Module, x: Tensor) -> Callable[[], object]:
    x = x.to(next(iter(net.parameters()), x).dtype)

    def routine() -> object:
        with torch.inference_mode():
            return net(x)

    return routine


def in_a_row(routine: Callable[[], object], count: int) -> Callable[[], None]:
    def turn() -> None:
        for _ in range(count):
            routine()

    return turn


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, default="mnist")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=0, help="0: 100 for mnist, 5 for cifar10")
    parser.add_argument("--rate", type=float, default=0.1, help="spikes per neuron per time step")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a ratio is below its limit")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    net, x = build(args.network, args.rate)
    engine = compile(net, threads=args.threads, backend="c")

    torch.manual_seed(1)
    missed = False
    for samples, batch in (("one", torch.randn(1, *x.shape[1:])), ("batch", torch.randn(args.batch, *x.shape[1:]))):
        data = batch.numpy()
        routines: dict[str, Callable[[], object]] = {"engine": lambda data=data: engine(data)}
        routines |= {name: call(rival, batch) for name, rival in rivals(net).items()}
        row = 20 if args.network == "mnist" else 1
        turns = {name: in_a_row(routine, row) for name, routine in routines.items()}
        times = alternate(turns, args.repeats or (100 if args.network == "mnist" else 5))
        times = {name: [time / row for time in values] for name, values in times.items()}
        median, fastest = ({name: f(values) for name, values in times.items()} for f in (statistics.median, min))
        print(f"{args.network}, {len(data)} sample(s), {args.threads} thread(s): milliseconds, ratio to the engine")
        for name in times:
            ratio = median[name] / median["engine"]
            limit = LIMITS.get((args.network, samples, name), 0)
            verdict = f"   limit {limit}: {'met' if ratio >= limit else 'MISSED'}" if limit else ""
            missed |= ratio < limit
            fast = f"(fastest {fastest[name] / fastest['engine']:.2f} x)"
            print(f"  {name:<12}{median[name]:10.3f}{ratio:8.2f} x {fast}{verdict}")
    report(net, engine, torch.randn(1, *x.shape[1:]))
    return int(args.check and missed)


def report(net: nn.Module, engine: Callable[..., object], x: Tensor) -> None:
    """Print what was counted on one sample: firing rates and synaptic operations, and how fast those were."""
    data = x.numpy()
    seconds = statistics.median(alternate({"engine": lambda: engine(data)}, 10)["engine"]) / 1e3
    with torch.no_grad(), FiringRates(net) as activity:
        net(x)
    print("firing rates: " + ", ".join(f"{rate:.3f}" for rate in activity.rates().values()))
    counted = operations(net, x).total
    print(f"effective ACs {counted.effective_acs:,.0f}, effective MACs {counted.effective_macs:,.0f}; ", end="")
    print(
        f"{(counted.effective_acs + counted.effective_macs) / seconds / 1e9:.2f} billion synaptic operations per second"
    )


if __name__ == "__main__":
    sys.exit(main())
