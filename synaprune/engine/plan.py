"""From a network to the steps that engine.c carries out, and the layout of its working memory.

A convolution of stride 1 reads a train as the layer before has written it; every other one reads a train whose pixels
have been gathered into one plane for each phase of the stride, padding included, which makes it one of stride 1 again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from synaprune.engine.graph import Network
from synaprune.engine.layers import AvgPool, Conv, Flatten, Layer, Linear, Neuron, Pool, Shape
from synaprune.engine.lists import by_sender, int32, side_by_side, starts, synapses_of
from synaprune.engine.tail import cost
from synaprune.engine.trains import LANES, Train, as_maps, grid, taps, two, words_of
from synaprune.errors import UsageError

__all__ = ["KINDS", "Plan", "Step", "plan"]

ALIGN = 64
MAX_MEMORY = 2**31  # bytes of working memory, and of lists and tables
MAX_WORK = 2**36  # steps over a word: minutes for one sample
AHEAD = 16  # synapses whose inputs engine.c fetches early, also behind the end of a list
WORTH_SHARING = 10_000  # synapses of a fully connected layer from which on several threads share it
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
        UsageError: the network needs too much memory, or too many steps.

    """
    return _Planner(network, slices, lanes).plan()


class _Planner:
    def __init__(self, network: Network, slices: int, lanes: bool) -> None:
        self.network, self.slices, self.lanes = network, slices, lanes
        self.T = network.T
        self.steps: list[Step] = []
        self.trains: list[Train] = []
        self.memory = ALIGN  # the barrier comes first
        self.tables = self.work = 0
        self.passing = (0, 0)  # offset and bytes of the place for what only the next step reads

    def plan(self) -> Plan:
        shape = as_maps(self.network.input_shape)
        train = None if self.network.coding == "static" else self.place_bits(shape)
        for index, (layer, out) in enumerate(zip(self.network.spiking, map(as_maps, self.network.shapes()))):
            if isinstance(layer, Linear):
                if self.lanes:
                    train = self.linear_lanes(index, layer, train)
                else:
                    train = self.linear(index, layer, train) if train else self.linear_analog(index, layer)
            elif isinstance(layer, Conv):
                train = self.conv(index, layer, train, shape, out)
            elif isinstance(layer, Pool):
                assert train is not None
                train = self.pool(index, layer, train, out)
            shape = out
        assert train is not None
        shapes = list(self.network.shapes())[len(self.network.spiking) - 1 :]
        for tail, shape, out in zip(self.network.tail, shapes, shapes[1:]):
            self.charge_tail(*cost(tail, shape, out))
        self.add("count", train, None, table=int32(train.all_pixels()[:: LANES if self.lanes else 1]))
        return Plan(tuple(self.steps), self.memory, LANES if self.lanes else 1, tuple(self.trains))

    # Each of the following adds the steps of one layer and returns the train that leaves it.

    def place_bits(self, shape: Shape) -> Train:
        if self.lanes:
            train = self.placed(Train(prod(shape), 1, LANES, LANES))
        else:
            train = self.surrounded(0, Train(shape[0], shape[1], shape[2], self.pitch(0, *shape[1:])))
        self.add("place_bits", None, train, table=int32(train.all_pixels()[:: LANES if self.lanes else 1]))
        return train

    def linear_lanes(self, index: int, layer: Linear, train: Train | None) -> Train:
        """Make a convolution of it, over one row of pixels, each of which is a sample."""
        out, inputs = layer.weight.shape
        synapses, origin = synapses_of(layer, train), {}
        if train is None:
            origin = {"in": self.place(np.arange(inputs) * LANES, inputs * LANES)}
        where = synapses.sender * (LANES if train is None else self.T)
        arrays = {
            "start": starts(synapses.receiver, out),
            "where": int32(np.append(where, np.zeros(AHEAD, np.int64))),
            "value": synapses.value,
        }
        target = self.placed(Train(out, 1, LANES, LANES))
        self.fire("conv" if train else "conv_analog", index, train, target, origin, arrays | _bias(layer))
        return target

    def linear_analog(self, index: int, layer: Linear) -> Train:
        out, inputs = layer.weight.shape
        target = self.placed(Train(1, 1, out, out))
        slices = min(self.slices, target.words)
        arrays = side_by_side(synapses_of(layer, None), _bias(layer, target).get("bias"), target.words, slices)
        numbers = {"in": self.place(np.arange(inputs), inputs), "slices": slices}
        numbers["scratch"] = self.allocate(target.words * LANES * 4)
        self.fire("linear_analog", index, None, target, numbers, arrays)
        return target

    def linear(self, index: int, layer: Linear, train: Train) -> Train:
        out = layer.weight.shape[0]
        target = self.placed(Train(1, 1, out, out))
        slices = min(self.slices, target.words) if len(layer.weight) >= WORTH_SHARING else 1
        size = train.height * train.width
        synapses = synapses_of(layer, train)
        row = (synapses.sender // size * train.bits + synapses.digit) * size + synapses.sender % size
        arrays = by_sender(synapses, row, train.planes * size, target.words, slices)
        table = np.zeros(train.words * LANES, np.int64)
        table[grid(train.height, train.width, train.pitch)] = np.arange(size)
        steps = -(-self.T // 8) * 8
        numbers = {"channels": train.planes, "size": size, "copies": train.words, "slices": slices}
        numbers["scratch"] = self.allocate(target.words * LANES * steps * 4)
        self.fire("linear", index, train, target, numbers, arrays | {"table": int32(table)} | _bias(layer, target))
        return target

    def conv(self, index: int, layer: Conv, train: Train | None, shape: Shape, out: Shape) -> Train:
        reached, padding = taps(layer), two(layer.padding, 0)
        if train and _reads_directly(layer, train, out[2]):
            source, phases, phase = train, 1, np.zeros(len(reached), np.int64)
            bit = (reached - padding) @ (train.pitch, 1)
        else:
            source, phases, phase, bit = self.phases(index, layer, reached, train, shape, out)
        synapses = synapses_of(layer, train)
        place = (synapses.sender * source.bits + synapses.digit) * phases + phase[synapses.tap]
        bit = bit[synapses.tap]
        origin = {"in": source.offset}
        if train is None:
            where = place * source.stride + bit
        else:
            shifts = np.unique(bit % LANES)
            if shifts.any():
                numbers = {"channels": source.planes * phases, "copies": len(shifts)}
                origin["in"] = self.pass_on(prod(numbers.values()) * source.stride * self.T * 4)
                self.add("shift", source, None, numbers | {"out": origin["in"]}, table=int32(shifts))
            copy = place * max(1, len(shifts)) + np.searchsorted(shifts, bit % LANES)
            where = (copy * source.stride + source.lead + bit // LANES) * self.T
        target = self.surrounded(index + 2, Train(out[0], out[1], out[2], source.pitch))
        arrays = {
            "start": starts(synapses.receiver, out[0]),
            "where": int32(np.append(where, np.zeros(AHEAD, np.int64))),
            "value": synapses.value,
        }
        self.fire("conv" if train else "conv_analog", index, source, target, origin, arrays | _bias(layer))
        return target

    def phases(
        self, index: int, layer: Conv, reached: np.ndarray, train: Train | None, shape: Shape, out: Shape
    ) -> tuple[Train, int, np.ndarray, np.ndarray]:
        """Gather the input into one plane for each phase of the stride that a synapse reads.

        Return the gathered train or analog planes, how many planes a channel has, and for each tap its plane and the
        bit at which it begins.
        """
        stride = two(layer.stride, 1)
        phase = reached % stride @ (stride[1], 1)
        used = np.unique(phase[np.unique(layer.weight.positions % len(reached))])
        height, width = map(int, -(-(np.array(shape[1:]) + 2 * two(layer.padding, 0)) // stride))
        # With stride 1 the zeros left of a row are also those right of the row before.
        least = shape[2] + int(two(layer.padding, 0)[1]) if stride[1] == 1 else width
        pitch = max(least, self.pitch(index + 2, *out[1:]))
        bit = reached // stride @ (pitch, 1)
        stop = max(words_of(out[1], out[2], pitch) * LANES + int(bit.max()), height * pitch)
        span = stop if train is None else (-(-stop // LANES) + 1) * LANES  # of one plane, in pixels
        pixel = np.stack(np.divmod(np.arange(shape[1] * shape[2]), shape[2]), 1) + two(layer.padding, 0)
        hit = pixel % stride @ (stride[1], 1)
        known = np.isin(hit, used)
        target = np.searchsorted(used, hit) * span + pixel // stride @ (pitch, 1)
        phases, phase = max(1, len(used)), np.searchsorted(used, phase)
        source = Train(shape[0], height, width, pitch)
        if train is None:
            channel = np.arange(shape[0])[:, None] * (phases * span)
            table = np.where(known, channel + target, -1).reshape(-1)
            source = replace(source, stride=span, offset=self.place(table, shape[0] * phases * span))
        else:
            source = replace(train, height=height, width=width, pitch=pitch, lead=0, stride=span // LANES)
            source = self.placed(source, phases)
            self.gather(train, source, np.stack((target[known], train.pixels()[known]), 1), phases)
        return source, phases, phase, bit

    def pool(self, index: int, layer: Pool, train: Train, out: Shape) -> Train:
        kernel, stride, padding = two(layer.kernel, 1), two(layer.stride, 1), two(layer.padding, 0)
        begin = np.stack(np.divmod(np.arange(out[1] * out[2]), out[2]), 1) * stride  # of each window, + padding
        # Windows may begin right of the last column or below the last row, in the padding; there must be bits for them.
        gap = max(padding[1], layer.overhang((train.height, train.width)[-len(layer.kernel) :])[-1])
        if train.pitch < train.width + gap or begin[-1] @ (train.pitch, 1) >= (train.stride - train.lead) * LANES:
            pitch = train.width + int(gap)
            words = int(begin[-1] @ (pitch, 1)) // LANES + 1
            wide = self.placed(replace(train, pitch=pitch, lead=0, stride=words))
            self.gather(train, wide, np.stack((wide.pixels(), train.pixels()), 1))
            train = wide
        taps = grid(kernel[0], kernel[1], train.pitch) - padding @ (train.pitch, 1)
        pooled, numbers = train, {"channels": train.planes}
        if isinstance(layer, AvgPool):
            top = train.top * len(taps)
            pooled = replace(train, bits=top.bit_length(), top=top, scale=train.scale / len(taps))
            scratch = self.allocate(self.slices * train.stride * self.T * 4)
            numbers = {"channels": train.channels, "bits_in": train.bits, "bits_out": pooled.bits, "scratch": scratch}
        pooled = self.placed(pooled)
        numbers["size"] = len(taps)
        table = int32(np.stack(np.divmod(taps, LANES), 1).reshape(-1))
        self.add("pool_sum" if isinstance(layer, AvgPool) else "pool_max", train, pooled, numbers, table=table)
        _, height, width = out
        small = replace(
            pooled, height=height, width=width, pitch=self.pitch(index + 1, height, width), lead=0, stride=0
        )
        target = self.surrounded(index + 1, small)
        self.gather(pooled, target, np.stack((target.pixels(), begin @ (train.pitch, 1) + train.lead * LANES), 1))
        return target

    # Layout.

    def pitch(self, index: int, height: int, width: int) -> int:
        """Return the pitch that lets the layers from `index` on read a train of this size as it is."""
        index, layer = self.following(index)
        if isinstance(layer, Pool):
            return width + int(two(layer.padding, 0)[1])
        if isinstance(layer, Conv) and set(layer.stride) == {1}:
            out = two(layer.output((layer.weight.shape[1] * layer.groups, *_size(layer, height, width)))[1:], 1)
            return max(width + int(two(layer.padding, 0)[1]), self.pitch(index + 2, *map(int, out)))
        return width

    def following(self, index: int) -> tuple[int, Layer | None]:
        """Return the layer at `index` and its place, passing over those that leave a train as it is."""
        for place, layer in enumerate(self.network.spiking[index:], index):
            if not isinstance(layer, Neuron | Flatten):
                return place, layer
        return len(self.network.spiking), None

    def surrounded(self, index: int, train: Train) -> Train:
        """Place a train with the zeros around it that the layer at `index` reads as its padding."""
        _, layer = self.following(index)
        lead, words = 0, train.words
        if isinstance(layer, Conv):
            size = _size(layer, train.height, train.width)
            out = two(layer.output((layer.weight.shape[1] * layer.groups, *size))[1:], 1)
            if _reads_directly(layer, train, out[1]):
                first, last = (-two(layer.padding, 0), taps(layer)[-1] - two(layer.padding, 0)) @ np.array(
                    (train.pitch, 1)
                )
                lead = -(int(first) // LANES)
                words = max(words, words_of(int(out[0]), int(out[1]), train.pitch) + int(last) // LANES)
        return self.placed(replace(train, lead=lead, stride=lead + words))

    def placed(self, train: Train, planes: int = 1) -> Train:
        """Return the train with a place in memory, `planes` times over."""
        train = replace(train, stride=max(train.stride, train.lead + train.words))
        return replace(train, offset=self.allocate(train.planes * planes * train.stride * self.T * 4))

    def allocate(self, size: int) -> int:
        """Return the offset of so many bytes."""
        offset = self.memory
        self.memory += -(-int(size) // ALIGN) * ALIGN
        if self.memory > MAX_MEMORY:
            raise UsageError("the network needs more than 2 GiB of working memory for one sample; it is too large")
        return offset

    def pass_on(self, size: int) -> int:
        """Return the offset of so many bytes for what only the next step reads; mostly those used before."""
        if size > self.passing[1]:
            self.passing = (self.allocate(size), size)
        return self.passing[0]

    def charge_tail(self, additions: int, size: int) -> None:
        """Add up what a layer takes that is computed behind the steps."""
        self.work += additions
        if size > MAX_MEMORY:
            raise UsageError("the network needs more than 2 GiB of working memory for one sample; it is too large")

    def charge(self, step: Step) -> None:
        """Add up what a step takes, so that no network, whoever made it, takes all memory or all time there is."""
        numbers = defaultdict(lambda: 1, step.numbers)
        words = {
            "shift": numbers["channels"] * numbers["copies"] * numbers["stride"],
            "gather": numbers["channels"] * numbers["size"],
            "pool_max": numbers["channels"] * numbers["size"] * numbers["stride"],
            "pool_sum": numbers["channels"]
            * numbers["size"]
            * numbers["stride"]
            * numbers["bits_in"]
            * numbers["bits_out"],
            "conv": len(step.arrays.get("value", ())) * numbers["words"],
            "conv_analog": len(step.arrays.get("value", ())) * numbers["words"],
        }.get(step.kind, len(step.arrays.get("value", ())))
        self.work += words * self.T
        self.tables += sum(array.nbytes for array in step.arrays.values())
        if self.tables > MAX_MEMORY:
            raise UsageError("the network needs more than 2 GiB of lists and tables; it is too large")
        if self.work > MAX_WORK:
            raise UsageError("the network would take minutes for one sample; it is too large")

    # Steps.

    def place(self, table: np.ndarray, size: int) -> int:
        """Add the step that puts each analog value where `table` says, among `size` floats; return their offset."""
        offset = self.allocate(size * 4)
        in_a_row = int(len(table) == size and np.array_equal(table, np.arange(size)))
        self.add("place", None, None, {"out": offset, "copies": in_a_row}, table=int32(table))
        return offset

    def fire(
        self,
        kind: str,
        index: int,
        source: Train | None,
        target: Train,
        numbers: Mapping[str, int],
        arrays: Mapping[str, np.ndarray],
    ) -> None:
        """Add the step of a layer with synapses and of the neurons behind it."""
        neuron = self.network.layers[index + 1]
        assert isinstance(neuron, Neuron)
        numbers = {"layer": len(self.trains), "words": target.words, **numbers}
        self.add(kind, source, target, numbers, neuron, valid=target.valid(), **arrays)
        self.trains.append(target)

    def gather(self, source: Train, target: Train, pairs: np.ndarray, planes: int = 1) -> None:
        """Add the step that moves bits: pairs of the bit that goes out and the one that comes in, of each plane."""
        table = int32(pairs[np.argsort(pairs[:, 0], kind="stable")].reshape(-1))
        numbers = {"channels": source.planes, "copies": planes, "size": len(pairs)}
        self.add("gather", source, target, numbers, table=table)

    def add(
        self,
        kind: str,
        source: Train | None,
        target: Train | None,
        numbers: Mapping[str, int] | None = None,
        neuron: Neuron | None = None,
        **arrays: np.ndarray,
    ) -> None:
        own = {"size": len(arrays["table"])} if "table" in arrays else {}
        if source:
            own |= {"in": source.offset, "lead": source.lead, "stride": source.stride, "channels": source.planes}
        if target:
            own |= {"out": target.offset, "out_lead": target.lead, "out_stride": target.stride}
            own |= {"channels": target.planes}
        if kind == "place_bits" and target:
            own["stride"] = target.stride
        self.steps.append(Step(kind, own | dict(numbers or {}), arrays, neuron))
        self.charge(self.steps[-1])


def _reads_directly(layer: Conv, train: Train, out_width: int) -> bool:
    return set(layer.stride) == {1} and train.pitch >= max(train.width + two(layer.padding, 0)[1], out_width)


def _size(layer: Conv, height: int, width: int) -> Shape:
    return (width,) if len(layer.kernel) == 1 else (height, width)


def _bias(layer: Linear | Conv, target: Train | None = None) -> dict[str, np.ndarray]:
    """Return the bias, if there is one; for whole words of the outputs of a target."""
    if layer.bias is None:
        return {}
    return {"bias": np.pad(layer.bias, (0, target.words * LANES - len(layer.bias) if target else 0))}
