"""A compiled step, and a compiled function with a step in it, do what they do in eager torch."""

import pytest
import torch
from common import STEPS, make, model, variants


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def trained(variant, step, steps=STEPS, **options):
    net = model()
    optimizer = make(variant, net, **options)
    step = step(net, optimizer)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        for p in net.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        step()
    optimizer.settle()
    return [*net.parameters(), *(optimizer.theta(w) for _, w in optimizer._rewired())]


def plain(net, optimizer):
    return optimizer.step


def compiled(net, optimizer):
    return torch.compile(optimizer.step)


def function(net, optimizer):
    """The step is a part of what is compiled."""

    @torch.compile(backend="eager")
    def train():
        total = sum(p.grad.sum() for p in net.parameters())
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        return total + sum(p.sum() for p in net.parameters())

    return train


def closure(net, optimizer):
    return lambda: torch.compile(optimizer.step, backend="eager")(lambda: net[4].weight.sum())


@variants
@pytest.mark.parametrize("step", [compiled, function])
def test_compiled_steps_change_nothing(variant, step):
    assert all(map(torch.equal, trained(variant, step), trained(variant, plain)))


@pytest.mark.parametrize("variant", ["dense", "grad_r", "str by decay"])
def test_compiled_steps_with_a_closure_change_nothing(variant):
    assert all(map(torch.equal, trained(variant, closure), trained(variant, plain)))


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "option"), [("grad_r", "compile_projection"), ("soft_deep_r", "compile_motion")])
def test_kernels_that_methods_compile_themselves_are_compiled_within(variant, option):
    ours = {option: True}
    tensors = [trained(variant, step, **ours) for step in (plain, compiled)]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert all(map(torch.equal, *tensors))
