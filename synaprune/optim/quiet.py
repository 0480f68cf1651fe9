"""A step of an optimizer inside another one's."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

__all__ = ["quiet_step"]


def quiet_step(optimizer: Optimizer, *arguments: Any) -> None:
    """Let an optimizer step, with its own hooks but without those registered for all optimizers.

    These fire for the optimizer that the user has made and steps, once.
    """
    step = type(optimizer).step
    if "step" in vars(optimizer) or not getattr(step, "hooked", False):
        optimizer.step(*arguments)
        return
    for before in optimizer._optimizer_step_pre_hooks.values():
        before(optimizer, arguments, {})
    step.__wrapped__(optimizer, *arguments)  # type: ignore[attr-defined]  # below what torch puts around every class's step
    for after in optimizer._optimizer_step_post_hooks.values():
        after(optimizer, arguments, {})
