"""A small network, a short training, the bases, and every method: shared by the tests of optim/."""

import io

import pytest
import torch
from torch import nn

from synaprune.budget import cosine, cubic, sine
from synaprune.optim import LATS, METHODS, SET, STDS, STR, DeepR, GradR, SoftDeepR

BASES = {
    base.__name__: base
    for base in (
        torch.optim.Adadelta,
        torch.optim.Adafactor,
        torch.optim.Adagrad,
        torch.optim.Adam,
        torch.optim.Adamax,
        torch.optim.AdamW,
        torch.optim.ASGD,
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.RMSprop,
        torch.optim.Rprop,
        torch.optim.SGD,
    )
}

STEPS = 12
BUDGET = {"sparsity": 0.8, "schedule": cubic(STEPS), "period": 3}
EXCHANGE = {"sparsity": 0.8, "schedule": cosine(STEPS), "period": 3}
# Every method as it is asked for a budget, and in the other forms that take other ways through the code.
VARIANTS = {
    "deep_r": (DeepR, {"sparsity": 0.8, "alpha": 0.5, "temperature": 1e-4}),
    "deep_r over layers": (DeepR, {"sparsity": 0.8, "allocation": "global", "alpha": 0.5, "temperature": 1e-4}),
    "dense": (METHODS["dense"], {}),
    "grad_r": (GradR, BUDGET),
    "grad_r by alpha": (GradR, {"alpha": 0.3}),
    "grad_r with a centre": (GradR, {"alpha": 3.0, "sparsity": 0.52}),
    "granet": (METHODS["granet"], BUDGET),
    "lats": (LATS, BUDGET),
    "lats by alpha": (LATS, {"alpha": 0.5}),
    "magnitude": (METHODS["magnitude"], BUDGET),
    "magnitude_ste": (METHODS["magnitude_ste"], BUDGET),
    "rigl": (METHODS["rigl"], EXCHANGE),
    "set": (SET, EXCHANGE),
    "set by momentum": (SET, {**EXCHANGE, "growth": "momentum"}),
    "soft_deep_r": (SoftDeepR, {"sparsity": 0.8}),
    "soft_deep_r uniform": (SoftDeepR, {"sparsity": 0.8, "noise": "uniform"}),
    "static": (METHODS["static"], {"sparsity": 0.8}),
    "stds": (STDS, BUDGET),
    "stds by threshold": (STDS, {"threshold": 0.1, "schedule": sine(STEPS)}),
    "str": (STR, BUDGET),
    "str by decay": (STR, {"threshold_decay": 5.0}),
}
assert {method for method, _ in VARIANTS.values()} == set(METHODS.values())
variants = pytest.mark.parametrize("variant", VARIANTS)


def make(variant, params, lr=1e-2, **options):
    """Return an optimizer of this variant; `options` come before its own."""
    method, own = VARIANTS[variant]
    return method(params, lr, **{**own, **options})


def model(dtype=torch.float32):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 5))
    return net.to(dtype)


def train(net, optimizer, steps, seed=0, scheduler=None):
    generator = torch.Generator().manual_seed(seed)
    dtype = next(net.parameters()).dtype
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(4, 2, 6, 6, generator=generator).to(dtype)).square().mean().backward()
        optimizer.step()
        if scheduler:
            scheduler.step()


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values()))


def idle(**options):
    """Return, for every method, the options with which it neither prunes nor adds noise."""
    none = {"sparsity": 0.0, "schedule": cubic(steps=1000), "period": 2}
    still = {"sparsity": 0.0, "alpha": 0.0, "temperature": 0.0}
    own = {
        "deep_r": still,
        "dense": {},
        "grad_r": {"alpha": 0.0},
        "granet": {**none, "initial": 1.0},
        "soft_deep_r": {**still, "alpha": 1e-30, "temperature": 1e-30},
        "static": {"sparsity": 0.0},
    }
    return {name: {**own.get(name, none), **options} for name in METHODS}


def state_of(optimizer, weight):
    """Return the state of a tensor, also before the first step, until when it waits apart."""
    optimizer.state_dict()
    return optimizer.state[weight]


def through_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)
