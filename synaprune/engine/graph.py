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

__all__ = ["Network"]

MAX_NEURONS = 2**23  # of one layer
MAX_EVENTS = 2**27  # neurons of one layer × time steps
MAX_LAYERS = 1000
MAX_COUNT = 2**24  # to which 32-bit floats, and so averages, are exact
CODINGS = ("static", "spikes")
READOUTS = ("rate", "count")


@dataclass(frozen=True, eq=False)
class Network:
    """A chain of layers, shown one input for `T` time steps.

    Synapses (`Linear`, `Conv`) lead to a `Neuron`, with nothing between. Behind the last of these there may be a
    `Vote`, or a `Linear` without neurons, which reads out its currents.

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
        synaptic = (Linear, Conv)
        neurons = [index for index, layer in enumerate(self.layers) if isinstance(layer, Neuron)]
        first = neurons[0] if neurons else len(self.layers)
        for index, layer in enumerate(self.layers):
            after = self.layers[index + 1] if index + 1 < len(self.layers) else None
            if type(layer) not in LAYERS.values():
                raise UsageError(f"{type(layer).__name__} is no layer that a network can hold")
            reads_out = isinstance(layer, Linear) and after is None and first < index
            if isinstance(layer, synaptic) and not isinstance(after, Neuron) and not reads_out:
                raise UsageError(f"{layer} must be followed by neurons, not by {after or 'the end'}")
            if isinstance(layer, Neuron) and not (index and isinstance(self.layers[index - 1], synaptic)):
                raise UsageError(f"{layer} must follow a linear layer or a convolution")
            if isinstance(layer, Vote) and after:
                raise UsageError(f"{layer} must be the last layer, but {after} follows")
            if isinstance(layer, Pool) and self.coding == "static" and index < first:
                raise UsageError(f"{layer} comes before the first neurons; pooling takes spikes, not analog input")
            if isinstance(layer, MaxPool) and any(
                isinstance(x, AvgPool) for x in self.layers[max(0, index - 1) : index]
            ):
                raise UsageError(f"{layer} takes spikes, not the averages of {self.layers[index - 1]}")
        last = self.layers[neurons[-1] + 1 :] if neurons else self.layers
        if not neurons or not (
            all(isinstance(layer, Vote) for layer in last)
            or (isinstance(last[-1], Linear) and all(isinstance(layer, Flatten) for layer in last[:-1]))
        ):
            raise UsageError(
                "the last layer of a network must be neurons, a vote among them, or a Linear that reads them out"
            )

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
    def tail(self) -> Linear | None:
        """The last layer, if it has synapses and no neurons."""
        last = self.layers[-1]
        return last if isinstance(last, Linear) else None

    @property
    def spiking(self) -> tuple[Layer, ...]:
        """All layers but the tail."""
        return self.layers[:-1] if self.tail else self.layers

    @property
    def counted(self) -> int:
        """Number of values that are counted for each sample: those of the read-out or, with a tail, what it reads."""
        return self.outputs if self.tail is None else self.tail.weight.shape[1]

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
                elif f.name == "drop" and value is None:
                    continue  # so that what needs none is read by older versions
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
