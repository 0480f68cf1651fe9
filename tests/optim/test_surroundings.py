"""Whatever torch's defaults are, and wherever its optimizer is called: the same network."""

import contextlib
import functools

import pytest
import torch
from common import BASES, STEPS, make, model, variants
from torch import nn


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


SURROUNDINGS = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float16": lambda: default_dtype(torch.float16),
    "default device": lambda: default_device("meta"),
    "device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "gradients": torch.enable_grad,
}
surroundings = pytest.mark.parametrize("name", SURROUNDINGS)
PARTS = ("make", "read", "load", "step", "settle", "group")


def trained(variant, around=contextlib.nullcontext, parts=PARTS, dtype=torch.float32, **options):
    """Train a little; return all tensors and what was read. These parts are done within `around`."""

    def within(part):
        return around() if part in parts else contextlib.nullcontext()

    net = model(dtype)
    net.extend([nn.Linear(5, 3, bias=False).to(dtype), nn.Linear(3, 4).to(dtype)])
    with torch.no_grad():
        net[0].weight[0] = 0.0  # some are absent from the start
        net[5].weight.zero_()
    seen, late = [], net[6]
    with within("make"):
        optimizer = make(variant, net[:6], **options)
    generator = torch.Generator().manual_seed(0)
    for step in range(STEPS + 1):
        if step == 2:
            with within("group"):
                optimizer.add_param_group({"params": [("late", late.weight)]})
        if step == 5:
            with within("load"):
                optimizer.load_state_dict(optimizer.state_dict())
        with within("read"):
            for _, weight in optimizer._rewired():
                seen += [optimizer.mask(weight), optimizer.theta(weight)]
            seen += [optimizer.connectivity(), optimizer.turnover(), optimizer.state_dict()["param_groups"]]
            for group in optimizer._rewiring_groups():
                if optimizer.rule.has_budget(group):
                    seen.append(optimizer.plan(group).total)
        for p in net.parameters():
            p.grad = torch.randn(p.shape, generator=generator).to(dtype)
        with within("step"):
            optimizer.step()
        with within("settle"):
            optimizer.settle()
    states = [value for state in optimizer.state.values() for value in tensors(state)]
    assert not any(value.is_inference() or value.requires_grad or value.is_meta for value in states)
    return [*net.parameters(), *states], seen


def tensors(state):
    for value in state.values():
        if isinstance(value, dict):
            yield from tensors(value)
        elif isinstance(value, torch.Tensor):
            yield value


@functools.cache
def plainly(variant, dtype=torch.float32, base=None):
    return trained(variant, dtype=dtype, **({} if base is None else without_fused(base)))


def without_fused(name):
    """Return the options of a base that makes numbers of its own where torch's defaults say."""
    base = BASES[name]
    return {"base": base, **({"fused": False} if "fused" in base([torch.zeros(1)]).defaults else {})}


def same(a, b):
    """Compare values only: torch's own bases count steps in float64 where that is the default."""
    return len(a) == len(b) and all(
        torch.equal(x.double(), y.double()) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b)
    )


@variants
@pytest.mark.parametrize("name", SURROUNDINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_surroundings_change_nothing(variant, name, dtype):
    plain, around = plainly(variant, dtype), trained(variant, SURROUNDINGS[name], dtype=dtype)
    assert all(map(same, plain, around))
    assert [p.dtype for p in plain[0][:8]] == [p.dtype for p in around[0][:8]]


@variants
@pytest.mark.parametrize("name", ["float64", "default device", "inference mode"])
@pytest.mark.parametrize("part", PARTS)
def test_surroundings_of_one_call_change_nothing(variant, name, part):
    assert all(map(same, plainly(variant), trained(variant, SURROUNDINGS[name], (part,))))


ROUND_BASES = [
    (base, name)
    for base in BASES
    for name in ("float64", "default device", "device", "inference mode")
    if (base, name) != ("NAdam", "float64")  # it keeps a product in torch's default type, without us as well
]


@pytest.mark.parametrize(("base", "name"), ROUND_BASES)
@pytest.mark.parametrize("variant", ["grad_r", "rigl", "str by decay"])
def test_surroundings_of_the_base_change_nothing(variant, base, name):
    around = trained(variant, SURROUNDINGS[name], **without_fused(base))
    assert all(map(same, plainly(variant, base=base), around))
