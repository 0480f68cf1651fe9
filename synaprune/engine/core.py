"""A planned network in the form that engine.c takes, and calls into it."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int32, c_int64, c_uint32, c_void_p
from typing import Any

import numpy as np

from synaprune.engine.layers import Neuron
from synaprune.engine.plan import KINDS, Plan, Step
from synaprune.errors import MachineError

__all__ = ["Core", "Memory"]


class _Neuron(ctypes.Structure):
    _fields_ = [(name, c_int32) for name in ("leaky", "decay_input", "soft", "by_product")]
    _fields_ += [(name, c_float) for name in ("tau", "threshold", "reset")]


NUMBERS = (
    *("layer", "channels", "words", "lead", "stride", "out_lead", "out_stride"),
    *("copies", "size", "slices", "bits_in", "bits_out"),
)
PLACES = ("in", "out", "scratch")
ARRAYS: dict[str, Any] = {
    "start": c_int32,
    "where": c_int32,
    "table": c_int32,
    "value": c_float,
    "bias": c_float,
    "valid": c_uint32,
}


class _Step(ctypes.Structure):
    _fields_ = [(name, c_int32) for name in ("kind", *NUMBERS, "unused")]
    _fields_ += [(name, c_int64) for name in PLACES]
    _fields_ += [(name, POINTER(kind)) for name, kind in ARRAYS.items()]
    _fields_ += [("neuron", _Neuron)]


class _Network(ctypes.Structure):
    _fields_ = [(name, c_int32) for name in ("T", "count", "outputs", "lanes")] + [("steps", POINTER(_Step))]


class _Call(ctypes.Structure):
    _fields_ = [("x", c_void_p), ("samples", c_int64), ("x_sample", c_int64), ("x_step", c_int64)]
    _fields_ += [("counts", c_void_p), ("spikes", c_void_p), ("rank", c_int32), ("ranks", c_int32)]


class _Barrier(ctypes.Structure):
    _fields_ = [(name, c_int32) for name in ("arrived", "phase", "wild")]


class Memory:
    """Working memory of one call at a time, all zeros at first.

    Raises:
        MachineError: there is not so much.

    """

    def __init__(self, size: int) -> None:
        try:
            self.bytes = np.zeros(size + 128, np.uint8)
        except MemoryError as error:
            raise MachineError(f"no memory for the {size:,} bytes that one run of the network works on") from error
        self.address = -(-self.bytes.ctypes.data // 64) * 64

    def words(self, offset: int, count: int) -> np.ndarray:
        """Return so many 32-bit words from a byte on."""
        begin = self.address - self.bytes.ctypes.data + offset
        return self.bytes[begin : begin + 4 * count].view(np.uint32)


class Core:
    """The steps of a plan as C structs, and the arrays that they point to.

    It is never written to once it is made: threads share it, each with its own `Memory`.
    """

    def __init__(self, library: ctypes.CDLL, plan: Plan, T: int, outputs: int) -> None:
        self.plan, self.outputs, self._library = plan, outputs, library
        self._kept: list[np.ndarray] = []
        self._steps = (_Step * len(plan.steps))(*(self._struct(step) for step in plan.steps))
        self._network = _Network(T, len(plan.steps), outputs, plan.lanes, self._steps)
        sizes = (c_int32 * 4)()
        library.synaprune_sizes(sizes)
        assert list(sizes) == [ctypes.sizeof(struct) for struct in (_Step, _Network, _Call, _Barrier)]

    def run(
        self, memory: Memory, x: np.ndarray, steps: tuple[int, int], counts: np.ndarray, rank: int = 0, ranks: int = 1
    ) -> tuple[bool, np.ndarray]:
        """Run the samples of `x`, whose samples and time steps are `steps` values apart, into `counts` `[N, outputs]`.

        Each of several ranks makes this call, at the same time and with the same memory. Return whether the input
        was sound, and the spikes of each layer that were counted here.
        """
        spikes = np.zeros(len(self.plan.trains), np.uint64)
        call = _Call(x.ctypes.data, len(counts), *steps, counts.ctypes.data, spikes.ctypes.data, rank, ranks)
        wild = self._library.synaprune_run(ctypes.byref(self._network), c_void_p(memory.address), ctypes.byref(call))
        return not wild, spikes

    def trains(self, memory: Memory, T: int) -> list[np.ndarray]:
        """Return the spikes `[T, channels, height, width]` of each layer in the last sample that was run."""
        found = []
        for train in self.plan.trains:
            words = memory.words(train.offset, train.channels * train.stride * T).reshape(train.channels, -1, T)
            bits = np.unpackbits(
                np.ascontiguousarray(words.transpose(2, 0, 1)).view(np.uint8), axis=-1, bitorder="little"
            )
            found.append(bits[:, :, train.pixels()].reshape(T, train.channels, train.height, train.width))
        return found

    def _struct(self, step: Step) -> _Step:
        struct = _Step(kind=KINDS.index(step.kind), **step.numbers)
        for name, array in step.arrays.items():
            kept = np.ascontiguousarray(array, np.dtype(ARRAYS[name]))
            self._kept.append(kept)
            setattr(struct, name, kept.ctypes.data_as(POINTER(ARRAYS[name])))
        if step.neuron:
            struct.neuron = _neuron(step.neuron)
        return struct


def _neuron(neuron: Neuron) -> _Neuron:
    tau = np.float32(neuron.tau if neuron.tau is not None else 1)
    exact = bool(np.frexp(tau)[0] == 0.5)  # a power of two: its reciprocal gives the same as division
    reset = 0.0 if neuron.reset is None else neuron.reset
    return _Neuron(
        *(neuron.tau is not None, neuron.decay_input, neuron.reset is None, exact),
        *(1 / tau if exact else tau, neuron.threshold, reset),
    )
