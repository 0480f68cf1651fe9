"""Time one training step, its parts, and the matrix products that it cannot avoid.

    python benchmarks/train_step.py [--model cnn] [--precision bf16] [--compile] [--method grad_r] [--check]
    python benchmarks/train_step.py --model cnn --width 256 --batch 128 --device cuda --precision bf16 --compile

A step is forward, mean squared error of the rates, backward, optimizer and reset. The floor of the MNIST net is the
forward product and the weight gradient of its first layer; that of the CIFAR-10 net is all its convolutions and
products, forward and backward, in the precision and memory layout of the step.

Its rivals are two forms of the same network on SpikingJelly's own neurons, in float32, with torch.optim.Adam: its loop
over time inside each neuron, and the loop that a user writes, in which the whole network runs time step by time step.

All of them take turns in one run, and limits are held against the medians. Whatever else runs on the machine disturbs
the longer ones more often; the fastest of each, printed beside them, shows how much. The parts are measured after
that, with a pause for the device between them. The budget is one solution, of which a run needs one in `period` steps.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from synaprune.budget import constant
from synaprune.catalogue import CATALOGUE
from synaprune.data import CropFlip, RandomAffine, normalize
from synaprune.engine.timing import alternate
from synaprune.models import MODELS, Readout
from synaprune.optim import METHODS

LIMIT_EAGER, LIMIT_COMPILED = 3.0, 2.3  # of the MNIST net's step over its floor
LIMIT_RIVAL = 2.0  # of the loop that a user writes over the CIFAR-10 net's step
DEFAULTS = {  # sizes of batch and layers, one image, and its augmentation
    "mlp": {"batch": 128, "width": 800, "image": (1, 28, 28), "augment": RandomAffine(), "repeats": 200},
    "cnn": {"batch": 16, "width": 64, "image": (3, 32, 32), "augment": CropFlip(), "repeats": 10},
}
PERIOD = 16  # steps from one solution of a budget to the next
Routine = Callable[[], None]
Forward = Callable[[Tensor], Readout]


def build(args: argparse.Namespace, fast: bool = True) -> nn.Module:
    torch.manual_seed(0)
    more = {"hidden": args.width} if args.model == "mlp" else {"channels": args.width, "recompute": args.recompute}
    # Random images with torch's default weights hardly make a neuron fire.
    net = MODELS[args.model](T=args.time_steps, gain=3.0, fast=fast, **more)
    return net.to(args.device)


def step_by_step(net: nn.Module) -> Forward:
    """Return the forward pass as a loop over time steps around SpikingJelly's single-step layers."""
    functional.set_step_mode(net, "s")
    net.to(memory_format=torch.contiguous_format)
    first, *others = net.children()

    def forward(x: Tensor) -> Readout:
        functional.reset_net(net)
        injected = first(x if isinstance(first, nn.Sequential) else x.flatten(1))
        rate: Tensor | float = 0.0
        current: Tensor | float = 0.0
        for _ in range(net.T):
            y = injected
            for layer in others[:-1]:
                y = layer(y)
            current, rate = current + y, rate + others[-1](y)
        functional.reset_net(net)
        # Ten output neurons share the vote for a class of the CIFAR-10 net, one that for a digit.
        rate, current = ((v / net.T).unflatten(1, (10, -1)).mean(2) for v in (rate, current))
        return Readout(rate, current)

    return forward


class Step:
    """One training step: whole, and in parts that can be timed."""

    def __init__(self, net: nn.Module, forward: Forward, x: Tensor, y: Tensor, args: argparse.Namespace, method: str):
        self.forward_pass, self.x, self.y, self.half = forward, x, y, args.precision == "bf16"
        options = {"lr": 1e-5}  # the spikes stay what they are
        if method == "adam":
            self.optimizer: torch.optim.Optimizer = torch.optim.Adam(net.parameters(), **options, fused=True)
        else:
            if args.sparsity is not None and CATALOGUE[method].number:
                options |= {"sparsity": args.sparsity, "schedule": constant(steps=1)}
            self.optimizer = METHODS[method](net, **options)

    def forward(self) -> None:
        """Compute the loss."""
        self.optimizer.zero_grad()
        with torch.autocast(self.x.device.type, torch.bfloat16, enabled=self.half):
            self.loss = F.mse_loss(self.forward_pass(self.x).rate.float(), self.y)

    def backward(self) -> None:
        """Compute the gradients."""
        self.loss.backward()

    def update(self) -> None:
        """Move the parameters."""
        self.optimizer.step()

    def __call__(self) -> None:
        """Take the whole step."""
        self.forward()
        self.backward()
        self.update()


def first_layer(net: nn.Module, x: Tensor) -> Routine:
    x, weight = x.flatten(1), net.fc1.weight.detach()
    grad = torch.randn(len(x), len(weight), device=x.device)

    def products() -> None:
        torch.mm(x, weight.t())
        torch.mm(grad.t(), x)

    return products


def all_layers(net: nn.Module, x: Tensor, half: bool) -> Routine:
    calls: list[tuple[Callable[..., Tensor], list[Tensor], Tensor]] = []

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        image = inputs[0].flatten(0, 1) if isinstance(layer, nn.Conv2d) and inputs[0].dim() == 5 else inputs[0]
        weight, image = (
            t.detach().to(torch.bfloat16 if half else torch.float32).requires_grad_(wanted)
            for t, wanted in ((layer.weight, True), (image, bool(calls)))
        )
        product = F.linear if isinstance(layer, nn.Linear) else lambda x, w: F.conv2d(x, w, padding=1)
        calls.append((product, [image, weight], torch.ones_like(product(image, weight))))

    hooks = [m.register_forward_hook(record) for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    net(x)
    for hook in hooks:
        hook.remove()

    def products() -> None:
        for product, inputs, grad in calls:
            torch.autograd.grad(product(*inputs), [t for t in inputs if t.requires_grad], grad)

    return products


def rivals(args: argparse.Namespace, x: Tensor, y: Tensor) -> dict[str, Routine]:
    """Return the steps on SpikingJelly's own neurons."""
    plain = argparse.Namespace(**vars(args) | {"precision": "fp32", "recompute": False})
    loop, by_hand = (build(plain, fast=False) for _ in range(2))
    return {
        "SpikingJelly's loop": Step(loop, loop, x, y, plain, "adam"),
        "step by step": Step(by_hand, step_by_step(by_hand), x, y, plain, "adam"),
    }


def waiting(routine: Routine, device: torch.device) -> Routine:
    """Return the routine with a wait for the GPU to finish it."""
    if device.type != "cuda":
        return routine

    def wait() -> None:
        routine()
        torch.cuda.synchronize()

    return wait


def parts(step: Step, data: Routine, device: torch.device, repeats: int) -> dict[str, float]:
    """Return the median milliseconds of each part of a step."""
    routines = {"data": data, "forward": step.forward, "backward": step.backward, "optimizer": step.update}
    if step.optimizer.param_groups[0].get("sparsity") is not None:
        routines["budget"] = step.optimizer.settle
    times = alternate({name: waiting(routine, device) for name, routine in routines.items()}, repeats)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_memory(step: Step, device: torch.device) -> float:
    """Return the largest memory in use during a step, in MB: the GPU's, or the resident one of this process."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() / 1e6
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # from here on a new peak, on Linux
    step()
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1e3
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> int:
    parser = argparse.ArgumentParser(description="Time one training step, its parts, and its matrix products.")
    parser.add_argument("--model", choices=sorted(MODELS), default="mlp")
    parser.add_argument("--method", choices=["adam", *sorted(METHODS)], default="adam")
    parser.add_argument("--sparsity", type=float, help="a budget for the method, solved once in 16 steps")
    parser.add_argument("--batch", type=int, help="images (mlp: 128, cnn: 16)")
    parser.add_argument("--width", type=int, help="hidden neurons or channels (mlp: 800, cnn: 64)")
    parser.add_argument("--time-steps", type=int, default=8)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of our step and of the floor")
    parser.add_argument("--repeats", type=int, help="rounds (mlp: 200, cnn: 10)")
    parser.add_argument("--compile", action="store_true", help="compile our network")
    parser.add_argument("--recompute", action="store_true", help="compute the cnn's maps anew in backward")
    parser.add_argument("--alone", action="store_true", help="leave out the rivals")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a limit is missed")
    args = parser.parse_args()
    defaults = DEFAULTS[args.model]
    for name in ("batch", "width", "repeats"):
        setattr(args, name, getattr(args, name) or defaults[name])
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)

    torch.manual_seed(1)
    images = torch.randint(256, (8 * args.batch, *defaults["image"]), dtype=torch.uint8, device=device)
    generator = torch.Generator(device).manual_seed(2)
    mean = (0.5,) * defaults["image"][0]

    def batch() -> Tensor:
        chosen = torch.randperm(len(images), generator=generator, device=device)[: args.batch]
        return normalize(defaults["augment"](images[chosen], 1.0, generator), mean, mean)

    x, y = batch(), F.one_hot(torch.randint(10, (args.batch,), device=device), 10).float()
    half = args.precision == "bf16"
    floor = first_layer(build(args), x) if args.model == "mlp" else all_layers(build(args), x, half)
    net = build(args)
    step = Step(net, torch.compile(net) if args.compile else net, x, y, args, args.method)
    routines: dict[str, Routine] = {"floor": floor, "step": step}
    if not args.alone:
        routines |= rivals(args, x, y)

    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{args.threads} thread(s)"
    print(
        f"{args.model} {args.width}, batch {args.batch}, T={args.time_steps}, {args.method}, {args.precision}, ", end=""
    )
    print(f"{'compiled' if args.compile else 'eager'}, {where}; milliseconds")
    begin = time.perf_counter()
    waiting(step, device)()
    print(f"the first step takes {time.perf_counter() - begin:.1f} s")
    times = alternate({name: waiting(routine, device) for name, routine in routines.items()}, args.repeats)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{'':22}{'median':>10}{'fastest':>10}{'/ floor':>9}{'/ step':>9}")
    for name, values in times.items():
        own = medians[name]
        ratios = f"{own / medians['floor']:9.2f}{own / medians['step']:9.2f}"
        print(f"{name:22}{own:10.2f}{min(values):10.2f}{ratios}")

    del floor, routines  # the memory shall be the step's
    gc.collect()
    spent = parts(step, batch, device, max(args.repeats // 2, 3))
    solution = spent.pop("budget", 0.0)
    whole = sum(spent.values()) + solution / PERIOD
    print("parts: " + ", ".join(f"{name} {value:.2f}" for name, value in spent.items()), end="")
    print(f", budget {solution / PERIOD:.2f} ({solution:.2f} once in {PERIOD} steps)" if solution else "")
    print(f"{args.batch / whole * 1e3:,.0f} samples per second, {peak_memory(step, device):,.0f} MB at the peak")

    missed = False
    if args.model == "mlp" and device.type == "cpu":
        limit, ratio = LIMIT_COMPILED if args.compile else LIMIT_EAGER, medians["step"] / medians["floor"]
        missed = ratio > limit
        print(f"limit: {limit} floors: {'MISSED' if missed else 'met'}")
    elif not args.alone and device.type == "cpu":
        missed = medians["step by step"] / medians["step"] < LIMIT_RIVAL
        print(f"limit: {LIMIT_RIVAL} × as fast as step by step: {'MISSED' if missed else 'met'}")
    return int(args.check and missed)


if __name__ == "__main__":
    sys.exit(main())
