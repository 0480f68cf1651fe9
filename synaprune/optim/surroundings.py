"""The same work whatever surrounds a call: gradients, inference mode, a default device, a tracing compiler."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, ParamSpec, TypeVar

import torch

__all__ = ["CPU", "cpu_by_default", "shield", "shielded"]

CPU = torch.device("cpu")
P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def shield() -> Iterator[None]:
    """Record no gradients, leave inference mode, and let what says no device be made on the CPU.

    Nobody may change in place, later, what was made in inference mode. A default device would draw there what is put
    to use elsewhere, and carry off gradients that are only converted.
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(cpu_by_default())
        stack.enter_context(torch.no_grad())
        yield


def cpu_by_default() -> AbstractContextManager[Any]:
    """Return a context in which what says no device is made on the CPU."""
    return nullcontext() if torch.get_default_device() == CPU else CPU


def shielded(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function always run within `shield`, and in eager torch where its caller is compiled."""

    @torch._disable_dynamo  # the public twin would import the compiler together with this package
    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with shield():
            return function(*args, **kwargs)

    return call
