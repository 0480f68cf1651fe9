"""Courses of every method, recorded: what a change of the code must not change, to the bit.

    python tests/optim/golden.py          records them anew in golden.json, and says which have changed

Gradients are sums of integers and of the weights themselves, so that a course does not depend on a processor's
products; PyTorch's kernels for AVX2 and AVX-512 agree to the bit. Half-way, a new optimizer takes over from the saved
state.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from synaprune.budget import constant, cosine, cubic, linear, sine
from synaprune.optim import METHODS

PLACE = Path(__file__).with_suffix(".json")
STEPS = 300
EVERY = 10  # steps from one count to the next
BASES = {
    "adam": {"base": torch.optim.Adam, "lr": 1e-2},
    "adamw": {"base": torch.optim.AdamW, "lr": 1e-2, "weight_decay": 0.05},
    "sgd": {"base": torch.optim.SGD, "lr": 3e-2, "momentum": 0.9, "weight_decay": 1e-3},
}
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
DESCENT = {"sparsity": 0.8, "schedule": cubic(steps=250, flat=0.2), "period": 8}
EXCHANGE = {"sparsity": 0.8, "schedule": cosine(steps=STEPS), "period": 10}
FORMS = {
    "grad_r": {"alpha": 0.2, "sparsity": 0.9},
    "grad_r budget": DESCENT,
    "stds": {"threshold": 0.3, "schedule": sine(steps=250)},
    "stds gated": {"threshold": 0.2, "schedule": linear(steps=250), "gated": True},
    "stds budget": DESCENT,
    "lats": {"alpha": 0.1},
    "lats pgh": {"alpha": 0.1, "beta": 0.5, "schedule": linear(steps=STEPS)},
    "lats budget": DESCENT,
    "str": {"threshold_decay": 0.2},
    "str budget": DESCENT,
    "magnitude": DESCENT,
    "magnitude_ste": DESCENT,
    "granet": {**DESCENT, "period": 10},
    "set": EXCHANGE,
    "rigl": EXCHANGE,
    "deep_r": {"sparsity": 0.8, "temperature": 1e-4},
    "soft_deep_r": {"sparsity": 0.8, "temperature": 1e-4},
    "static": {"sparsity": 0.8},
    "dense": {},
}
FURTHER = {  # with Adam and float32 only
    "grad_r budget scaled": {**DESCENT, "allocation": "scaled"},
    "grad_r budget uniform": {**DESCENT, "allocation": "uniform"},
    "grad_r budget erk": {**DESCENT, "allocation": "erk", "floor": 0.3},
    "grad_r budget named": {**DESCENT, "sparsity": {"0": 0.5, "1": 0.9, "2": 0.8}},
    "magnitude_ste budget scaled": {**DESCENT, "allocation": "scaled"},
    "lats budget gated": {**DESCENT, "gated": True},
    "set constant": {**EXCHANGE, "schedule": constant(steps=STEPS), "allocation": "uniform", "rescale": True},
    "set momentum": {**EXCHANGE, "growth": "momentum"},
    "granet dense": {**DESCENT, "period": 10, "initial": 1.0, "allocation": "uniform"},
    "deep_r global": {"sparsity": 0.8, "allocation": "global", "alpha": 0.05},
    "soft_deep_r uniform": {"sparsity": 0.8, "temperature": 1e-4, "noise": "uniform", "allocation": "uniform"},
}
COURSES = {f"{form}, {base}, {dtype}" for form in FORMS for base in BASES for dtype in TYPES} | {
    f"{form}, adam, fp32" for form in FURTHER
}


class Network(nn.Module):
    """Three tensors of synapses, one of them in another memory layout, and biases."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        draw = np.random.default_rng(0)
        weights = [_steps(draw, shape) for shape in ((16, 12), (6, 4, 3, 3), (8, 16))]
        convolution = nn.Conv2d(4, 6, 3, dtype=dtype).to(memory_format=torch.channels_last)
        self.layers = nn.ModuleList([nn.Linear(12, 16, dtype=dtype), convolution, nn.Linear(16, 8, dtype=dtype)])
        with torch.no_grad():
            for layer, weight in zip(self.layers, weights):
                layer.weight.copy_(weight)
                layer.bias.zero_()

    def pull(self, targets: list[torch.Tensor], draw: np.random.Generator) -> None:
        """Give each parameter the gradient of a parabola around its target, and noise."""
        for parameter, target in zip(self.parameters(), targets):
            noise = _steps(draw, parameter.shape)
            parameter.grad = ((parameter.detach().float() - target) * 0.25 + noise * 0.5).to(parameter.dtype)


def _steps(draw: np.random.Generator, shape) -> torch.Tensor:
    """Return multiples of 2⁻¹⁰ of about the size of weights."""
    return torch.from_numpy(draw.integers(-512, 513, tuple(shape)).astype(np.float32)) / 1024.0


def make(course: str, network: Network):
    form, base, _ = course.split(", ")
    options = {**FORMS, **FURTHER}[form]
    if isinstance(options.get("sparsity"), dict):
        options = {**options, "sparsity": {f"layers.{n}.weight": share for n, share in options["sparsity"].items()}}
    return METHODS[form.split()[0]](network, **BASES[base], **options)


def run(course: str) -> dict:
    """Return what is kept of a course: the counts on its way, births and deaths, and sums over the bits at its end."""
    network = Network(TYPES[course.split(", ")[2]])
    draw = np.random.default_rng(1)
    targets = [_steps(draw, parameter.shape) for parameter in network.parameters()]
    optimizer = make(course, network)
    weights = [layer.weight for layer in network.layers]
    counts, moved, before = [], [0, 0], [weight.detach() != 0 for weight in weights]
    for step in range(1, STEPS + 1):
        network.pull(targets, draw)
        optimizer.param_groups[0]["lr"] = BASES[course.split(", ")[1]]["lr"] * (1.0 if step <= 200 else 0.5)
        optimizer.step()
        after = [weight.detach() != 0 for weight in weights]
        for old, new in zip(before, after):
            moved[0] += int((new & ~old).sum())
            moved[1] += int((old & ~new).sum())
        before = after
        if step % EVERY == 0:
            counts.append(sum(int(mask.sum()) for mask in after))
        if step == STEPS // 2:
            state = optimizer.state_dict()
            optimizer = make(course, network)
            optimizer.load_state_dict(state)
    optimizer.settle()
    return {
        "counts": counts,
        "births, deaths": moved,
        "left": [int(weight.count_nonzero()) for weight in weights],
        "weights": _digest(network.parameters()),
        "theta": _digest(optimizer.theta(weight) for weight in weights if optimizer.param_groups[0]["rewire"]),
    }


def _digest(tensors) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        values = tensor.detach().contiguous()
        # −0 and 0 are one number.
        found.update((values + 0.0).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:32]


def main() -> None:
    """Record all courses, and name those that differ from what was recorded before."""
    before = json.loads(PLACE.read_text()) if PLACE.exists() else {}
    found = {course: run(course) for course in sorted(COURSES)}
    for course, record in found.items():
        if before.get(course) != record:
            print(f"{course}: {'new' if course not in before else 'changed'}, {record}")
    lines = [f"{json.dumps(course)}: {json.dumps(record)}" for course, record in found.items()]
    PLACE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
