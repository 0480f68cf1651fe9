"""Time one step of Grad R, or of every method, against one step of fused Adam on the same tensors, one thread.

usage: python benchmarks/optimizer_step.py [--network mnist|cifar10|both] [--repeats N] [--compile] [--check]
       python benchmarks/optimizer_step.py --methods [--small] [--repeats N] [--steps N] [--check]

Steps alternate, so that all see the same machine, and the limit is held against the medians. Whatever else runs on
the machine disturbs the longer step more often; the fastest of each, printed beside, shows how much. With --methods
400 steps of each alternate, so that exchanges and solves of a budget have their share; 5 % of the synapses exist. With
--small the tensors are 21 of 8x8, so that a step is hardly anything but Python.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

import torch
from torch import Tensor, nn

from synaprune.budget import constant, cosine, sine
from synaprune.engine.timing import alternate
from synaprune.optim import METHODS, GradR

# The tensors of synapses of the two networks (637 thousand and 36.7 million), and the ratio allowed.
NETWORKS: dict[str, list[tuple[int, ...]]] = {
    "mnist": [(800, 784), (10, 800)],
    "cifar10": [(256, 3, 3, 3), *[(256, 256, 3, 3)] * 5, (2048, 16384), (100, 2048)],
}
SMALL = [(8, 8)] * 21  # on which Python's share of a step is nearly all of it
# What every method is asked in the comparison of all, and the ratio allowed; the limit of the others is 2.5.
STEPS = 1_000_000
STAY, FALL = {"sparsity": 0.95, "schedule": constant(STEPS)}, {"sparsity": 0.95, "schedule": cosine(STEPS)}
ASKED: dict[str, dict[str, Any]] = {
    "grad_r, budget": STAY,
    "magnitude": STAY,
    "magnitude_ste": STAY,
    "granet": STAY,
    "rigl": FALL,
    "set": FALL,
    "static": {"sparsity": 0.95},
    "deep_r": {"sparsity": 0.95},
    "soft_deep_r, gaussian": {"sparsity": 0.95, "noise": "gaussian"},
    "soft_deep_r, uniform": {"sparsity": 0.95, "noise": "uniform"},
    "stds": {"threshold": 0.1, "schedule": sine(STEPS)},
    "stds, gated": {"threshold": 0.1, "schedule": sine(STEPS), "gated": True},
    "stds, budget": STAY,
    "lats": {"alpha": 1e-3},
    "lats, budget": STAY,
    "str": {"threshold_decay": 1.0},
    "str, budget": STAY,
}
ALLOWED = {"soft_deep_r, gaussian": 8.0, "soft_deep_r, uniform": 3.5}
ALLOWED_SMALL = {"deep_r": 6.0}  # 3 for all others
GRADIENTS: dict[tuple[int, torch.Size], Tensor] = {}
LIMITS = {("mnist", False): 1.5, ("cifar10", False): 2.0, ("cifar10", True): 1.6}


def parameters(shapes: list[tuple[int, ...]]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(0.02 * torch.randn(shape, generator=generator)) for shape in shapes]
    for p in params:
        p.grad = 1e-3 * torch.randn(p.shape, generator=generator)
    return params


def measure(network: str, repeats: int, compiled: bool) -> float:
    shapes = NETWORKS[network]
    adam = torch.optim.Adam(parameters(shapes), lr=1e-4, fused=True)
    ours = GradR(parameters(shapes), lr=1e-4, alpha=1e-3, check_finite=False, compile_projection=compiled)
    checked = GradR(parameters(shapes), lr=1e-4, alpha=1e-3, compile_projection=compiled)
    times = alternate({"Adam": adam.step, "Grad R": ours.step, "Grad R, checked": checked.step}, repeats)
    count = sum(p.numel() for p in parameters(shapes))
    print(f"{network}: {count:,} synapses, {'compiled' if compiled else 'eager'} projection, 1 thread")
    median, fastest = ({name: f(values) for name, values in times.items()} for f in (statistics.median, min))
    for name in times:
        ratios = f"{median[name] / median['Adam']:5.2f} x fused Adam (fastest {fastest[name] / fastest['Adam']:.2f} x)"
        print(f"  {name:<16} {median[name]:9.3f} ms {ratios}")
    return median["Grad R"] / median["Adam"]


def compare(repeats: int, steps: int, small: bool) -> bool:
    """Time every method, and tell whether one is above its limit."""
    shapes = SMALL if small else NETWORKS["mnist"]
    optimizers = {"Adam": torch.optim.Adam(parameters(shapes), lr=1e-4, fused=True)}
    for name, asked in ASKED.items():
        params = parameters(shapes)
        optimizers[name] = METHODS[name.partition(",")[0]](params, lr=1e-4, check_finite=False, **asked)
    times = alternate({name: lambda o=o: several(o, steps) for name, o in optimizers.items()}, repeats)
    adam, late = times.pop("Adam"), False
    count = sum(p.numel() for p in parameters(shapes))
    print(f"{count:,} synapses, 1 thread, {repeats} times {steps} steps\n| method | x fused Adam | fastest | limit |")
    print("| --- | ---: | ---: | ---: |")
    for name, values in times.items():
        ratio = statistics.median(values) / statistics.median(adam)
        limit = ALLOWED_SMALL.get(name, 3.0) if small else ALLOWED.get(name, 2.5)
        late |= ratio > limit
        print(f"| {name} | {ratio:.2f} | {min(values) / min(adam):.2f} | {limit}{' MISSED' if ratio > limit else ''} |")
    return late


def several(optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Take steps with gradients that change their sign as those of a trained network do."""
    for step in range(steps):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = GRADIENTS.setdefault((step % 3, p.shape), 1e-3 * torch.randn(p.shape))
        optimizer.step()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=[*NETWORKS, "both"], default="both")
    parser.add_argument("--methods", action="store_true", help="compare all methods on the mnist network instead")
    parser.add_argument("--small", action="store_true", help="with --methods: on 21 tensors of 64 synapses")
    parser.add_argument("--repeats", type=int, default=0, help="0: 300 for mnist, 25 for cifar10, 9 for methods")
    parser.add_argument("--steps", type=int, default=400, help="steps of each method in a turn of --methods")
    parser.add_argument("--compile", action="store_true", help="compile the projection")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a ratio is above its limit")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.methods:
        return int(compare(args.repeats or 9, args.steps, args.small) and args.check)
    late = False
    for network in NETWORKS if args.network == "both" else [args.network]:
        repeats = args.repeats or {"mnist": 300, "cifar10": 25}[network]
        ratio = measure(network, repeats, args.compile)
        limit = LIMITS.get((network, args.compile))
        if limit:
            print(f"  limit {limit:.2f}: {'met' if ratio <= limit else 'MISSED'}")
            late |= ratio > limit
    return int(late and args.check)


if __name__ == "__main__":
    sys.exit(main())
