"""The object that runs a network: checks inputs, shares samples among threads, reads out."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from importlib.util import find_spec
from math import prod
from typing import Any, NamedTuple

import numpy as np

from synaprune.engine import build
from synaprune.engine.core import Core, Memory, Run
from synaprune.engine.graph import Network
from synaprune.engine.layers import Flatten, Linear, Neuron, Shape, Vote
from synaprune.engine.plan import plan
from synaprune.engine.tail import read_out
from synaprune.errors import MachineError, UsageError

__all__ = ["Engine"]

log = logging.getLogger(__name__)

SIDE_BY_SIDE = 4  # from so many samples on, networks without convolutions run 32 at once


class _Runs(NamedTuple):
    """Samples side by side in one run; runs with a memory each, and runs that share one."""

    lanes: int
    apart: list[Run]
    together: list[Run]


class Engine:
    """Run a network, exactly and without PyTorch.

    Args:
        network: what to run.
        threads: how many work on a call, on different samples or, where those are too few, on different channels.
        backend: "c", "torch" or, by default, "c" where a C compiler works and else "torch", slowly, which is logged.

    Raises:
        MachineError: there is no C compiler that works for backend "c", or no torch for "torch", or neither of them.
        UsageError: the network is too large.

    """

    def __init__(self, network: Network, threads: int = 1, backend: str | None = None) -> None:
        if backend not in (None, "c", "torch"):
            raise UsageError(f"backend must be 'c' or 'torch', not {backend!r}")
        if type(threads) is not int or not 1 <= threads <= 1024:
            raise UsageError(f"threads must be a whole number from 1 to 1024, not {threads!r}")
        self.network, self.threads = network, threads
        self._last: tuple[list[np.ndarray], int] | None = None  # spikes, by thread and layer of neurons; samples
        self._lock = threading.Lock()
        self._shapes = dict(zip(map(id, network.layers), network.shapes()))
        self._neurons = [layer for layer in network.layers if isinstance(layer, Neuron)]
        self._classes = network.counted
        self._counted = list(network.shapes())[len(network.spiking) - 1]
        self._axis = int(network.coding == "spikes")  # of the samples in the input
        self._size = prod(network.input_shape)
        self._known: set[Shape] = set()  # shapes of analog samples that were found to fit
        self._library = None
        if backend != "torch":
            try:
                self._library = build.library()
            except MachineError as error:
                if backend == "c":
                    raise
                if find_spec("torch") is None:
                    raise MachineError(f"{error}; or install torch, in which networks run slowly") from error
                log.warning("%s; until then the network runs in PyTorch, which multiplies all its zeros", error)
        elif find_spec("torch") is None:
            raise MachineError("backend 'torch' needs torch, which is not installed here; install it, or take 'c'")
        self.backend = "torch" if self._library is None else "c"
        if self._library is not None:
            self._single = self._runs(lanes=False)

    def __call__(self, x: Any) -> np.ndarray:
        """Show the samples `x`, `[N, *input_shape]` or trains `[T, N, *input_shape]`, to neurons at rest.

        Return float32 `[N, classes]`: spikes per time step ("rate") or spikes ("count"), the mean over voters; or the
        mean or sum over all time steps of what a last average, `Linear` or `Conv` makes of them.

        Raises:
            UsageError: `x` has another shape or type, or holds NaN, infinity or, in trains, other values than 0, 1.

        """
        x = self._checked(x)
        samples = x.shape[self._axis]
        votes = np.empty((samples, self._classes), np.float32)
        with self._lock:
            spikes = (self._run_torch if self._library is None else self._run)(x, votes)
            self._last = spikes, samples
        return self._read_out(votes) if self.network.tail else votes

    def _read_out(self, counts: np.ndarray) -> np.ndarray:
        """Return what leaves the tail, `[N, classes]`, for the spikes that its inputs have counted."""
        counts = counts.reshape(-1, *self._counted)
        values = read_out(self.network.tail, counts, self.network.T).reshape(len(counts), self.network.outputs)
        with np.errstate(over="ignore"):
            return (values / (self.network.T if self.network.readout == "rate" else 1)).astype(np.float32)

    @property
    def spikes(self) -> dict[str, int]:
        """Return how many spikes each layer of neurons sent in the last call, over all samples and time steps."""
        return dict(zip(self._names(), self._recorded()[0]))

    @property
    def firing_rates(self) -> dict[str, float]:
        """Return the spikes per neuron per time step of each layer of neurons in the last call."""
        spikes, samples = self._recorded()
        sizes = [prod(self._shapes[id(neuron)]) for neuron in self._neurons]
        rates = [n / max(1, size * samples * self.network.T) for n, size in zip(spikes, sizes)]
        return dict(zip(self._names(), rates))

    def trains(self, x: Any) -> list[np.ndarray]:
        """Return the spikes `[T, N, *shape]` of each layer of neurons, bool, to look at single ones."""
        if self._library is None:
            raise UsageError(
                "trains can be looked at where the engine is compiled; synaprune.engine.reference has them too"
            )
        x = self._checked(x)
        run, found, votes = self._single.apart[0], [], np.empty((1, self._classes), np.float32)
        for n in range(x.shape[self._axis]):
            with self._lock:
                if not run(x.take([n], self._axis), (self._size, self._size), votes):
                    raise self._refuse()
                found.append([train.copy() for train in run.core.trains(run.memory)])
        shapes = [self._shapes[id(neuron)] for neuron in self._neurons]
        return [np.stack(layer, 1).reshape(self.network.T, -1, *shape) > 0 for layer, shape in zip(zip(*found), shapes)]

    def _names(self) -> list[str]:
        """Name each layer of neurons; where several have the same name, or none, by its place."""
        names = [neuron.name or str(self.network.layers.index(neuron)) for neuron in self._neurons]
        return names if len(set(names)) == len(names) else [f"{i}:{name}" for i, name in enumerate(names)]

    def _recorded(self) -> tuple[list[int], int]:
        if self._last is None:
            raise UsageError("no spikes were counted yet: call the engine first")
        parts, samples = self._last
        return [sum(map(int, layer)) for layer in zip(*parts)], samples

    def _checked(self, x: Any) -> np.ndarray:
        """Return the input as contiguous float32 or, for trains, uint8."""
        trains = self._axis
        shape = self.network.input_shape
        if type(x) is np.ndarray and x.dtype == np.float32 and x.shape[1:] in self._known:
            flags = x.flags
            if flags.c_contiguous and flags.aligned:
                return x  # the common case, for which microseconds count
        x = _array(x)
        free = isinstance(self.network.layers[0], Flatten) and x.ndim > 1 + trains
        fits = x.shape[1 + trains :] == shape
        if not fits and not (free and prod(x.shape[1 + trains :]) == self._size):
            wanted = ", ".join(map(str, [*(["T"] if trains else []), "N", *shape]))
            raise UsageError(f"the input must have the shape [{wanted}], not {list(x.shape)}")
        if trains and len(x) != self.network.T:
            raise UsageError(f"the input must have T = {self.network.T} time steps, not {len(x)}")
        if not trains:
            self._known.add(x.shape[1:])
            with np.errstate(over="ignore"):  # what becomes infinite is refused later
                return np.require(x, np.float32, ["C", "ALIGNED"])
        with np.errstate(invalid="ignore"):
            spikes = np.ascontiguousarray(x.astype(np.uint8))
        if not (spikes == x).all():
            raise self._refuse()
        return spikes

    def _refuse(self) -> UsageError:
        if self.network.coding == "spikes":
            return UsageError("the input holds other values than 0 and 1; this network takes spike trains")
        return UsageError("the input holds NaN or infinity; clean it before it is shown to the network")

    def _runs(self, lanes: bool) -> _Runs:
        assert self._library is not None
        layout = plan(self.network, self.threads, lanes)
        core = Core(self._library, layout, self.network)
        first = Memory(layout.memory)
        apart = [Run(core, Memory(layout.memory) if n else first) for n in range(self.threads)]
        return _Runs(layout.lanes, apart, [Run(core, first, n, self.threads) for n in range(self.threads)])

    @cached_property
    def _side_by_side(self) -> _Runs | None:
        flat = all(isinstance(layer, Linear | Neuron | Flatten | Vote) for layer in self.network.spiking)
        return self._runs(lanes=True) if flat else None

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads - 1, thread_name_prefix="synaprune")

    def _run(self, x: np.ndarray, votes: np.ndarray) -> list[np.ndarray]:
        """Run all samples on all threads: different samples on each, or ranks of one run where those are too few."""
        samples = len(votes)
        runs = (samples >= SIDE_BY_SIDE and self._side_by_side) or self._single
        steps = (self._size, self._size * samples)
        if self.threads == 1:
            working, sound = runs.apart, runs.apart[0](x, steps, votes)
        else:
            blocks = -(-samples // runs.lanes)
            apart = blocks >= self.threads
            working, jobs = runs.apart if apart else runs.together, []
            for n, run in enumerate(working):
                a, b = (min(samples, blocks * i // self.threads * runs.lanes) for i in (n, n + 1))
                a, b = (a, b) if apart else (0, samples)
                jobs.append(partial(run, x[:, a:b] if self._axis else x[a:b], steps, votes[a:b]))
            others = [self._pool.submit(job) for job in jobs[1:]]
            sound = all([jobs[0](), *(other.result() for other in others)])
        if not sound:
            raise self._refuse()
        return [run.spikes for run in working]

    def _run_torch(self, x: np.ndarray, votes: np.ndarray) -> list[np.ndarray]:
        from synaprune.engine import fallback

        if (self.network.coding == "spikes" and (x > 1).any()) or not np.isfinite(x).all():
            raise self._refuse()
        spikes, counts = fallback.run(self.network, x)
        votes[:] = counts.reshape(*votes.shape, self.network.group).sum(2) / np.float32(self.network.unit)
        return [spikes]


def _array(x: Any) -> np.ndarray:
    """Return an array, a tensor of any type, or a list, as numbers that NumPy knows.

    Raises:
        UsageError: it holds something else.

    """
    try:
        if hasattr(x, "detach"):  # PyTorch need not be there
            x = x.detach()
            x = x.to_dense() if str(x.layout) != "torch.strided" else x
            small = x.is_floating_point() and x.element_size() < 4  # of which NumPy does not know all
            x = (x.float() if small else x).cpu().resolve_neg().numpy()
        x = np.asarray(x)
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        cause = str(error).partition("\n")[0]
        raise UsageError(f"the input must be an array of numbers, but {type(x).__name__} is none: {cause}") from error
    if x.dtype.kind not in "biuf":
        raise UsageError(f"the input must be an array of numbers, not of {x.dtype}")
    return x
