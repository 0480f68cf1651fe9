"""Pools of torch and SpikingJelly as those of the engine."""

from __future__ import annotations

from typing import Any

from synaprune.engine.draft import Draft, require, whole
from synaprune.engine.layers import AvgPool, MaxPool
from synaprune.errors import UsageError

__all__ = ["adaptive_pool", "pool"]


def pool(name: str, module: Any, layers: Draft) -> None:
    """Add a pool whose windows lie within its input or the zeros around it."""
    largest = "MaxPool" in type(module).__name__
    if largest:
        require(name, "dilation", module.dilation, 1, (1,), (1, 1))
        require(name, "return_indices", module.return_indices, False)
    else:
        if any(whole(module.padding)):
            require(name, "count_include_pad", module.count_include_pad, True)
        require(name, "divisor_override", getattr(module, "divisor_override", None), None)
    dims = int(type(module).__name__[-2])
    kernel, stride, padding = (whole(n, dims) for n in (module.kernel_size, module.stride, module.padding))
    found: MaxPool | AvgPool = MaxPool(name, kernel=kernel, stride=stride, padding=padding, ceil=module.ceil_mode)
    size = layers.shape[1:]
    hanging = module.ceil_mode and len(size) == dims and any(o > p for o, p in zip(found.overhang(size), padding))
    if hanging and not largest:
        raise UsageError(
            f"the engine cannot run '{name}' with ceil_mode=True, which here makes windows that hang over the edge "
            f"of {size} and average fewer places; choose sizes that fit"
        )
    if not hanging:
        found = (MaxPool if largest else AvgPool)(name, kernel=kernel, stride=stride, padding=padding)
    layers.append(found)


def adaptive_pool(name: str, module: Any, layers: Draft) -> None:
    """Add the pool with windows of one size that it is where its output's size divides that of its input."""
    largest, dims = "MaxPool" in type(module).__name__, int(type(module).__name__[-2])
    if largest:
        require(name, "return_indices", module.return_indices, False)
    size = layers.shape[1:]
    asked = module.output_size
    wanted = tuple(asked) if isinstance(asked, tuple | list) else (asked,) * dims
    wanted = tuple(n if n is not None else own for n, own in zip(wanted, size))
    if len(size) != dims or any(own % n for own, n in zip(size, wanted)):
        raise UsageError(
            f"the engine cannot run '{name}': windows of one size do not make {wanted} of {size}; choose a size that "
            "divides"
        )
    window = tuple(own // n for own, n in zip(size, wanted))
    kind = MaxPool if largest else AvgPool
    layers.append(kind(name, kernel=window, stride=window, padding=(0,) * dims))
