"""Time one step of Grad R against one step of fused Adam on the same tensors, one thread, in one run.

usage: python benchmarks/optimizer_step.py [--network mnist|cifar10|both] [--repeats N] [--compile] [--check]

Steps alternate, so that all see the same machine, and the limit is held against the medians. Whatever else runs on
the machine disturbs the longer step more often; the fastest of each, printed beside, shows how much.
"""

from __future__ import annotations

import argparse
import statistics
import sys

import torch
from torch import Tensor, nn

from synaprune.engine.timing import alternate
from synaprune.optim import GradR

# The tensors of synapses of the two networks (637 thousand and 36.7 million), and the ratio allowed.
NETWORKS: dict[str, list[tuple[int, ...]]] = {
    "mnist": [(800, 784), (10, 800)],
    "cifar10": [(256, 3, 3, 3), *[(256, 256, 3, 3)] * 5, (2048, 16384), (100, 2048)],
}
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=[*NETWORKS, "both"], default="both")
    parser.add_argument("--repeats", type=int, default=0, help="0: 300 for mnist, 25 for cifar10")
    parser.add_argument("--compile", action="store_true", help="compile the projection")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a ratio is above its limit")
    args = parser.parse_args()
    torch.set_num_threads(1)
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
