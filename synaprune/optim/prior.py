"""Where the Laplace prior of Grad R has its centre."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from numbers import Real

from synaprune.errors import UsageError
from synaprune.optim.groups import Group

__all__ = ["centre", "target", "warn_if_inert"]


def centre(alpha: float, sparsity: float) -> float:
    """Return the prior's centre μ = ln(2(1−p))/α, at which P(θ ≤ 0) = p (Grad R, section 3); −∞ for α = 0.

    >>> round(centre(0.1, 0.95), 4)
    -23.0259

    Raises:
        UsageError: α is negative or no number, or p lies outside [0.5, 1).
    """
    if not _is_number(alpha) or not _is_number(sparsity):
        raise UsageError(f"alpha={alpha!r} and sparsity={sparsity!r} must be numbers in a rewired group")
    alpha, sparsity = float(alpha), float(sparsity)
    if not 0.0 <= alpha < math.inf:
        raise UsageError(f"alpha={alpha!r} is not a finite number of at least 0; the published default is 1e-3")
    if not 0.5 <= sparsity < 1.0:
        raise UsageError(
            f"sparsity={sparsity!r} lies outside [0.5, 1), where the prior's centre exists; the default is 0.95"
        )
    return math.log(2.0 * (1.0 - sparsity)) / alpha if alpha > 0 else -math.inf


def _is_number(value: object) -> bool:
    """Whether this is a number, be it a tensor's only one."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real or getattr(value, "shape", None) == ()


def target(group: Group) -> float:
    """Return the prior's p, whose default is the released scripts' 0.95."""
    return 0.95 if group["sparsity"] is None else group["sparsity"]


def warn_if_inert(groups: Iterable[Group]) -> None:
    """Warn once where the centre lies so far away that the target sparsity does not act."""
    for group in groups:
        mu = centre(group["alpha"], target(group))
        per_step = float(group["lr"]) * group["alpha"]
        if math.isfinite(mu) and per_step and -mu / per_step > 1e6:
            warnings.warn(
                f"sparsity={target(group)} will hardly act: the prior's centre μ = {mu:.4g} lies "
                f"{-mu / per_step:.1e} steps of drift away; alpha and the number of steps set the connectivity, or "
                "leave out alpha and give a schedule to meet the sparsity exactly",
                stacklevel=4,
            )
            return
