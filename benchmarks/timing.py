"""Time routines side by side, so that all of them see the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable


def alternate(routines: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the milliseconds of each routine in each of `repeats` rounds, in which they are called in turn.

    A tenth as many rounds go before, at least three, in which states are made, caches fill and code is compiled.
    """
    times: dict[str, list[float]] = {name: [] for name in routines}
    for repeat in range(-max(repeats // 10, 3), repeats):
        for name, routine in routines.items():
            begin = time.perf_counter()
            routine()
            if repeat >= 0:
                times[name].append((time.perf_counter() - begin) * 1e3)
    return times
