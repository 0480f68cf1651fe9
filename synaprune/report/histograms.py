"""Distributions of w and θ, read from the TensorBoard files of a run."""

from __future__ import annotations

from collections.abc import Container, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synaprune.files import readable

__all__ = ["Histogram", "Histograms", "chosen", "common", "read"]


class Histogram(NamedTuple):
    """Counts of values between `low` and `high`, in bins of equal width."""

    low: float
    high: float
    counts: NDArray[Any]


class Histograms:
    """The histograms of a run, followed while it trains: each call reads what the last one has not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[Path, tuple[Any, int]] = {}  # how each is read on, and how long it was
        self._names = ExitStack()  # what the loader may open them by
        self._found: dict[str, dict[int, Histogram]] = {}

    def follow(self, epochs: Container[int] | None = None) -> dict[str, dict[int, Histogram]]:
        """Return the histograms by tag (`w/<layer>`, `theta/<layer>`) and epoch; none where there is no file.

        A resumed run repeats epochs of earlier files, and the later file counts. What a kill has cut short is left
        out. With `epochs`, those of others are forgotten.
        """
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

        sizes = {path: path.stat().st_size for path in sorted(self._folder.glob("events.out.tfevents.*"))}
        if any(sizes.get(path, 0) < size for path, (_, size) in self._files.items()):  # one was replaced or is gone
            self._names.close()
            self._files, self._found = {}, {}
        for path, size in sizes.items():
            if path in self._files:
                loader = self._files[path][0]
            else:
                loader = RawEventFileLoader(self._names.enter_context(readable(path)))
            self._files[path] = loader, size
            for raw in loader.Load():
                self._take(raw, epochs)
        for by_epoch in self._found.values():
            for epoch in [epoch for epoch in by_epoch if epochs is not None and epoch not in epochs]:
                del by_epoch[epoch]
        return self._found

    def _take(self, raw: bytes, epochs: Container[int] | None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        event = Event.FromString(raw)
        if epochs is not None and event.step not in epochs:
            return
        for value in event.summary.value:
            histogram = value.histo
            if len(histogram.bucket) and histogram.min <= histogram.max:
                counts = np.asarray(histogram.bucket, dtype=np.float64)
                self._found.setdefault(value.tag, {})[event.step] = Histogram(histogram.min, histogram.max, counts)


def read(folder: Path) -> dict[str, dict[int, Histogram]]:
    """Return the histograms that a folder holds now, as `Histograms` does."""
    return Histograms(folder).follow()


def chosen(epochs: Sequence[int]) -> list[int]:
    """Return the epochs to show: the first, the last, and those nearest to a quarter and a half of the way.

    >>> chosen(range(1, 61)), chosen([1, 2]), chosen([])
    ([1, 16, 31, 60], [1, 2], [])
    """
    if not epochs:
        return []
    last = len(epochs) - 1
    return [epochs[index] for index in sorted({0, round(last / 4), round(last / 2), last})]


def common(histograms: Sequence[Histogram], bins: int = 60) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Return the edges of common bins, of which 0 is one, and for each histogram the share of its values in each.

    A bin that is cut is taken as evenly filled.

    >>> edges, shares = common([Histogram(0.0, 2.0, np.array([1.0, 3.0]))], bins=2)
    >>> edges.tolist(), shares[0].tolist()
    ([0.0, 1.0, 2.0], [0.25, 0.75])
    """
    low, high = min(0.0, *(h.low for h in histograms)), max(0.0, *(h.high for h in histograms))
    width = (high - low) / bins or 1.0
    first, last = int(np.floor(low / width + 1e-9)), int(np.ceil(high / width - 1e-9))
    edges = width * np.arange(first, max(last, first + 1) + 1)
    shares = []
    for h in histograms:
        if h.low == h.high:  # all values are the same
            cumulative = np.where(edges >= h.low, 1.0, 0.0)
            cumulative[0] = 0.0
        else:
            own = np.linspace(h.low, h.high, len(h.counts) + 1)
            total = np.concatenate([[0.0], np.cumsum(h.counts)])
            cumulative = np.interp(edges, own, total / total[-1])
        shares.append(np.diff(cumulative))
    return edges, shares
