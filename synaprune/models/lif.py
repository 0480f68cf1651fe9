"""The papers' spiking neuron, with one fast pass over all time steps.

A leaky integrate-and-fire neuron with hard reset to 0 and decayed input, one time step:

    h[t] = v[t-1] + (x[t] - v[t-1]) / tau          charge
    s[t] = 1 if h[t] >= v_threshold else 0         fire
    v[t] = h[t] (1 - s[t])                         reset

and its gradient, with the reset detached and the surrogate `ATan(alpha)` for the derivative of the spike:

    b[t] = 1 + (π alpha (h[t] - v_threshold) / 2)²
    ∂L/∂h[t] = ∂L/∂v[t] (1 - s[t]) + ∂L/∂s[t] (alpha / 2) / b[t]
    ∂L/∂x[t] = ∂L/∂h[t] / tau
    ∂L/∂v[t-1] = ∂L/∂h[t] (1 - 1 / tau)

Each pass is written twice: in place for eager torch, and as plain expressions for `torch.compile`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["LIF"]


class LIF(neuron.LIFNode):
    """SpikingJelly's `LIFNode`, in multi-step mode several times faster where it is plain.

    Plain means: `v_reset=0.0`, `detach_reset=True`, `decay_input=True`, `store_v_seq=False` and the surrogate
    `ATan`. Spikes are then equal bit for bit, gradients to rounding. Every other node runs SpikingJelly's own
    loop. For bfloat16 and float16 inputs the plain node keeps its potential in float32, where SpikingJelly
    rounds it to the input's type; spikes always have the input's type.

    Args:
        args, kwargs: those of `LIFNode`.
        fast: False always takes SpikingJelly's loop.
    """

    v: Any  # the potential after the last time step, one of SpikingJelly's memories

    def __init__(self, *args: Any, fast: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fast = fast

    def multi_step_forward(self, x: Tensor, steps: int | None = None) -> Tensor:
        """Return the spikes `[T, N, ...]` for input currents `[T, N, ...]`.

        With `steps`, `x` is one current `[N, ...]` that is injected at each of `steps` time steps; no copies
        are made and its gradient is summed over time inside.
        """
        if not self._is_plain():
            return super().multi_step_forward(x if steps is None else x.expand(steps, *x.shape))
        first = x[:1] if steps is None else x[None]
        if x.dtype in (torch.bfloat16, torch.float16):
            first = torch.empty_like(first, dtype=torch.float32)
        (v,) = self.materialize_states((first,), (self.v,), "m")
        alpha = self.surrogate_function.alpha
        spikes, self.v = _AllSteps.apply(x, v, steps, self.tau, self.v_threshold, alpha)
        return spikes

    def _is_plain(self) -> bool:
        f = self.surrogate_function
        return (
            self.fast
            and self.v_reset == 0.0
            and self.detach_reset
            and self.decay_input
            and not self.store_v_seq
            and isinstance(self.v_threshold, float)
            and type(f) is surrogate.ATan
            and f.spiking
            and isinstance(f.alpha, int | float)
            and self._neuron_precision is None
        )


class _AllSteps(torch.autograd.Function):
    """Map the currents and the potential before the first step to the spikes and the potential after the last."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, v: Tensor, steps: int | None, tau: float, threshold: float, alpha: float
    ) -> tuple[Tensor, Tensor]:
        if torch.compiler.is_compiling():
            # The compiler computes anew in backward what is cheap: it saves currents instead of all that follows.
            ctx.save_for_backward(x, v)
            ctx.settings = (steps, tau, threshold, alpha)
            return _forward_traced(x, v, *ctx.settings)[:2]
        xs = x.unbind() if steps is None else (x,) * steps
        spikes, v, bends = _forward_in_place(xs, v, tau, threshold, alpha, any(ctx.needs_input_grad))
        ctx.save_for_backward(spikes, bends)
        ctx.settings = (tau, alpha, steps is not None)
        return spikes, v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        traced = len(ctx.settings) == 4  # as forward has saved it
        run: Callable[..., tuple[Tensor, Tensor]] = _backward_traced if traced else _backward_in_place
        return *run(*grads, *ctx.saved_tensors, *ctx.settings), None, None, None, None


def _forward_in_place(
    xs: Sequence[Tensor], v: Tensor, tau: float, threshold: float, alpha: float, grad: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    same = xs[0].dtype == v.dtype
    spikes, bends = _buffers(xs[0], v, len(xs), grad)
    v, h, wide, one = v.clone(), torch.empty_like(v), torch.empty_like(v), v.new_ones(())
    for t, x in enumerate(xs):
        spike = spikes[t] if same else wide
        torch.sub(x if same else wide.copy_(x), v, out=h).div_(tau).add_(v)
        torch.ge(h, threshold, out=spike)
        if bends is not None:
            torch.sub(h, threshold, out=v)
            torch.addcmul(one, v, v, value=(math.pi * alpha / 2) ** 2, out=bends[t])
        torch.addcmul(h, h, spike, value=-1.0, out=v)
        if not same:
            spikes[t].copy_(spike)
    return spikes, v, bends


def _backward_in_place(
    grad_spikes: Tensor,
    grad_v: Tensor,
    spikes: Tensor,
    bends: Tensor,
    tau: float,
    alpha: float,
    constant: bool,
) -> tuple[Tensor, Tensor]:
    same = spikes.dtype == bends.dtype
    grad, wide = torch.empty_like(bends[0]).copy_(grad_v), torch.empty_like(bends[0])
    grad_x = torch.zeros_like(grad) if constant else torch.empty_like(spikes)
    for t in reversed(range(len(spikes))):
        grad.addcmul_(grad, spikes[t] if same else wide.copy_(spikes[t]), value=-1.0)
        grad.addcdiv_(grad_spikes[t] if same else wide.copy_(grad_spikes[t]), bends[t], value=alpha / 2)
        if constant:
            grad_x.add_(grad, alpha=1 / tau)
        elif same:
            torch.mul(grad, 1 / tau, out=grad_x[t])
        else:  # written in another type by `out`, it would take several times as long
            grad_x[t].copy_(torch.mul(grad, 1 / tau, out=wide))
        grad.mul_(1 - 1 / tau)
    return grad_x.to(spikes.dtype), grad


def _buffers(x: Tensor, v: Tensor, steps: int, grad: bool) -> tuple[Tensor, Tensor | None]:
    """Return room for all steps' spikes, which have the type of the currents, and bends, which have the potential's."""
    if x.dtype != v.dtype:
        return _like(x, steps), _like(v, steps) if grad else None
    # One block for both. As two, malloc returns them to the system after each training step, and fetching them
    # anew page by page costs a quarter of the step (MNIST net, batch 128).
    spikes, *bends = _like(v, 1 + grad, steps)
    return spikes, bends[0] if grad else None


def _like(x: Tensor, *count: int) -> Tensor:
    """Return an empty `[*count, *x.shape]` of many tensors in the layout of `x`: maps may lie channels last."""
    layout = torch.empty_like(x, device="meta")
    strides = [math.prod(count[i + 1 :]) * x.numel() for i in range(len(count))]
    return x.new_empty(math.prod(count) * x.numel()).as_strided((*count, *x.shape), (*strides, *layout.stride()))


def _forward_traced(
    x: Tensor, v: Tensor, steps: int | None, tau: float, threshold: float, alpha: float
) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    spikes, bends = [], []
    for current in x.unbind() if steps is None else (x,) * steps:
        h = _pin(v + (current.to(v.dtype) - v) / tau)
        spikes.append((h >= threshold).to(h.dtype))
        bends.append(1 + (math.pi * alpha / 2 * (h - threshold)).square())
        v = h * (1 - spikes[-1])
    return torch.stack(spikes).to(x.dtype), v, spikes, bends


def _backward_traced(
    grad_spikes: Tensor,
    grad_v: Tensor,
    x: Tensor,
    v: Tensor,
    steps: int | None,
    tau: float,
    threshold: float,
    alpha: float,
) -> tuple[Tensor, Tensor]:
    *_, spikes, bends = _forward_traced(x, v, steps, tau, threshold, alpha)
    grad, grads = grad_v, []
    for t in reversed(range(len(spikes))):
        grad = _pin(grad * (1 - spikes[t]) + grad_spikes[t].to(grad.dtype) * (alpha / 2) / bends[t])
        grads.append(grad / tau)
        grad = grad * (1 - 1 / tau)
    return (functools.reduce(torch.add, grads) if steps else torch.stack(grads[::-1])).to(x.dtype), grad


def _pin(x: Tensor) -> Tensor:
    """Return `x`, as a value that the compiler keeps.

    Without it Inductor writes each step's expression out of the first step's, twice for each use, and the
    time to compile grows exponentially with T: 150 s instead of 8 s at T=8.
    """
    return x.as_strided(x.shape, x.stride())
