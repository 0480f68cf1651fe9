"""The links of a network's chain as plain data: numbers, lists of synapses, and which shapes they take.

A network may come from a file that someone else wrote, so that every size and number is checked when it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar

import numpy as np

from synaprune.errors import UsageError

__all__ = [
    "LAYERS",
    "AvgPool",
    "Conv",
    "Flatten",
    "Layer",
    "Linear",
    "MaxPool",
    "Neuron",
    "Pool",
    "Shape",
    "Vote",
    "Weight",
    "check_sizes",
]

MAX_POSITIONS = 2**31 - 1  # of one weight tensor: places where a synapse may be
MAX_WINDOW = 2**16  # places that a kernel or a pool sees at once

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Weight:
    """The synapses of one layer: where in a tensor of `shape` they are, and how strong.

    Args:
        shape: of the dense tensor, as torch lays it out.
        positions: int32 `[n]`, flat indices into that tensor, strictly ascending.
        values: float32 `[n]`.

    Raises:
        UsageError: for positions that are not ascending or outside the shape, values that are not finite.

    >>> Weight.from_dense(np.array([[0, 2.5], [0, -1]])).positions
    array([1, 3], dtype=int32)
    """

    shape: Shape
    positions: np.ndarray = field(repr=False)
    values: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        check_sizes("the shape of the weights", self.shape)
        size, positions, values = prod(self.shape), np.asarray(self.positions), np.asarray(self.values)
        if size > MAX_POSITIONS:
            raise UsageError(f"weights of shape {self.shape} are too many: at most {MAX_POSITIONS:,} are possible")
        if positions.ndim != 1 or positions.shape != values.shape:
            raise UsageError(f"{positions.size} positions do not fit {values.size} values of weights")
        if positions.dtype.kind not in "iu" or values.dtype.kind != "f":
            raise UsageError("positions of weights must be whole numbers, and their values floats")
        inside = not len(positions) or (positions[0] >= 0 and positions[-1] < size)
        if not inside or not (positions[1:] > positions[:-1]).all():
            raise UsageError(f"the positions of the weights do not ascend within the shape {self.shape}")
        with np.errstate(over="ignore"):
            values = values.astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise UsageError("a weight is not finite; a network that holds NaN or infinity cannot be run")
        _set(self, shape=tuple(map(int, self.shape)), positions=_frozen(positions, np.int32))
        _set(self, values=_frozen(values, np.float32))

    @classmethod
    def from_dense(cls, weight: np.ndarray) -> Weight:
        """List the non-zero weights of a dense array."""
        positions = np.flatnonzero(weight)
        return cls(weight.shape, positions, np.asarray(weight, np.float32).reshape(-1)[positions])

    def dense(self) -> np.ndarray:
        """Return the float32 array with its zeros."""
        dense = np.zeros(prod(self.shape), np.float32)
        dense[self.positions] = self.values
        return dense.reshape(self.shape)

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, eq=False)
class Layer:
    """One link of the chain; `name` is what the layer was called where it comes from."""

    kind: ClassVar[str]
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise UsageError(f"the name of a layer must be a text, not {self.name!r}")

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'" if self.name else self.kind

    def output(self, shape: Shape) -> Shape:
        """Return the shape of what comes out, without batch and time, for the shape of what goes in.

        Raises:
            UsageError: the layer cannot take that shape.

        """
        return shape


@dataclass(frozen=True, eq=False)
class Linear(Layer):
    """Fully connected: weights `[out, in]`, bias float32 `[out]` or None."""

    kind = "linear"
    weight: Weight = field(kw_only=True)
    bias: np.ndarray | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.weight.shape) != 2:
            raise UsageError(f"{self} needs weights [out, in], not of shape {self.weight.shape}")
        _check_bias(self, self.bias)

    def output(self, shape: Shape) -> Shape:
        """Return `(out,)`."""
        if shape != self.weight.shape[1:]:
            raise UsageError(f"{self} takes {self.weight.shape[1]} inputs, not the shape {shape}")
        return self.weight.shape[:1]


@dataclass(frozen=True, eq=False)
class Conv(Layer):
    """Convolution with zero padding: weights `[out, in / groups, *kernel]` of one or two dimensions.

    `bias` is float32 `[out]` or None; stride, padding and dilation have one number per dimension.
    """

    kind = "conv"
    weight: Weight = field(kw_only=True)
    bias: np.ndarray | None = field(default=None, kw_only=True, repr=False)
    stride: Shape = field(default=(1, 1), kw_only=True)
    padding: Shape = field(default=(0, 0), kw_only=True)
    dilation: Shape = field(default=(1, 1), kw_only=True)
    groups: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.weight.shape) not in (3, 4):
            raise UsageError(f"{self} needs weights [out, in, *kernel], not of shape {self.weight.shape}")
        dims = len(self.kernel)
        check_sizes(f"the stride of {self}", self.stride, dims=dims)
        check_sizes(f"the padding of {self}", self.padding, least=0, dims=dims)
        check_sizes(f"the dilation of {self}", self.dilation, dims=dims)
        check_sizes(f"the number of groups of {self}", (self.groups,))
        if self.weight.shape[0] % self.groups:
            raise UsageError(f"{self} cannot split {self.weight.shape[0]} outputs into {self.groups} groups")
        _check_bias(self, self.bias)

    @property
    def kernel(self) -> Shape:
        """Height and width of the kernel, or its length."""
        return self.weight.shape[2:]

    def output(self, shape: Shape) -> Shape:
        """Return `(out, *size)`."""
        channels = self.weight.shape[1] * self.groups
        if len(shape) != 1 + len(self.kernel) or shape[0] != channels:
            size = ", ".join(["height, width", "length"][: 3 - len(self.kernel)][-1:])
            raise UsageError(f"{self} takes ({channels}, {size}), not the shape {shape}")
        reach = tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel))
        return self.weight.shape[0], *_slide(self, shape[1:], self.kernel, reach, self.stride, self.padding)


@dataclass(frozen=True, eq=False)
class Neuron(Layer):
    """Integrate-and-fire neurons, at rest before the first time step.

    One step with current x:

        leaky, decayed input       h = v + (x − (v − r)) / tau    r: the reset potential, 0 if None
        leaky, undecayed input     h = v − (v − r) / tau + x
        not leaky (tau None)       h = v + x

    `rate` stands in for 1 / tau where other frameworks multiply by it; `keep` makes it h = keep · v + x. Both are there
    because floats round differently then. One of tau, rate and keep may be given.

    It fires where h ≥ threshold; v is then the reset potential (hard) or, with `reset` None, h − drop (soft), where
    `drop` is the threshold if it is None. With `late`, the drop is taken in the next time step, from the h of that one.
    """

    kind = "neuron"
    tau: float | None = field(default=2.0, kw_only=True)
    threshold: float = field(default=1.0, kw_only=True)
    reset: float | None = field(default=0.0, kw_only=True)
    decay_input: bool = field(default=True, kw_only=True)
    drop: float | None = field(default=None, kw_only=True)
    rate: float | None = field(default=None, kw_only=True)
    keep: float | None = field(default=None, kw_only=True)
    late: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for what in ("tau", "threshold", "reset", "drop", "rate", "keep"):
            number = getattr(self, what)
            if number is None and what != "threshold":
                continue
            if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < 3e38:
                raise UsageError(f"{what} of {self} must be a finite number, not {number!r}")
        if self.tau is not None and self.tau < 1:
            raise UsageError(f"tau of {self} must be at least 1, not {self.tau}")
        for what in ("rate", "keep"):
            if (number := getattr(self, what)) is not None and not 0 <= number <= 1:
                raise UsageError(f"{what} of {self} must be from 0 to 1, not {number}")
        for what in ("decay_input", "late"):
            if not isinstance(getattr(self, what), bool):
                raise UsageError(f"{what} of {self} must be true or false, not {getattr(self, what)!r}")
        if sum(number is not None for number in (self.tau, self.rate, self.keep)) > 1:
            raise UsageError(f"{self} leaks in more than one way; give one of tau, rate and keep, and None for tau")
        if (self.drop is not None or self.late) and self.reset is not None:
            what = "drop" if self.drop is not None else "late"
            raise UsageError(f"{self} has {what}, which belongs to a soft reset, and a reset potential; give one")

    @property
    def taken(self) -> float:
        """What a spike takes from v with a soft reset."""
        return self.threshold if self.drop is None else self.drop


@dataclass(frozen=True, eq=False)
class Pool(Layer):
    """A window that slides over maps of spikes, with zero padding; one number per dimension."""

    kernel: Shape = field(default=(2, 2), kw_only=True)
    stride: Shape = field(default=(2, 2), kw_only=True)
    padding: Shape = field(default=(0, 0), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(f"the kernel of {self}", self.kernel)
        if len(self.kernel) not in (1, 2):
            raise UsageError(f"the kernel of {self} must have one or two dimensions, not {len(self.kernel)}")
        check_sizes(f"the stride of {self}", self.stride, dims=len(self.kernel))
        check_sizes(f"the padding of {self}", self.padding, least=0, dims=len(self.kernel))
        if any(2 * p > k for p, k in zip(self.padding, self.kernel)):
            raise UsageError(f"the padding of {self} must be at most half of its kernel")

    def output(self, shape: Shape) -> Shape:
        """Return `(channels, *size)`."""
        if len(shape) != 1 + len(self.kernel):
            raise UsageError(f"{self} takes maps with {len(self.kernel)} dimension(s), not the shape {shape}")
        return shape[0], *_slide(self, shape[1:], self.kernel, self.kernel, self.stride, self.padding)

    def overhang(self, size: Shape) -> Shape:
        """Return by how much the last window reaches beyond maps of a size, in each dimension; mostly 0, or less."""
        count = self.output((1, *size))[1:]
        return tuple(
            (c - 1) * s + k - p - n for c, s, k, p, n in zip(count, self.stride, self.kernel, self.padding, size)
        )


@dataclass(frozen=True, eq=False)
class MaxPool(Pool):
    """The largest value in the window: 1 where any spike is.

    With `ceil`, windows that begin on a map, or on the padding before it, and end beyond it count too.
    """

    kind = "max_pool"
    ceil: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.ceil, bool):
            raise UsageError(f"ceil of {self} must be true or false, not {self.ceil!r}")

    def output(self, shape: Shape) -> Shape:
        """Return `(channels, *size)`."""
        if not self.ceil or len(shape) != 1 + len(self.kernel):
            return super().output(shape)
        sides = list(zip(shape[1:], self.kernel, self.stride, self.padding))
        channels, *counts = super().output((shape[0], *(n + (k - n - 2 * p) % s for n, k, s, p in sides)))
        return channels, *(count - ((count - 1) * s >= n + p) for count, (n, _, s, p) in zip(counts, sides))


class AvgPool(Pool):
    """The spikes in the window over its size, padding included."""

    kind = "avg_pool"


class Flatten(Layer):
    """`[channels, height, width]` to `[channels × height × width]`."""

    kind = "flatten"

    def output(self, shape: Shape) -> Shape:
        """Return the number of values."""
        return (prod(shape),)


@dataclass(frozen=True, eq=False)
class Vote(Layer):
    """The mean over `group` neighbouring output neurons for each class; the last layer."""

    kind = "vote"
    group: int = field(default=10, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(f"the group of {self}", (self.group,))

    def output(self, shape: Shape) -> Shape:
        """Return `(classes,)`."""
        if len(shape) != 1 or shape[0] % self.group:
            raise UsageError(f"{self} takes a multiple of {self.group} neurons, not the shape {shape}")
        return (shape[0] // self.group,)


LAYERS: dict[str, type[Layer]] = {
    layer.kind: layer for layer in (Linear, Conv, Neuron, MaxPool, AvgPool, Flatten, Vote)
}


def _set(instance: object, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def _frozen(array: np.ndarray, dtype: type) -> np.ndarray:
    """Return the array, contiguous and of one type, as a view that cannot be written to."""
    array = np.ascontiguousarray(array, dtype).view()
    array.flags.writeable = False
    return array


def check_sizes(what: str, numbers: Any, least: int = 1, dims: int | None = None) -> None:
    """Raise `UsageError` unless `numbers` are whole ones, at least `least`, and as many as `dims` says."""
    whole = isinstance(numbers, tuple | list) and all(type(n) is int for n in numbers)
    if not whole or not numbers or not all(least <= n < 2**31 for n in numbers):
        shown = numbers[0] if isinstance(numbers, Sequence) and len(numbers) == 1 else numbers
        raise UsageError(f"{what} must be whole and at least {least}, not {shown!r}")
    if dims is not None and len(numbers) != dims:
        raise UsageError(f"{what} must have {dims} number(s), not {tuple(numbers)}")


def _check_bias(layer: Any, bias: np.ndarray | None) -> None:
    if bias is None:
        return
    with np.errstate(over="ignore"):
        bias = np.asarray(bias).astype(np.float32)
    if bias.shape != layer.weight.shape[:1] or not np.isfinite(bias).all():
        raise UsageError(f"the bias of {layer} must be {layer.weight.shape[0]} finite numbers")
    _set(layer, bias=_frozen(bias, np.float32))


def _slide(layer: Layer, size: Shape, kernel: Shape, reach: Shape, stride: Shape, padding: Shape) -> Shape:
    """Return how often a window fits, in each dimension."""
    if prod(kernel) > MAX_WINDOW:
        raise UsageError(f"the kernel {kernel} of {layer} is too large: at most {MAX_WINDOW:,} places are possible")
    if any(p >= 1024 for p in padding) or any(n + 2 * p < r for n, r, p in zip(size, reach, padding)):
        raise UsageError(f"{layer} is larger than its input of {size}")
    return tuple((n + 2 * p - r) // s + 1 for n, r, s, p in zip(size, reach, stride, padding))
