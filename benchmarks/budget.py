"""Time what an exact budget adds to training: one solution of the threshold, once in 16 steps.

    python benchmarks/budget.py [--network mnist|cifar10|both] [--batch N] [--repeats N] [--check]

A training step (forward, backward, Grad R with a fixed alpha) and a solution (as `settle` makes it: rank all θ
together, move the threshold, write the weights) alternate in one run, one thread. The share is the median solution
over sixteen median steps. The larger the batch, the smaller it is; both networks are timed at their published one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from argparse import Namespace

import torch
import torch.nn.functional as F
from train_step import PERIOD, Step, build

from synaprune.budget import constant
from synaprune.engine.timing import alternate
from synaprune.optim import GradR

LIMIT = 0.02  # for the CIFAR-10 network
NETWORKS = {
    "mnist": {"model": "mlp", "width": 800, "batch": 128, "repeats": 100, "image": (1, 28, 28)},
    "cifar10": {"model": "cnn", "width": 256, "batch": 16, "repeats": 3, "image": (3, 32, 32)},
}


def share(network: str, batch: int, repeats: int) -> float:
    """Time both, print them, and return the share of a training step."""
    settings = NETWORKS[network]
    batch, repeats = batch or settings["batch"], repeats or settings["repeats"]
    size = {"model": settings["model"], "width": settings["width"], "time_steps": 8}
    args = Namespace(**size, device="cpu", recompute=False, precision="fp32", sparsity=None)
    net = build(args)
    torch.manual_seed(1)
    x = torch.randn(batch, *settings["image"])
    y = F.one_hot(torch.randint(10, (batch,)), 10).float()
    step = Step(net, net, x, y, args, "grad_r")
    step()
    optimizer = GradR(net, lr=1e-3, sparsity=0.98, schedule=constant(steps=1))
    optimizer.step()  # the gradients of the step above

    def solution() -> None:
        for state in optimizer.state.values():  # some synapses have come and gone since the last one
            if "latent" in state:
                state["latent"][..., ::97] *= 1.01
        optimizer.settle()

    times = alternate({"training step": step, "solution": solution}, repeats)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["solution"] / (PERIOD * medians["training step"])
    count = sum(p.numel() for p in net.parameters())
    print(
        f"{network}: {count:,} parameters, batch {batch}, 1 thread: training step {medians['training step']:.1f} ms, ",
        end="",
    )
    print(f"solution {medians['solution']:.1f} ms once in {PERIOD} steps = {ratio:.2%} of a step")
    return ratio


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=[*NETWORKS, "both"], default="both")
    parser.add_argument("--batch", type=int, default=0, help="images (mnist: 128, cifar10: 16)")
    parser.add_argument("--repeats", type=int, default=0, help="0: 100 for mnist, 5 for cifar10")
    parser.add_argument("--check", action="store_true", help="exit with 1 above the limit (cifar10)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    late = False
    for network in NETWORKS if args.network == "both" else [args.network]:
        ratio = share(network, args.batch, args.repeats)
        if network == "cifar10":
            print(f"limit {LIMIT:.0%}: {'met' if ratio <= LIMIT else 'MISSED'}")
            late |= ratio > LIMIT
    return int(late and args.check)


if __name__ == "__main__":
    sys.exit(main())
