"""Time the engine against PyTorch on one sample and on a batch, with as many threads each, in one run.

usage: python benchmarks/inference.py [--network mnist|cifar10|cifar10-5] [--threads N] [--batch N] [--repeats N]
                                      [--rate R] [--check]
       python benchmarks/inference.py --break-even [--threads N] [--repeats N] [--rate R] [--figure FILE] [--quick]

Networks have random weights, as many as a pruned network has left, scaled layer by layer until each layer of neurons
fires at the given rate. Routines take turns, so that all see the same machine; ratios are of medians
(`synaprune.engine.timing`). `synaprune bench` does the same with a trained network.

--break-even prunes all layers of the CIFAR-10 network to the same connectivity, to several one after another, and says
at which one the engine stops to be faster than PyTorch's dense network; between two of them it interpolates on
logarithmic scales. --quick does it with a small network, to see that it works.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import exp, log
from pathlib import Path

# Else threads of PyTorch that have nothing to do spin on in the engine's turns.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import matplotlib as mpl
import torch
from rich.console import Console
from torch import Tensor, nn

from synaprune.engine import compile
from synaprune.engine.timing import ENGINE, Comparison, compare, measure, rivals
from synaprune.files import replacing
from synaprune.models import LIF, SpikingCNN, SpikingMLP
from synaprune.report.figure import Axis, Figure, Trace, percent, wide
from synaprune.report.paper import STYLE, draw
from synaprune.train.bench_display import lines, table

Make = Callable[[], nn.Module]
# Connectivity per layer; that of cifar10 was published for one of the sparsest runs.
NETWORKS: dict[str, tuple[Make, tuple[int, ...], tuple[float, ...]]] = {
    "mnist": (SpikingMLP, (1, 28, 28), (0.05, 0.05)),
    "cifar10": (SpikingCNN, (3, 32, 32), (0.0216, 0.0041, 0.0141, 0.0203, 0.0215, 0.0415, 0.0051, 0.2096)),
    "cifar10-5": (SpikingCNN, (3, 32, 32), (0.05,) * 8),
}
# How many times as fast as PyTorch's dense network, at least: (network, one or batch, rival) → ratio.
LIMITS = {
    ("mnist", "one", "dense fp32"): 15,
    ("cifar10", "one", "dense fp32"): 20,
    ("cifar10", "batch", "dense fp32"): 20,
    ("cifar10", "one", "dense bf16"): 10,
    ("cifar10", "batch", "dense bf16"): 10,
    ("cifar10-5", "one", "dense fp32"): 5,
    ("cifar10-5", "batch", "dense fp32"): 5,
}
CONNECTIVITIES = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8)
QUICK = (0.02, 0.9)


@torch.no_grad()
def build(make: Make, shape: tuple[int, ...], densities: Sequence[float], rate: float) -> nn.Module:
    """Return a sparse network whose neurons fire at about `rate`."""
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
    return net


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


def limits(args: argparse.Namespace) -> int:
    """Time one network, print what came out beside the limits, and return how many of them were missed."""
    make, shape, densities = NETWORKS[args.network]
    net = build(make, shape, densities, args.rate)
    engine = compile(net, threads=args.threads, backend="c")
    torch.manual_seed(1)
    measured = measure(engine, net, torch.randn(args.batch, *shape), args.repeats)
    Console(width=100).print(table(measured))
    print(*lines(measured), sep="\n")
    missed = 0
    for comparison in measured.comparisons:
        what = "one" if comparison.samples == 1 else "batch"
        for name in comparison.milliseconds:
            if limit := LIMITS.get((args.network, what, name)):
                met = comparison.ratio(name) >= limit
                missed += not met
                print(f"{what}, {name}: {comparison.ratio(name):.2f} x, limit {limit}: {'met' if met else 'MISSED'}")
    return missed


def break_even(args: argparse.Namespace) -> None:
    """Time one sample at several connectivities, print where the ratios are 1, and draw it."""
    make: Make = (lambda: SpikingCNN(channels=16, image_size=8)) if args.quick else SpikingCNN
    shape = (3, 8, 8) if args.quick else (3, 32, 32)
    found: dict[float, Comparison] = {}
    for connectivity in QUICK if args.quick else CONNECTIVITIES:
        net = build(make, shape, (connectivity,) * 8, args.rate)
        engine = compile(net, threads=args.threads, backend="c")
        dense = rivals(net)
        torch.manual_seed(1)
        repeats = args.repeats or (2 if args.quick else None)
        found[connectivity] = here = compare(engine, dense, torch.randn(8, *shape), 1, repeats)
        ratios = ", ".join(f"{name} {here.median(name):.3g} ms = {here.ratio(name):.2f} x" for name in dense)
        print(f"{connectivity:.1%}: engine {here.median():.3g} ms, {ratios} ({here.rounds} rounds)", flush=True)
    for name in dense:
        place = crossing([(connectivity, each.ratio(name)) for connectivity, each in found.items()])
        print(f"break-even connectivity with {name}: {place}")
    if args.figure:
        with mpl.rc_context(STYLE), replacing(args.figure) as file:
            metadata = {"Date": None} if args.figure.suffix == ".svg" else {}
            drawing = draw(figure(found))
            drawing.savefig(file, format=args.figure.suffix[1:], dpi=300, metadata=metadata, facecolor="white")


def crossing(ratios: Sequence[tuple[float, float]]) -> str:
    """Return the connectivity, rising in `ratios`, at which the ratio falls to 1, in words."""
    if ratios[0][1] < 1:
        return f"below {percent(ratios[0][0])}"
    for (low, above), (high, below) in pairwise(ratios):
        if below < 1:
            share = log(above) / (log(above) - log(below))
            return percent(exp(log(low) + share * (log(high) - log(low))))
    return f"above {percent(ratios[-1][0])}"


def figure(found: dict[float, Comparison]) -> Figure:
    """Return the milliseconds over the connectivity."""
    connectivities = list(found)
    names = next(iter(found.values())).milliseconds
    traces = [
        Trace(name if name == ENGINE else f"PyTorch {name}", connectivities, [c.median(name) for c in found.values()])
        for name in names
    ]
    return Figure(
        key="break-even",
        title="Break-even connectivity",
        note="Where the engine's line meets another, pruning has not yet paid off.",
        x=Axis("connectivity of each layer", "log", share=True),
        y=Axis("milliseconds for one sample", "log"),
        traces=traces,
        table=wide("connectivity", traces, "number"),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, default="mnist")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, help="rounds; default: as many as fit into 20 seconds, 3 to 100")
    parser.add_argument("--rate", type=float, default=0.1, help="spikes per neuron per time step")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a ratio is below its limit")
    parser.add_argument("--break-even", action="store_true", help="look for the connectivity at which it is 1")
    parser.add_argument("--figure", type=Path, help="draw the milliseconds over the connectivity")
    parser.add_argument("--quick", action="store_true", help="with a small network")
    args = parser.parse_args()
    if args.figure and args.figure.suffix not in (".png", ".svg"):
        parser.error(f"--figure must end in .png or .svg, not '{args.figure}'")
    if args.break_even:
        break_even(args)
        return 0
    if args.figure or args.quick:
        parser.error("--figure and --quick belong to --break-even")
    return int(limits(args) > 0 and args.check)


if __name__ == "__main__":
    sys.exit(main())
