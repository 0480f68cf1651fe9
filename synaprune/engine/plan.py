"""From a network to the steps that engine.c carries out, and the layout of its working memory.

What a spike train looks like in memory is said at the head of engine.c. A convolution of stride 1 reads the train as
the layer before has written it; every other one reads a train whose pixels have been gathered into one plane for each
phase of the stride, padding included, which makes it one of stride 1 again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from synaprune.engine.graph import Network
from synaprune.engine.layers import AvgPool, Conv, Flatten, Layer, Linear, MaxPool, Neuron, Pool, Shape
from synaprune.errors import UsageError

__all__ = ["KINDS", "LANES", "Plan", "Step", "Train", "plan"]

LANES = 32  # pixels in a word
ALIGN = 64
MAX_MEMORY = 2**31  # bytes of working memory
KINDS = (
    *("place", "place_bits", "shift", "gather", "pool_max", "pool_sum"),
    *("conv", "conv_analog", "linear", "linear_analog", "count"),
)


@dataclass(frozen=True)
class Step:
    """One step: its kind, whole numbers and arrays by the names that engine.c gives them, and its neurons."""

    kind: str
    numbers: dict[str, int]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    neuron: Neuron | None = None


@dataclass(frozen=True)
class Train:
    """Where in working memory the spikes of a layer are: `channels` × `bits` planes of `height` × `width` pixels.

    With more than one bit the planes of a channel make a binary number, from 0 to `top`, that counts 1 / `scale`.
    """

    offset: int
    channels: int
    height: int
    width: int
    pitch: int
    lead: int
    stride: int
    bits: int = 1
    top: int = 1
    scale: float = 1.0

    @property
    def words(self) -> int:
        """Words from the first pixel of a plane to the last."""
        return _words(self.height, self.width, self.pitch)

    def pixels(self) -> np.ndarray:
        """Return the bit of each pixel in its plane, row by row."""
        return _grid(self.height, self.width, self.pitch) + self.lead * LANES


@dataclass(frozen=True)
class Plan:
    """Steps, bytes of working memory, samples side by side in one run, and the spike trains of the neurons."""

    steps: tuple[Step, ...]
    memory: int
    lanes: int
    trains: tuple[Train, ...]


def plan(network: Network, slices: int = 1, lanes: bool = False) -> Plan:
    """Lay out a network.

    Args:
        network: any network.
        slices: in how many parts fully connected layers are cut, so that as many threads can share them.
        lanes: run 32 samples side by side; for networks that have fully connected layers alone.

    Raises:
        UsageError: the network needs too much working memory.

    """
    return _Planner(network, slices, lanes).plan()


class _Planner:
    def __init__(self, network: Network, slices: int, lanes: bool) -> None:
        self.network, self.slices, self.lanes = network, slices, lanes
        self.T = network.T
        self.steps: list[Step] = []
        self.trains: list[Train] = []
        self.memory = ALIGN  # the barrier comes first

    def plan(self) -> Plan:
        layers = self.network.layers
        shape = _maps(self.network.input_shape)
        train = None if self.network.coding == "static" else self.place_bits(shape)
        for index, (layer, out) in enumerate(zip(layers, map(_maps, self.network.shapes()))):
            if isinstance(layer, Linear):
                train = self.linear(index, layer, train)
            elif isinstance(layer, Conv):
                train = self.conv(index, layer, train, shape, out)
            elif isinstance(layer, Pool):
                assert train is not None
                train = self.pool(index, layer, train, out)
            shape = out
        assert train is not None
        self.count(train)
        return Plan(tuple(self.steps), self.memory, LANES if self.lanes else 1, tuple(self.trains))

    # Each of the following writes the steps of one layer and returns the train that leaves it.

    def place_bits(self, shape: Shape) -> Train:
        if self.lanes:
            train = self.train(int(np.prod(shape)), 1, LANES, LANES)
            table = np.arange(train.channels) * LANES
        else:
            train = self.train_for(0, shape, self.pitch(0, *shape[1:]))
            table = _all_pixels(train)
        self.add("place_bits", None, train, {"size": len(table), "stride": train.stride}, table=_int32(table))
        return train

    def count(self, train: Train) -> None:
        table = np.arange(train.channels) * train.stride * LANES if self.lanes else _all_pixels(train)
        self.add("count", train, None, {"size": len(table)}, table=_int32(table))

    def linear(self, index: int, layer: Linear, train: Train | None) -> Train:
        out, inputs = layer.weight.shape
        sender, receiver = layer.weight.positions % inputs, layer.weight.positions // inputs
        if self.lanes:
            if train is None:
                origin = self.allocate(inputs * LANES * 4)
                self.add("place", None, None, {"size": inputs, "out": origin}, table=_int32(np.arange(inputs) * LANES))
                where, numbers = sender * LANES, {"in": origin}
            else:
                where, numbers = sender * self.T, {}
            target = self.train(out, 1, LANES, LANES)
            kind = "conv_analog" if train is None else "conv"
            start = _starts(receiver, out)
            arrays: dict[str, Any] = {
                "start": start,
                "where": _int32(where),
                "value": layer.weight.values,
                "bias": layer.bias,
            }
            self.fire(kind, index, train, target, {"channels": out, **numbers}, arrays)
            return target
        target = self.train(1, 1, out, out)
        values = layer.weight.values
        if train is None:
            origin = self.allocate(inputs * 4)
            self.add("place", None, None, {"size": inputs, "out": origin}, table=_int32(np.arange(inputs)))
            slices = min(self.slices, target.words)
            bounds = _bounds(target.words, slices)
            length = np.bincount(receiver, minlength=target.words * LANES)
            part = np.searchsorted(bounds, np.arange(len(length)), "right")
            order = np.lexsort((-length, part))  # the outputs in the order in which they are worked on
            table = np.argsort(order)
            arrays = _rows(table[receiver], sender, values, target.words)
            bias = _padded(layer.bias, target)
            arrays |= {"table": _int32(table), "bias": None if bias is None else bias[order]}
            numbers = {"in": origin, "slices": slices, "scratch": self.allocate(len(length) * 4)}
            self.fire("linear_analog", index, None, target, numbers, arrays)
            return target
        size = train.height * train.width
        rows = train.channels * train.bits * size
        bit, sender, receiver, values = _by_bits(train, sender, receiver, values)
        row = (sender // size * train.bits + bit) * size + sender % size
        table = np.zeros(train.words * LANES, np.int64)
        table[_grid(train.height, train.width, train.pitch)] = np.arange(size)
        steps = -(-self.T // 8) * 8
        kind, arrays = "linear", {"table": _int32(table)}
        numbers = {"channels": train.channels * train.bits, "size": size, "copies": train.words}
        numbers["scratch"] = self.allocate(target.words * LANES * steps * 4)
        # The list of each input, in each slice of the outputs; whole words of outputs, as engine.c cuts them.
        slices = min(self.slices, target.words) if len(values) > 10_000 else 1
        part = np.searchsorted(_bounds(target.words, slices), receiver, "right") - 1
        order = np.lexsort((receiver, row, part))
        key = part[order] * rows + row[order]
        counts = np.searchsorted(key, np.arange(slices)[:, None] * rows + np.arange(rows + 1))
        arrays |= {"start": _int32(counts.reshape(-1)), "where": _int32(receiver[order]), "value": values[order]}
        arrays["bias"] = _padded(layer.bias, target)
        self.fire(kind, index, train, target, {**numbers, "slices": slices}, arrays)
        return target

    def conv(self, index: int, layer: Conv, train: Train | None, shape: Shape, out: Shape) -> Train:
        taps = _taps(layer)
        pitch = self.pitch(index, *shape[1:])
        if train is not None and self.reads_directly(layer, train.width, train.pitch, out[2]):
            source, planes, pitch = train, 1, train.pitch
            plane, bit = np.zeros(len(taps), np.int64), taps @ (pitch, 1) - np.dot(_two(layer.padding, 0), (pitch, 1))
        else:
            source, planes, pitch, plane, bit = self.phases(index, layer, taps, train, shape, out)
        target = self.train_for(index + 2, out, pitch)
        tap = layer.weight.positions % len(taps)
        channel = layer.weight.positions // len(taps)
        receiver, channel = np.divmod(channel, layer.weight.shape[1])
        channel = channel + receiver // (out[0] // layer.groups) * layer.weight.shape[1]
        values = layer.weight.values
        numbers = {"channels": out[0]}
        if train is None:
            where = (channel * planes + plane[tap]) * source.stride + bit[tap]
            kind = "conv_analog"
        else:
            which, tap, (receiver, channel), values = _expand(train, tap, (receiver, channel), values)
            order = np.lexsort((tap, which, channel, receiver))
            which, tap, receiver, channel, values = (x[order] for x in (which, tap, receiver, channel, values))
            place = (channel * train.bits + which) * planes + plane[tap]
            word, shift = bit[tap] // LANES, bit[tap] % LANES
            shifts = np.unique(shift)
            origin = source.offset
            if len(shifts) > 1 or shifts.sum():
                channels = train.channels * train.bits * planes
                origin = self.allocate(channels * len(shifts) * source.stride * self.T * 4)
                sizes = {"channels": channels, "copies": len(shifts), "stride": source.stride, "out": origin}
                self.add("shift", source, None, sizes, table=_int32(shifts))
            where = (place * max(1, len(shifts)) + np.searchsorted(shifts, shift)) * source.stride + source.lead + word
            where = where * self.T
            kind, numbers = "conv", numbers | {"in": origin}
        arrays = {"start": _starts(receiver, out[0]), "where": _int32(where), "value": values, "bias": layer.bias}
        self.fire(kind, index, source, target, numbers, arrays)
        return target

    def phases(
        self, index: int, layer: Conv, taps: np.ndarray, train: Train | None, shape: Shape, out: Shape
    ) -> tuple[Train, int, int, np.ndarray, np.ndarray]:
        """Gather the input into one plane for each phase of the stride that a synapse reads.

        Return the gathered train, planes for each channel, its pitch, and for each tap its plane and first bit.
        """
        stride, padding = np.array(_two(layer.stride, 1)), np.array(_two(layer.padding, 0))
        phase = taps % stride @ (stride[1], 1)
        used = np.unique(phase[np.unique(layer.weight.positions % len(taps))])
        height, width = -(-(np.array(shape[1:]) + 2 * padding) // stride)
        pitch = max(int(width), self.pitch(index + 2, *out[1:]))
        bit = taps // stride @ (pitch, 1)
        plane = np.minimum(np.searchsorted(used, phase), max(0, len(used) - 1))
        reach = _words(out[1], out[2], pitch) * LANES + int(bit.max())
        stop = max(reach, int(height) * pitch)
        planes = max(1, len(used))
        pixel = np.stack(np.divmod(np.arange(shape[1] * shape[2]), shape[2]), 1) + padding
        hit = pixel % stride @ (stride[1], 1)
        known = np.isin(hit, used)
        if train is None:
            span = stop
            origin = self.allocate(shape[0] * planes * span * 4)
            target = np.searchsorted(used, hit) * span + pixel // stride @ (pitch, 1)
            table = np.where(known, target, -1)[None] + np.where(known, planes * span, 0) * np.arange(shape[0])[:, None]
            self.add("place", None, None, {"size": table.size, "out": origin}, table=_int32(table.reshape(-1)))
            source = Train(origin, shape[0], int(height), int(width), pitch, 0, span)
        else:
            span = -(-stop // LANES) + 1
            origin = self.allocate(train.channels * train.bits * planes * span * self.T * 4)
            target = np.searchsorted(used, hit) * span * LANES + pixel // stride @ (pitch, 1)
            pairs = np.stack((target[known], train.pixels()[known]), 1)
            source = Train(origin, train.channels, int(height), int(width), pitch, 0, span)
            self.gather(train, source, planes, pairs)
        return source, planes, pitch, plane, bit

    def pool(self, index: int, layer: Pool, train: Train, out: Shape) -> Train:
        kernel, stride = _two(layer.kernel, 1), _two(layer.stride, 1)
        padding = _two(layer.padding, 0)
        # Windows may begin in the padding below the last row; their bits need words too.
        last = (out[1] - 1) * stride[0] * train.pitch + (out[2] - 1) * stride[1]
        if train.pitch < train.width + padding[1] or last >= (train.stride - train.lead) * LANES:
            grid = (train.height, train.width)
            pitch = train.width + padding[1]
            last = (out[1] - 1) * stride[0] * pitch + (out[2] - 1) * stride[1]
            wide = self.train(train.channels, *grid, pitch, 0, last // LANES + 1, train)
            self.gather(train, wide, 1, np.stack((wide.pixels(), train.pixels()), 1))
            train = wide
        shifts = (_grid(*kernel, train.pitch) - np.dot(padding, (train.pitch, 1)))[:, None]
        table = np.concatenate((shifts // LANES, shifts % LANES), 1)
        bits, top, scale = train.bits, train.top, train.scale
        if isinstance(layer, AvgPool):
            top, scale = top * len(shifts), scale / len(shifts)
            bits = top.bit_length()
        if bits > LANES:
            raise UsageError(f"{layer} sums up too many spikes: a count of up to {top} does not fit 32 bits")
        pooled = self.train(train.channels, train.height, train.width, train.pitch, train.lead, train.stride, train)
        pooled = Train(**{**vars(pooled), "bits": bits, "top": top, "scale": scale})
        pooled = Train(**{**vars(pooled), "offset": self.allocate(self.size(pooled))}) if bits > train.bits else pooled
        numbers = {
            "channels": train.channels * (1 if isinstance(layer, AvgPool) else train.bits),
            "stride": train.stride,
        }
        numbers |= {"size": len(shifts), "bits_in": train.bits, "bits_out": bits}
        if isinstance(layer, AvgPool):
            numbers["scratch"] = self.allocate(self.slices * train.stride * self.T * 4)
        self.add("pool_max" if isinstance(layer, MaxPool) else "pool_sum", train, pooled, numbers, table=_int32(table))
        target = self.train_for(index + 1, out, self.pitch(index + 1, *out[1:]), pooled)
        row, column = np.divmod(np.arange(out[1] * out[2]), out[2])
        source = row * stride[0] * train.pitch + column * stride[1] + train.lead * LANES
        self.gather(pooled, target, 1, np.stack((target.pixels(), source), 1))
        return target

    # Layout.

    def pitch(self, index: int, height: int, width: int) -> int:
        """Return the pitch that lets the layers from `index` on read a train of this size as it is."""
        index, layer = self.following(index)
        if isinstance(layer, Pool):
            return width + _two(layer.padding, 0)[1]
        if isinstance(layer, Conv) and set(layer.stride) == {1}:
            padding = _two(layer.padding, 0)
            reach = (np.array(_two(layer.kernel, 1)) - 1) * _two(layer.dilation, 1)
            size = np.array((height, width)) + 2 * np.array(padding) - reach
            return max(width + padding[1], self.pitch(index + 2, *map(int, size)))
        return width

    def following(self, index: int) -> tuple[int, Layer | None]:
        """Return the layer at `index` and its place, passing over those that leave a train as it is."""
        for place, layer in enumerate(self.network.layers[index:], index):
            if not isinstance(layer, Neuron | Flatten):
                return place, layer
        return len(self.network.layers), None

    @staticmethod
    def reads_directly(layer: Conv, width: int, pitch: int, out_width: int) -> bool:
        return set(layer.stride) == {1} and pitch >= max(width + _two(layer.padding, 0)[1], out_width)

    def train_for(self, index: int, shape: Shape, pitch: int, like: Train | None = None) -> Train:
        """Return a train with the zeros around it that the layer at `index` reads as its padding."""
        _, layer = self.following(index)
        channels, height, width = shape
        words, lead = _words(height, width, pitch), 0
        if isinstance(layer, Conv):
            padding = np.array(_two(layer.padding, 0))
            reach = (np.array(_two(layer.kernel, 1)) - 1) * _two(layer.dilation, 1)
            size = np.array((height, width)) + 2 * padding - reach
            if self.reads_directly(layer, width, pitch, size[1]):
                lead = -(-int(padding @ (pitch, 1)) // LANES)
                last = int((reach - padding) @ (pitch, 1)) // LANES
                words = max(words, _words(int(size[0]), int(size[1]), pitch) + last)
        return self.train(channels, height, width, pitch, lead, lead + words, like)

    def train(
        self,
        channels: int,
        height: int,
        width: int,
        pitch: int,
        lead: int = 0,
        stride: int = 0,
        like: Train | None = None,
    ) -> Train:
        stride = max(stride, lead + _words(height, width, pitch))
        counts = (like.bits, like.top, like.scale) if like else ()
        train = Train(0, channels, height, width, pitch, lead, stride, *counts)
        return Train(**{**vars(train), "offset": self.allocate(self.size(train))})

    def size(self, train: Train) -> int:
        return train.channels * train.bits * train.stride * self.T * 4

    def allocate(self, size: int) -> int:
        """Return the offset of so many bytes."""
        offset = self.memory
        self.memory += -(-int(size) // ALIGN) * ALIGN
        if self.memory > MAX_MEMORY:
            raise UsageError("the network needs more than 2 GiB of working memory for one sample; it is too large")
        return offset

    # Steps.

    def fire(
        self,
        kind: str,
        index: int,
        source: Train | None,
        target: Train,
        numbers: dict[str, int],
        arrays: dict[str, Any],
    ) -> None:
        """Add the step of a layer with synapses and of the neurons behind it."""
        neuron = self.network.layers[index + 1]
        assert isinstance(neuron, Neuron)
        bit = np.arange(target.words * LANES)
        inside = (bit % target.pitch < target.width) & (bit // target.pitch < target.height)
        valid = (inside.reshape(-1, LANES) * (np.uint64(1) << np.arange(LANES, dtype=np.uint64))).sum(1, np.uint64)
        arrays = {name: array for name, array in arrays.items() if array is not None}
        numbers = {"layer": len(self.trains), "words": target.words, **numbers}
        self.add(kind, source, target, numbers, neuron=neuron, valid=valid.astype(np.uint32), **arrays)
        self.trains.append(target)

    def gather(self, source: Train, target: Train, planes: int, pairs: np.ndarray) -> None:
        order = np.argsort(pairs[:, 0], kind="stable")
        numbers = {"channels": source.channels * source.bits, "copies": planes, "size": len(pairs)}
        self.add("gather", source, target, numbers, table=_int32(pairs[order].reshape(-1)))

    def add(
        self,
        kind: str,
        source: Train | None,
        target: Train | None,
        numbers: dict[str, int],
        neuron: Neuron | None = None,
        **arrays: np.ndarray,
    ) -> None:
        if source:
            numbers = {"in": source.offset, "lead": source.lead, "stride": source.stride} | numbers
        if target:
            numbers = {"out": target.offset, "out_lead": target.lead, "out_stride": target.stride} | numbers
            numbers.setdefault("channels", target.channels)
        self.steps.append(Step(kind, numbers, arrays, neuron))


def _words(height: int, width: int, pitch: int) -> int:
    return -(-((height - 1) * pitch + width) // LANES)


def _grid(height: int, width: int, pitch: int) -> np.ndarray:
    row, column = np.divmod(np.arange(height * width), width)
    return row * pitch + column


def _all_pixels(train: Train) -> np.ndarray:
    """Return the bit of each pixel of each channel, channels in a row."""
    return (np.arange(train.channels)[:, None] * (train.stride * LANES) + train.pixels()).reshape(-1)


def _two(numbers: Sequence[int], first: int) -> tuple[int, int]:
    """Return numbers for height and width; a signal is an image of height 1."""
    return (first, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def _maps(shape: Shape) -> Shape:
    """Return channels, height and width; a vector is one row, a signal an image of height 1."""
    return (1, 1, *shape) if len(shape) == 1 else (shape[0], 1, shape[1]) if len(shape) == 2 else shape


def _taps(layer: Conv) -> np.ndarray:
    """Return row and column that each tap of the kernel reaches, dilation included, `[taps, 2]`."""
    kernel = _two(layer.kernel, 1)
    return np.stack(np.divmod(np.arange(kernel[0] * kernel[1]), kernel[1]), 1) * _two(layer.dilation, 1)


def _starts(receiver: np.ndarray, out: int) -> np.ndarray:
    return _int32(np.searchsorted(receiver, np.arange(out + 1)))


def _bounds(words: int, slices: int) -> np.ndarray:
    """Return the output at which each slice begins, and the end; as engine.c cuts them."""
    return np.arange(slices + 1) * words // slices * LANES


def _rows(receiver: np.ndarray, sender: np.ndarray, values: np.ndarray, words: int) -> dict[str, Any]:
    """Lay the lists of 32 outputs side by side: row r of a word holds the r-th synapse of each of them."""
    length = np.bincount(receiver, minlength=words * LANES)
    depth = length.reshape(words, LANES).max(1)
    if depth.sum() * LANES * 8 > MAX_MEMORY:
        raise UsageError("the synapses of the first layer take more than 2 GiB; the network is too large")
    order = np.argsort(receiver, kind="stable")
    start = np.concatenate(([0], np.cumsum(depth)))
    rank = np.empty(len(receiver), np.int64)
    rank[order] = np.arange(len(receiver)) - np.repeat(np.cumsum(length) - length, length)
    place = (start[receiver // LANES] + rank) * LANES + receiver % LANES
    where, weights = np.zeros(start[-1] * LANES, np.int32), np.zeros(start[-1] * LANES, np.float32)
    where[place], weights[place] = sender, values
    return {"start": _int32(start), "where": where, "value": weights}


def _padded(bias: np.ndarray | None, target: Train) -> np.ndarray | None:
    return None if bias is None else np.pad(bias, (0, target.words * LANES - target.width))


def _expand(
    train: Train, tap: np.ndarray, ends: tuple[np.ndarray, np.ndarray], values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Give each synapse onto a count one synapse for each of its bits, 2ᵇ / scale times as strong."""
    bit = np.tile(np.arange(train.bits), len(values))
    each = [np.repeat(x, train.bits) for x in (tap, *ends, values)]
    if train.top > 1:
        each[3] = each[3] * (2.0**bit * train.scale).astype(np.float32)
    return bit, each[0], (each[1], each[2]), each[3]


def _by_bits(
    train: Train, sender: np.ndarray, receiver: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    bit, sender, (receiver, _), values = _expand(train, sender, (receiver, receiver), values)
    return bit, sender, receiver, values


def _int32(numbers: np.ndarray) -> np.ndarray:
    if len(numbers) and (numbers.max() >= 2**31 or numbers.min() < -(2**31)):
        raise UsageError("the network is too large for the engine: a place in it does not fit 32 bits")
    return np.ascontiguousarray(numbers, np.int32)
