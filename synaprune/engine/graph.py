"""A trained spiking network as plain data: a chain of layers that hold nothing but numbers.

It is what sparse files store and what the engine compiles; it needs NumPy alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from math import prod
from typing import Any

import numpy as np

from synaprune.engine.layers import (
    LAYERS,
    AvgPool,
    Conv,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    Neuron,
    Pool,
    Shape,
    Vote,
    Weight,
    check_sizes,
)
from synaprune.errors import UsageError

__all__ = ["LATER", "Network"]

MAX_NEURONS = 2**23  # of one layer
MAX_EVENTS = 2**27  # neurons of one layer × time steps
MAX_LAYERS = 1000
MAX_COUNT = 2**24  # to which 32-bit floats, and so averages, are exact
LATER = ("drop", "rate", "keep", "late", "ceil")  # fields that format 1 of sparse files does not know
CODINGS = ("static", "spikes")
READOUTS = ("rate", "count")


@dataclass(frozen=True, eq=False)
class Network:
    """A chain of layers, shown one input for `T` time steps.

    Synapses (`Linear`, `Conv`) lead to a `Neuron`, with nothing between. Behind the last of these there may be pools,
    and a `Vote`, or one `Linear` or `Conv` without neurons, whose currents are read out.

    Args:
        layers: in the order in which they act.
        input_shape: of one sample, without batch and time.
        T: time steps of one presentation.
        coding: "static" shows `x` `[N, *input_shape]` at each step, so that the first current is computed once;
            "spikes" takes trains `x` `[T, N, *input_shape]` of 0 and 1.
        readout: "rate" is the spikes of each output per time step, "count" the spikes themselves; of a last `Linear`
            without neurons, the mean and the sum of its currents over all time steps.

    Raises:
        UsageError: a number out of its range, or layers that do not fit one another.

    """

    layers: tuple[Layer, ...]
    input_shape: Shape
    T: int
    coding: str = "static"
    readout: str = "rate"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "input_shape", tuple(self.input_shape))
        check_sizes("T", (self.T,))
        check_sizes("the input shape", self.input_shape)
        if len(self.input_shape) > 3:
            raise UsageError(f"the input shape {self.input_shape} has more than three dimensions")
        for what, value, known in (("coding", self.coding, CODINGS), ("readout", self.readout, READOUTS)):
            if value not in known:
                raise UsageError(f"{what} must be {' or '.join(map(repr, known))}, not {value!r}")
        if not 0 < len(self.layers) <= MAX_LAYERS:
            raise UsageError(f"a network must have 1 to {MAX_LAYERS:,} layers, not {len(self.layers)}")
        self._check_order()
        self._check_averages()
        for shape in (self.input_shape, *self.shapes()):
            if prod(shape) > MAX_NEURONS or prod(shape) * self.T > MAX_EVENTS:
                raise UsageError(f"a layer of shape {shape} with T={self.T} is too large to be run")

    def _check_order(self) -> None:
        neurons = [index for index, layer in enumerate(self.layers) if isinstance(layer, Neuron)]
        first, last = (neurons[0], neurons[-1]) if neurons else (len(self.layers), len(self.layers))
        for index, layer in enumerate(self.layers):
            before, after = self.layers[:index], self.layers[index + 1 :]
            if type(layer) not in LAYERS.values():
                raise UsageError(f"{type(layer).__name__} is no layer that a network can hold")
            follows = after[0] if after else "the end"
            reads_out = index > last and not any(isinstance(x, Linear | Conv | MaxPool | Vote) for x in after)
            if isinstance(layer, Linear | Conv) and not isinstance(follows, Neuron) and not reads_out:
                raise UsageError(f"{layer} must be followed by neurons, not by {follows}")
            if isinstance(layer, Neuron) and not (before and isinstance(before[-1], Linear | Conv)):
                raise UsageError(f"{layer} must follow a linear layer or a convolution")
            if isinstance(layer, Pool) and self.coding == "static" and index < first:
                raise UsageError(f"{layer} comes before the first neurons; pooling takes spikes, not analog input")
            if isinstance(layer, MaxPool) and before and isinstance(before[-1], AvgPool):
                raise UsageError(f"{layer} takes spikes, not the averages of {before[-1]}")
            if isinstance(layer, Vote):
                self._check_vote(layer, before, after)
        if not neurons:
            raise UsageError("a network must have neurons")

    def _check_vote(self, vote: Vote, before: tuple[Layer, ...], after: tuple[Layer, ...]) -> None:
        if after:
            raise UsageError(f"{vote} must be the last layer, but {after[0]} follows")
        voters = [layer for layer in before if not isinstance(layer, Flatten)][-1:]
        if not voters or not isinstance(voters[0], Neuron | MaxPool):
            raise UsageError(f"{vote} must follow neurons, whose spikes it counts")

    def _check_averages(self) -> None:
        top = 1  # spikes that a value may be the average of
        for layer in self.layers:
            top = 1 if isinstance(layer, Neuron) else top * prod(layer.kernel) if isinstance(layer, AvgPool) else top
            if top > MAX_COUNT:
                raise UsageError(
                    f"{layer} averages {top:.3g} spikes, counted from the last neurons; too many to be exact"
                )

    def shapes(self) -> Iterator[Shape]:
        """Yield the shape of what leaves each layer, without batch and time."""
        shape = self.input_shape
        for layer in self.layers:
            shape = layer.output(shape)
            yield shape

    @property
    def outputs(self) -> int:
        """Number of values that the read-out returns for each sample: classes."""
        return prod(list(self.shapes())[-1])

    @property
    def tail(self) -> tuple[Layer, ...]:
        """The layers at the end that are linear, from the first average or synapses without neurons on."""
        size = 0
        while isinstance(self.layers[-1 - size], AvgPool | Flatten | Linear | Conv):
            size += 1
        last = self.layers[len(self.layers) - size :]
        while last and isinstance(last[0], Flatten):
            last = last[1:]
        return last

    @property
    def spiking(self) -> tuple[Layer, ...]:
        """All layers but the tail."""
        return self.layers[: len(self.layers) - len(self.tail)]

    @property
    def counted(self) -> int:
        """Number of values that are counted for each sample: those of the read-out or, with a tail, what it reads."""
        return prod(list(self.shapes())[len(self.spiking) - 1])

    @property
    def group(self) -> int:
        """Output neurons that vote for one class."""
        last = self.layers[-1]
        return last.group if isinstance(last, Vote) else 1

    @property
    def unit(self) -> float:
        """What the spikes for a class are divided by to read it out; with a tail, nothing."""
        if self.tail:
            return 1.0
        return float(self.group * (self.T if self.readout == "rate" else 1))

    @property
    def synapses(self) -> int:
        """Number of surviving synapses."""
        return sum(len(layer.weight) for layer in self.layers if isinstance(layer, Linear | Conv))

    @property
    def connectivity(self) -> float:
        """Surviving synapses over all synapses."""
        return self.synapses / sum(
            prod(layer.weight.shape) for layer in self.layers if isinstance(layer, Linear | Conv)
        )

    def plain(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Split the network into a dictionary for JSON and arrays by name.

        The arrays are `{index}.positions`, `{index}.values` and, where there is one, `{index}.bias`.
        """
        arrays: dict[str, np.ndarray] = {}
        layers = []
        for index, layer in enumerate(self.layers):
            entry: dict[str, Any] = {"kind": layer.kind}
            for f in fields(layer):
                value = getattr(layer, f.name)
                if isinstance(value, Weight):
                    entry["shape"] = list(value.shape)
                    arrays |= {f"{index}.positions": value.positions, f"{index}.values": value.values}
                elif isinstance(value, np.ndarray):
                    arrays[f"{index}.{f.name}"] = value
                elif f.name in LATER and value == f.default:
                    continue
                elif f.name != "bias":
                    entry[f.name] = list(value) if isinstance(value, tuple) else value
            layers.append(entry)
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "layers"}
        return own | {"input_shape": list(self.input_shape), "layers": layers}, arrays

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Network:
        """Join what `plain` has split, wherever the two come from.

        Raises:
            UsageError: they are no network; nothing is trusted.

        """
        try:
            header = dict(plain)
            entries = header.pop("layers")
            layers = tuple(_layer(index, entry, arrays) for index, entry in enumerate(entries))
            shape = _tuple(header.pop("input_shape"))
            return cls(layers, shape, **header)
        except UsageError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"this is no description of a network: {type(error).__name__}: {error}") from error


def _layer(index: int, entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Layer:
    settings = {name: _tuple(value) if isinstance(value, list) else value for name, value in dict(entry).items()}
    kind = settings.pop("kind")
    if not isinstance(kind, str) or kind not in LAYERS:
        raise UsageError(f"layer {index} is of the unknown kind {kind!r}; a later version may have written it")
    if kind in ("linear", "conv"):
        shape = settings.pop("shape")
        settings["weight"] = Weight(shape, arrays[f"{index}.positions"], arrays[f"{index}.values"])
        settings["bias"] = arrays.get(f"{index}.bias")
    return LAYERS[kind](**settings)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
