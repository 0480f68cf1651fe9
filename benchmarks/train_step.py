"""Time one training step against the matrix products that it cannot avoid.

    python benchmarks/train_step.py [--compile] [--method grad_r] [--check]

A step is forward, mean squared error of the rates, backward, optimizer and reset; no data. The floor of the
MNIST net is the forward product and the weight gradient of its first layer, and the limits are for it. The
floor of the CIFAR-10 net is all its convolutions and products, forward and backward.

Floor and step alternate in one run, and the limit is held against the medians. Whatever else runs on the machine
disturbs the longer of the two more often; the fastest of each, printed beside them, shows how much.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synaprune.engine.timing import alternate
from synaprune.models import MODELS
from synaprune.optim import METHODS

LIMIT_EAGER, LIMIT_COMPILED = 3.0, 2.3
DEFAULTS = {  # sizes of batch and layers, and one image
    "mlp": {"batch": 128, "width": 800, "image": (1, 28, 28)},
    "cnn": {"batch": 16, "width": 32, "image": (3, 32, 32)},
}
Routine = Callable[[], None]


def build(args: argparse.Namespace, fast: bool) -> nn.Module:
    torch.manual_seed(0)
    width = {"hidden": args.width} if args.model == "mlp" else {"channels": args.width}
    # Random images with torch's default weights hardly make a neuron fire.
    return MODELS[args.model](T=args.time_steps, gain=3.0, fast=fast, **width)


def training_step(net: nn.Module, x: Tensor, y: Tensor, method: str, compiled: bool) -> Routine:
    lr = 1e-5  # the spikes stay what they are
    if method == "adam":
        optimizer = torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    else:
        optimizer = METHODS[method](net, lr=lr)
    forward = torch.compile(net) if compiled else net

    def step() -> None:
        optimizer.zero_grad()
        F.mse_loss(forward(x).rate, y).backward()
        optimizer.step()

    return step


def first_layer(net: nn.Module, x: Tensor) -> Routine:
    x, weight = x.flatten(1), net.fc1.weight.detach()
    grad = torch.randn(len(x), len(weight))

    def products() -> None:
        torch.mm(x, weight.t())
        torch.mm(grad.t(), x)

    return products


def all_layers(net: nn.Module, x: Tensor) -> Routine:
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((layer, inputs[0].detach().requires_grad_(bool(calls)), torch.ones_like(output)))

    layers = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    hooks = [layer.register_forward_hook(record) for layer in layers]
    net(x)
    for hook in hooks:
        hook.remove()

    def products() -> None:
        for layer, inputs, grad in calls:
            wanted = [t for t in (layer.weight, inputs) if t.requires_grad]
            torch.autograd.grad(layer(inputs), wanted, grad)

    return products


def main() -> int:
    parser = argparse.ArgumentParser(description="Time one training step against its matrix products.")
    parser.add_argument("--model", choices=sorted(MODELS), default="mlp")
    parser.add_argument("--method", choices=["adam", *sorted(METHODS)], default="adam")
    parser.add_argument("--batch", type=int, help="images (mlp: 128, cnn: 16)")
    parser.add_argument("--width", type=int, help="hidden neurons or channels (mlp: 800, cnn: 32)")
    parser.add_argument("--time-steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--compile", action="store_true", help="compile the network")
    parser.add_argument("--check", action="store_true", help="exit with 1 above the limit (mlp)")
    args = parser.parse_args()
    defaults = DEFAULTS[args.model]
    args.batch, args.width = args.batch or defaults["batch"], args.width or defaults["width"]
    torch.set_num_threads(args.threads)

    torch.manual_seed(1)
    x = torch.randn(args.batch, *defaults["image"])
    y = F.one_hot(torch.randint(10, (args.batch,)), 10).float()
    floor = (first_layer if args.model == "mlp" else all_layers)(build(args, fast=True), x)
    print(f"{args.model} {args.width}, batch {args.batch}, T={args.time_steps}, {args.method}, ", end="")
    print(f"{args.threads} thread(s), {'compiled' if args.compile else 'eager'}; milliseconds, ratio to floor")
    ratios = []
    for name, fast, compiled in (("step", True, args.compile), ("SpikingJelly's loop, eager", False, False)):
        step = training_step(build(args, fast), x, y, args.method, compiled)
        times = alternate({"floor": floor, "step": step}, args.repeats).values()
        for of, (base, own) in {
            "median": map(statistics.median, times),
            "fastest": map(min, times),
        }.items():
            print(f"{name:28}{of:8}{own:9.2f} over {base:7.2f} = {own / base:5.2f}")
            ratios.append(own / base)

    if args.model == "mlp":
        limit = LIMIT_COMPILED if args.compile else LIMIT_EAGER
        print(f"limit {limit}: {'met' if ratios[0] <= limit else 'MISSED'}")
        return int(args.check and ratios[0] > limit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
