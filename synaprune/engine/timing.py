"""Time the engine against PyTorch, side by side, and against what the processor could do.

Routines take turns, so that all of them see the same machine, with as many threads each. One sample is another one of
the samples at each call, the same for all.
"""

from __future__ import annotations

import copy
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ctypes import c_float, c_void_p
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synaprune.engine import build
from synaprune.engine.engine import Engine
from synaprune.engine.trains import LANES
from synaprune.measure import LayerOperations, operations

__all__ = ["ENGINE", "Comparison", "Measurement", "alternate", "ceiling", "compare", "measure", "rivals"]

ENGINE = "engine"
TURN = 2e-3  # seconds that a turn of the fastest routine takes at least
PATIENCE = 20.0  # seconds that all rounds of a comparison may take, if three fit in
ROUNDS = (3, 100)
BURST = 1 << 20  # additions of each lane in one go
BURSTS = 20
STEPS = 8  # vectors of 32 lanes that engine.c adds to, at most

Routine = Callable[[], object]


def alternate(routines: dict[str, Routine], repeats: int, before: int | None = None) -> dict[str, list[float]]:
    """Return the milliseconds of each routine in each of `repeats` rounds, in which they are called in turn.

    So many rounds go `before`, by default a tenth, at least three, in which states are made, caches fill and code is
    compiled.
    """
    times: dict[str, list[float]] = {name: [] for name in routines}
    for repeat in range(-(max(repeats // 10, 3) if before is None else before), repeats):
        for name, routine in routines.items():
            begin = time.perf_counter()
            routine()
            if repeat >= 0:
                times[name].append((time.perf_counter() - begin) * 1e3)
    return times


@dataclass(frozen=True)
class Comparison:
    """Calls with so many samples each: the milliseconds of one call in each round, of the engine and its rivals."""

    samples: int
    milliseconds: dict[str, list[float]]

    @property
    def rounds(self) -> int:
        """Return in how many rounds was measured."""
        return len(self.milliseconds[ENGINE])

    def median(self, name: str = ENGINE) -> float:
        """Return the milliseconds of the median call."""
        return statistics.median(self.milliseconds[name])

    def throughput(self, name: str = ENGINE) -> float:
        """Return samples per second, by the median."""
        return self.samples / self.median(name) * 1e3

    def ratio(self, name: str) -> float:
        """Return how many times as long as the engine a rival takes, of medians."""
        return self.median(name) / self.median()

    def to_mapping(self) -> dict[str, Any]:
        """Return the same as plain data, with medians, fastest calls and ratios."""
        found = {
            name: {
                "median_ms": self.median(name),
                "fastest_ms": min(times),
                "samples_per_second": self.throughput(name),
                "ratio_to_engine": self.ratio(name),
            }
            for name, times in self.milliseconds.items()
        }
        return {"samples": self.samples, "rounds": self.rounds, "times": found}


@dataclass(frozen=True)
class Measurement:
    """How fast a network runs, and what it has to do for a sample.

    Attributes:
        synapses, connectivity, time_steps: of the network.
        threads: of the engine and of each rival.
        comparisons: one sample at a time, and batches.
        operations: per sample, the mean over the samples shown.
        firing_rates: spikes per neuron per time step over the samples shown.
        ceiling: additions per second that the processor could do, see `ceiling`.
    """

    synapses: int
    connectivity: float
    time_steps: int
    threads: int
    comparisons: tuple[Comparison, ...]
    operations: LayerOperations
    firing_rates: dict[str, float]
    ceiling: float

    @property
    def work(self) -> float:
        """Return the synaptic operations of one sample: additions by spikes and products with analog input."""
        return self.operations.effective_acs + self.operations.effective_macs

    def speed(self, comparison: Comparison) -> float:
        """Return the engine's synaptic operations per second."""
        return self.work * comparison.throughput()

    def to_mapping(self) -> dict[str, Any]:
        """Return the same as plain data."""
        comparisons = [
            each.to_mapping()
            | {"operations_per_second": self.speed(each), "share_of_ceiling": self.speed(each) / self.ceiling}
            for each in self.comparisons
        ]
        own = {name: getattr(self, name) for name in ("synapses", "connectivity", "time_steps", "threads", "ceiling")}
        return own | {
            "comparisons": comparisons,
            "operations": asdict(self.operations),
            "firing_rates": self.firing_rates,
        }


def measure(engine: Engine, model: nn.Module, x: Tensor, repeats: int | None = None) -> Measurement:
    """Compare an engine with its model in PyTorch, on single samples of the batch `x` and on all of it.

    Args:
        engine: compiled, for static input.
        model: what the engine computes, in evaluation mode.
        x: `[N, *input_shape]`, float32.
        repeats: rounds; default: as many as fit into 20 seconds for each of the two, from 3 to 100.

    """
    most = ceiling(engine.threads)
    models = rivals(model)
    comparisons = tuple(compare(engine, models, x, samples, repeats) for samples in dict.fromkeys((1, len(x))))
    engine(x.numpy())
    network = engine.network
    return Measurement(
        network.synapses,
        network.connectivity,
        network.T,
        engine.threads,
        comparisons,
        operations(model, x).total,
        engine.firing_rates,
        most,
    )


def compare(
    engine: Engine, models: dict[str, nn.Module], x: Tensor, samples: int, repeats: int | None = None
) -> Comparison:
    """Time calls with so many samples of `x` each.

    A turn is as many calls as make two milliseconds for the fastest, the same number for all.
    """
    batches = x.split(samples)
    given: dict[str, tuple[Callable[[Any], object], list[Any]]] = {ENGINE: (engine, [b.numpy() for b in batches])}
    for name, model in models.items():
        kind = next((p.dtype for p in model.parameters()), x.dtype)
        given[name] = model, [batch.to(kind) for batch in batches]
    with _threads(engine.threads), torch.inference_mode():
        calls = max(_in_a_turn(_one_after_another(*pair)) for pair in given.values())
        turns = {name: _in_a_row(_one_after_another(*pair), calls) for name, pair in given.items()}
        once = sum(times[0] for times in alternate(turns, 1, before=0).values()) / 1e3
        rounds = repeats or max(ROUNDS[0], min(ROUNDS[1], int(PATIENCE / once)))
        times = alternate(turns, rounds, before=rounds // 10)
    return Comparison(samples, {name: [each / calls for each in found] for name, found in times.items()})


def rivals(model: nn.Module) -> dict[str, nn.Module]:
    """Return the model as PyTorch can run it: dense in two types, and in compressed rows if all layers are linear."""
    found = {"dense fp32": model, "dense bf16": copy.deepcopy(model).bfloat16()}
    if not any(isinstance(module, nn.modules.conv._ConvNd) for module in model.modules()):
        csr = copy.deepcopy(model)
        for parent in list(csr.modules()):
            for name, module in list(parent.named_children()):
                if isinstance(module, nn.Linear):
                    setattr(parent, name, _CSRLinear(module))
        found["CSR fp32"] = csr
    return found


def ceiling(threads: int = 1) -> float:
    """Return how many 32-bit floats all threads together can add in a second, of numbers in their registers.

    It is the fastest of twenty bursts of vector additions that depend on nothing but the sums before them, by the
    vectors that the engine itself uses. No kernel that fetches weights and spikes from memory can reach it.

    Raises:
        MachineError: there is no C compiler that works.

    """
    library = build.library(("-DSYNAPRUNE_CEILING",))

    def add(sums: np.ndarray) -> int:
        return library.synaprune_add(BURST, c_float(1), c_void_p(sums.ctypes.data))

    sums, fastest = np.zeros((threads, STEPS * LANES), np.float32), float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(BURSTS):
            begin = time.perf_counter()
            lanes = list(pool.map(add, sums))
            fastest = min(fastest, time.perf_counter() - begin)
    return sum(lanes) * BURST / fastest


class _CSRLinear(nn.Module):
    """A fully connected layer as PyTorch's compressed rows."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias
        with warnings.catch_warnings():  # it is in beta state, says PyTorch
            warnings.simplefilter("ignore", UserWarning)
            self.weight = linear.weight.detach().to_sparse_csr()

    def forward(self, x: Tensor) -> Tensor:
        """Return the currents of inputs `[..., in]`."""
        current = (self.weight @ x.flatten(0, -2).t()).t().unflatten(0, x.shape[:-1])
        return current if self.bias is None else current + self.bias


def _one_after_another(function: Callable[[Any], object], batches: list[Any]) -> Routine:
    """Return a routine that shows the next batch at each call."""
    order = cycle(batches)
    return lambda: function(next(order))


def _in_a_turn(routine: Routine) -> int:
    """Return how many calls in a row take as long as a turn is at least, once the caches are filled."""
    routine()
    end, calls = time.perf_counter() + TURN, 0
    while not calls or time.perf_counter() < end:
        routine()
        calls += 1
    return calls


def _in_a_row(routine: Routine, calls: int) -> Routine:
    def turn() -> None:
        for _ in range(calls):
            routine()

    return turn


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
