"""A planned network in the form that engine.c takes, and calls into it."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int32, c_int64, c_uint32, c_void_p
from typing import Any

import numpy as np

from synaprune.engine.graph import Network
from synaprune.engine.layers import Neuron
from synaprune.engine.plan import KINDS, Plan, Step
from synaprune.errors import MachineError

__all__ = ["Core", "Memory", "Run"]


class _Neuron(ctypes.Structure):
    _fields_ = [(name, c_int32) for name in ("leaky", "decay_input", "soft", "by_product", "kept", "late")]
    _fields_ += [(name, c_float) for name in ("tau", "threshold", "reset")] + [("plain", c_int32)]


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
    _fields_ = [(name, c_int32) for name in ("kind", *NUMBERS)]
    _fields_ += [(name, c_int64) for name in PLACES]
    _fields_ += [(name, POINTER(kind)) for name, kind in ARRAYS.items()]
    _fields_ += [("neuron", _Neuron)]


class _Network(ctypes.Structure):
    _fields_ = [(name, c_int32) for name in ("T", "count", "lanes", "group")]
    _fields_ += [("unit", c_float), ("steps", POINTER(_Step))]


class _Call(ctypes.Structure):
    _fields_ = [("x", c_void_p), ("samples", c_int64), ("x_sample", c_int64), ("x_step", c_int64)]
    _fields_ += [("votes", c_void_p), ("spikes", c_void_p), ("rank", c_int32), ("ranks", c_int32)]


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

    def __init__(self, library: ctypes.CDLL, plan: Plan, network: Network) -> None:
        self.plan, self.library, self.T = plan, library, network.T
        self._kept: list[np.ndarray] = []
        self._steps = (_Step * len(plan.steps))(*(self._struct(step) for step in plan.steps))
        self.network = _Network(self.T, len(plan.steps), plan.lanes, network.group, network.unit, self._steps)
        sizes = (c_int32 * 4)()
        library.synaprune_sizes(sizes)
        assert list(sizes) == [ctypes.sizeof(struct) for struct in (_Step, _Network, _Call, _Barrier)]

    def trains(self, memory: Memory) -> list[np.ndarray]:
        """Return the spikes `[T, channels, height, width]` of each layer in the last sample that was run."""
        found = []
        for train in self.plan.trains:
            words = memory.words(train.offset, train.channels * train.stride * self.T).reshape(
                train.channels, -1, self.T
            )
            bits = np.unpackbits(
                np.ascontiguousarray(words.transpose(2, 0, 1)).view(np.uint8), axis=-1, bitorder="little"
            )
            found.append(bits[:, :, train.pixels()].reshape(self.T, train.channels, train.height, train.width))
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


class Run:
    """The calls of one thread, each with the same working memory.

    Args:
        core: what is run.
        memory: of this thread alone or, with several ranks, of all of them: then each makes each call.
        rank: which of the ranks this one is.
        ranks: how many there are.

    """

    def __init__(self, core: Core, memory: Memory, rank: int = 0, ranks: int = 1) -> None:
        self.core, self.memory = core, memory
        self.spikes = np.zeros(len(core.plan.trains), np.uint64)
        self._call = _Call(spikes=self.spikes.ctypes.data, rank=rank, ranks=ranks)
        self._arguments = (ctypes.byref(core.network), c_void_p(memory.address), ctypes.byref(self._call))
        self._run = core.library.synaprune_run

    def __call__(self, x: np.ndarray, steps: tuple[int, int], votes: np.ndarray) -> bool:
        """Run the samples of `x`, whose samples and time steps are `steps` values apart, into `votes` `[N, classes]`.

        Return whether the input was sound; `spikes` are then those of each layer that were counted here.
        """
        call = self._call
        call.x, call.votes, call.samples = _address(x), _address(votes), len(votes)
        call.x_sample, call.x_step = steps
        return not self._run(*self._arguments)


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]  # array.ctypes takes three times as long


def _neuron(neuron: Neuron) -> _Neuron:
    factor = neuron.rate if neuron.keep is None else neuron.keep
    tau = np.float32(neuron.tau if neuron.tau is not None else 1)
    if factor is None and np.frexp(tau)[0] == 0.5:  # a power of two: its reciprocal gives the same as division
        factor = float(1 / tau)
    reset = neuron.taken if neuron.reset is None else neuron.reset
    leaky, soft, by_product = (
        neuron.tau is not None or neuron.rate is not None,
        neuron.reset is None,
        factor is not None,
    )
    plain = leaky and by_product and neuron.decay_input and not soft and reset == 0
    flags = (leaky, neuron.decay_input, soft, by_product, neuron.keep is not None, neuron.late)
    return _Neuron(*flags, tau if factor is None else factor, neuron.threshold, reset, plain)
